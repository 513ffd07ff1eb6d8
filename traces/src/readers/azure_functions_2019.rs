//! Azure Functions trace of 2019: one row a function, `HashOwner,HashApp,HashFunction,Trigger`, then one column a
//! minute (any run of minute numbers: 1..1440, 480..959), holding invocations.
//!
//! The sparse counts are held; invocations are placed minute by minute. The earliest minute column is time 0. The
//! trigger is left out. With a durations file (`HashFunction`, `Average` in ms) each invocation lasts its function's
//! average; a function without a row there gets 0.

use super::names::Names;
use super::rows::{Fault, InColumn};
use super::table::{Header, Splitter};
use crate::fields::{parse_decimal, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::placement::{Counts, Placer};
use crate::record::{Catalog, Item, Record, Refusal, TraceError, TraceStream};
use crate::rng::Stream;
use std::collections::HashMap;
use std::path::Path;

struct AzureFunctions2019 {
    lines: Lines,
    header: Header,
    owner: Option<usize>,
    function: usize,
    /// Column and minute from 0, in column order.
    minutes: Vec<(usize, u32)>,
    minute_count: u32,
    splitter: Splitter,
    names: Names,
    catalog: Catalog,
    base_model: String,
    /// Average by function, ns; looked up only.
    durations_ns: HashMap<Vec<u8>, u64>,
    rotate: Option<Stream>,
    divide: u32,
    divide_rng: Stream,
    /// Catalog index and duration by row.
    rows: Vec<(u32, u64)>,
    row_counts: Vec<(u32, u32)>,
    counts: Counts,
    rows_in: u64,
    state: State,
    notes: Vec<String>,
    warnings: Vec<String>,
    options: OpenOptions,
}

enum State {
    Reading,
    Placing(Box<Placer>),
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let function = header.need("HashFunction", &lines)?;
    let numbered = |(i, name): (usize, &String)| name.parse::<u32>().ok().map(|minute| (i, minute));
    let mut minutes: Vec<_> = header.names.iter().enumerate().filter_map(numbered).collect();
    let first = minutes.iter().map(|m| m.1).min();
    let first = first.ok_or_else(|| {
        lines.unread();
        lines.fault(
            "the header has no minute columns (1, 2, ...); is this the durations or memory file?".into(),
        )
    })?;
    minutes.iter_mut().for_each(|m| m.1 -= first);
    let minute_count = minutes.iter().map(|m| m.1).max().unwrap_or(0) + 1;
    // A year of minutes, against a header such as `1,4000000000`.
    if minute_count > 527_040 {
        lines.unread();
        return Err(lines.fault("the minute columns span more than a year".into()));
    }
    let durations_ns = options.durations.as_deref().map(read_durations).transpose()?.unwrap_or_default();
    let mut known = vec!["HashOwner", "HashApp", "HashFunction", "Trigger"];
    known.extend(minutes.iter().map(|&(i, _)| header.names[i].as_str()));
    let warnings = header.unknown(&known).into_iter().collect();
    let mut notes = lines.comments.clone();
    notes.push(format!("placement in the minute: {}, seed {}", options.placement.name(), options.seed));
    if options.rotate {
        notes.push(format!(
            "rows rotated by seeded offsets over {minute_count} minutes, seed {}",
            options.seed
        ));
    }
    if options.divide > 1 {
        notes.push(format!("counts divided by {}, remainders drawn, seed {}", options.divide, options.seed));
    }
    Ok(Box::new(AzureFunctions2019 {
        owner: header.find("HashOwner"),
        lines,
        header,
        function,
        minutes,
        minute_count,
        splitter: Splitter::default(),
        names: Names::default(),
        catalog: Catalog::new(),
        base_model: options.base_model.clone(),
        durations_ns,
        rotate: options.rotate.then(|| Stream::new(options.seed, "azure-2019-rotate")),
        divide: options.divide,
        divide_rng: Stream::new(options.seed, "azure-2019-divide"),
        rows: vec![],
        row_counts: vec![],
        counts: Counts::default(),
        rows_in: 0,
        state: State::Reading,
        notes,
        warnings,
        options: options.clone(),
    }))
}

/// Averages by function. Only this side file is held; a bad row ends the reading, because it is no trace row.
fn read_durations(path: &Path) -> Result<HashMap<Vec<u8>, u64>, TraceError> {
    let mut lines = Lines::open(path)?;
    let header = Header::read(&mut lines)?;
    let (function, average) = (header.need("HashFunction", &lines)?, header.need("Average", &lines)?);
    let mut splitter = Splitter::default();
    let mut durations = HashMap::new();
    loop {
        let Some(line) = lines.next_line()? else { return Ok(durations) };
        if line.is_empty() {
            continue;
        }
        let parsed = splitter.split_as(line, &header).and_then(|row| {
            let ns = parse_decimal(row.get(average), 6).column("Average")?;
            durations.insert(row.get(function).to_vec(), ns);
            Ok(())
        });
        if let Err(fault) = parsed {
            lines.unread();
            return Err(lines.fault(format!("{} {}", fault.column, fault.reason)));
        }
    }
}

impl AzureFunctions2019 {
    /// Reads one row of counts into the matrix; nothing of a refused row stays.
    fn take(&mut self) -> Result<Option<Result<(), Fault>>, TraceError> {
        let Some(line) = self.lines.next_line()? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(Ok(())));
        }
        self.rows_in += 1;
        let row = match self.splitter.split_as(line, &self.header) {
            Ok(row) => row,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        self.row_counts.clear();
        for &(column, minute) in &self.minutes {
            let text = row.get(column);
            if text == b"0" {
                continue;
            }
            match parse_u32(text) {
                Ok(count) => self.row_counts.push((minute, count)),
                Err(reason) => return Ok(Some(Err(Fault::at(self.header.names[column].clone(), reason)))),
            }
        }
        let owner = self.owner.map_or(&b""[..], |i| row.get(i));
        let name = row.get(self.function);
        let identity = [name, b"", self.base_model.as_bytes(), owner];
        let index = match self.names.function(identity, &mut self.catalog) {
            Ok(index) => index,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        let duration_ns = self.durations_ns.get(name).copied().unwrap_or(0);
        let turn = self.rotate.as_mut().map_or(0, |rng| rng.below(u64::from(self.minute_count)) as u32);
        let at = self.rows.len() as u32;
        self.rows.push((index, duration_ns));
        for &(minute, count) in &self.row_counts {
            let rest = count % self.divide;
            let extra = rest > 0 && self.divide_rng.below(u64::from(self.divide)) < u64::from(rest);
            let minute = (minute + turn) % self.minute_count;
            self.counts.add(minute as usize, at, count / self.divide + u32::from(extra));
        }
        Ok(Some(Ok(())))
    }
}

impl TraceStream for AzureFunctions2019 {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            if let State::Placing(placer) = &mut self.state {
                let Some((arrival_ns, row)) = placer.next_arrival() else { return Ok(None) };
                let (function, duration_ns) = self.rows[row as usize];
                return Ok(Some(Item::Record(Record {
                    arrival_ns,
                    function,
                    duration_ns,
                    ..Record::default()
                })));
            }
            match self.take()? {
                Some(Ok(())) => {}
                Some(Err(fault)) => {
                    return Ok(Some(Item::Refused(Refusal {
                        file: self.lines.file().to_owned(),
                        line: self.lines.line(),
                        column: fault.column.into_owned(),
                        reason: fault.reason,
                    })));
                }
                None => {
                    let rng = Stream::new(self.options.seed, "azure-2019-placement");
                    let counts = std::mem::take(&mut self.counts);
                    self.state = State::Placing(Box::new(Placer::new(counts, self.options.placement, rng)?));
                }
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.rows_in
    }

    fn progress(&self) -> Option<f64> {
        // Reading counts as a tenth; most of the time goes into the invocations.
        Some(match &self.state {
            State::Reading => self.lines.progress()? * 0.1,
            State::Placing(placer) => 0.1 + 0.9 * placer.progress(),
        })
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
