//! ServeGen client tables: a generator, not a trace. `<model>.rates.csv` has per client and 600-s window rate, CoV and
//! law; `<model>.lengths.csv` per client and 6-h window token quantiles.
//!
//! Each client becomes a function that runs a renewal process with the window's rate, CoV and law (Gamma or Weibull),
//! fresh and in equilibrium in each window. Prompt and output lengths are drawn independently by interpolating the
//! quantiles; a client without lengths borrows those of a seeded other one. `p1`, `p2` (fits over gaps that ignore
//! the window's idle ends, so their mean contradicts the rate) and `reason_ratio` are left out.

use super::rows::{Fault, InColumn};
use super::table::{Header, Row, Splitter};
use crate::fields::{parse_u32, parse_u64};
use crate::generate::arrivals::{Gaps, seconds_to_ns};
use crate::generate::merge::{Merge, Source};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, FunctionInfo, Item, Record, Refusal, TraceError, TraceStream};
use crate::rng::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const WINDOW_S: u64 = 600;
const PERCENTS: [&str; 21] = [
    "q0", "q0.1", "q1", "q2.5", "q5", "q10", "q20", "q25", "q30", "q40", "q50", "q60", "q70", "q75", "q80",
    "q90", "q95", "q97.5", "q99", "q99.9", "q100",
];
const SHARES: [f64; 21] = [
    0.0, 0.001, 0.01, 0.025, 0.05, 0.10, 0.20, 0.25, 0.30, 0.40, 0.50, 0.60, 0.70, 0.75, 0.80, 0.90, 0.95,
    0.975, 0.99, 0.999, 1.0,
];

#[derive(Clone, Copy)]
struct Window {
    start_s: u64,
    rate_rps: f64,
    cov: f64,
    weibull: bool,
}

type Quantiles = [f32; 21];

/// Length quantiles of one client: by window start, prompt and output.
#[derive(Default)]
struct ClientLengths {
    prompt: BTreeMap<u64, Quantiles>,
    output: BTreeMap<u64, Quantiles>,
}

/// A finite, non-negative float of a statistics table; Rust's parser is exact and the same everywhere.
fn number(row: &Row<'_>, at: usize, column: &'static str) -> Result<f64, Fault> {
    let text = std::str::from_utf8(row.get(at)).unwrap_or("");
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(Fault::at(column, format!("is `{text}`; expected a number of at least 0"))),
    }
}

/// Reads a table row by row; refused rows are collected.
fn table(
    lines: &mut Lines,
    columns: &[&'static str],
    refused: &mut VecDeque<Refusal>,
    mut take: impl FnMut(&Row<'_>, &[usize]) -> Result<(), Fault>,
) -> Result<u64, TraceError> {
    let header = Header::read(lines)?;
    let at: Vec<usize> = columns.iter().map(|c| header.need(c, lines)).collect::<Result<_, _>>()?;
    let mut splitter = Splitter::default();
    let (mut rows, file) = (0, lines.file().to_owned());
    loop {
        let line = lines.line() + 1;
        let Some(text) = lines.next_line()? else { return Ok(rows) };
        if text.is_empty() {
            continue;
        }
        rows += 1;
        if let Err(f) = splitter.split_as(text, &header).and_then(|row| take(&row, &at)) {
            refused.push_back(Refusal {
                file: file.clone(),
                line,
                column: f.column.into_owned(),
                reason: f.reason,
            });
        }
    }
}

fn read_rates(
    lines: &mut Lines,
    span_s: (u64, u64),
    refused: &mut VecDeque<Refusal>,
) -> Result<(u64, BTreeMap<u32, Vec<Window>>), TraceError> {
    let mut clients: BTreeMap<u32, Vec<Window>> = BTreeMap::new();
    let rows = table(lines, &["client", "t_s", "rate_rps", "cv", "dist"], refused, |row, at| {
        let client = parse_u32(row.get(at[0])).column("client")?;
        let start_s = parse_u64(row.get(at[1])).column("t_s")?;
        let (rate_rps, cov) = (number(row, at[2], "rate_rps")?, number(row, at[3], "cv")?);
        // 10^6/s and CoV 0.05..100 bound the work and stay clear of degenerate laws; the data lie within.
        if rate_rps > 1e6 || start_s > 10_000_000_000 {
            return Err(Fault::row("lies beyond 10^6 requests/s or 10^10 s"));
        }
        let weibull = match row.get(at[4]) {
            b"Gamma" => false,
            b"Weibull" => true,
            _ => return Err(Fault::at("dist", "is neither Gamma nor Weibull")),
        };
        let windows = clients.entry(client).or_default();
        if windows.last().is_some_and(|last| start_s < last.start_s + WINDOW_S) {
            return Err(Fault::at("t_s", "is unsorted: windows of a client must ascend by 600 s"));
        }
        if rate_rps > 0.0 && (span_s.0..span_s.1).contains(&start_s) {
            windows.push(Window {
                start_s: start_s - span_s.0,
                rate_rps,
                cov: cov.clamp(0.05, 100.0),
                weibull,
            });
        }
        Ok(())
    })?;
    Ok((rows, clients))
}

fn read_lengths(
    path: &Path,
    refused: &mut VecDeque<Refusal>,
) -> Result<(u64, BTreeMap<u32, Arc<ClientLengths>>), TraceError> {
    let mut columns = vec!["client", "t_s", "field"];
    columns.extend(PERCENTS);
    let mut clients: BTreeMap<u32, ClientLengths> = BTreeMap::new();
    let rows = table(&mut Lines::open(path)?, &columns, refused, |row, at| {
        let client = parse_u32(row.get(at[0])).column("client")?;
        let start_s = parse_u64(row.get(at[1])).column("t_s")?;
        let mut quantiles = [0.0f32; 21];
        for (i, quantile) in quantiles.iter_mut().enumerate() {
            *quantile = number(row, at[3 + i], PERCENTS[i])? as f32;
        }
        let lengths = clients.entry(client).or_default();
        match row.get(at[2]) {
            b"input_tokens" => lengths.prompt.insert(start_s, quantiles),
            b"output_tokens" => lengths.output.insert(start_s, quantiles),
            _ => None,
        };
        Ok(())
    })?;
    let whole = |c: &ClientLengths| !c.prompt.is_empty() && !c.output.is_empty();
    Ok((rows, clients.into_iter().filter(|(_, c)| whole(c)).map(|(id, c)| (id, Arc::new(c))).collect()))
}

/// `x.rates.csv.gz` → `x.lengths.csv.gz`.
fn lengths_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    name.contains(".rates.").then(|| path.with_file_name(name.replace(".rates.", ".lengths.")))
}

fn draw_tokens(by_window: &BTreeMap<u64, Quantiles>, at_s: u64, rng: &mut Stream) -> u32 {
    // The window that holds the time, else the nearest before, else the first.
    let entry = by_window.range(..=at_s).next_back().or_else(|| by_window.iter().next());
    let quantiles = entry.expect("lengths have a window").1;
    let u = rng.unit();
    let upper = SHARES.iter().position(|s| *s > u).unwrap_or(20);
    let (a, b) = (f64::from(quantiles[upper - 1]), f64::from(quantiles[upper]));
    let part = (u - SHARES[upper - 1]) / (SHARES[upper] - SHARES[upper - 1]);
    // `as` saturates; halves round up.
    (a + (b - a) * part + 0.5) as u32
}

struct Client {
    function: u32,
    windows: std::vec::IntoIter<Window>,
    lengths: Option<Arc<ClientLengths>>,
    /// Offset of the span, to find the length window.
    offset_s: u64,
    rng: Stream,
    length_rng: Stream,
    current: Option<(u64, Gaps, f64)>,
}

impl Client {
    fn next_ns(&mut self) -> Option<u64> {
        loop {
            if let Some((start_s, gaps, at_s)) = &mut self.current
                && *at_s < WINDOW_S as f64
            {
                let now = start_s.saturating_mul(1_000_000_000) + seconds_to_ns(*at_s);
                *at_s += gaps.draw(&mut self.rng);
                return Some(now);
            }
            let window = self.windows.next()?;
            let law = if window.weibull { Gaps::weibull } else { Gaps::gamma };
            let gaps = law(window.rate_rps, window.cov);
            self.current = Some((window.start_s, gaps, gaps.draw_first(&mut self.rng)));
        }
    }
}

impl Source for Client {
    fn next_record(&mut self) -> Option<Record> {
        let arrival_ns = self.next_ns()?;
        let at_s = self.offset_s + arrival_ns / 1_000_000_000;
        let rng = &mut self.length_rng;
        let (prompt_tokens, output_tokens) = self.lengths.as_ref().map_or((0, 0), |lengths| {
            (draw_tokens(&lengths.prompt, at_s, rng), draw_tokens(&lengths.output, at_s, rng))
        });
        Some(Record {
            arrival_ns,
            function: self.function,
            prompt_tokens,
            output_tokens,
            ..Record::default()
        })
    }
}

/// Refused table rows first, then the generated records.
struct ServeGen {
    refused: VecDeque<Refusal>,
    merge: Merge<Client>,
}

/// Opens a rates file, with its lengths, as a stream of generated requests.
pub fn open(
    mut lines: Lines,
    path: &Path,
    options: &OpenOptions,
) -> Result<Box<dyn TraceStream>, TraceError> {
    let span_s = options.window_s.unwrap_or((0, u64::MAX));
    let mut refused = VecDeque::new();
    let (mut rows, rates) = read_rates(&mut lines, span_s, &mut refused)?;
    let beside = options.lengths.clone().or_else(|| lengths_beside(path).filter(|p| p.exists()));
    let mut warnings = vec![];
    let lengths = match &beside {
        Some(path) => {
            let (more, lengths) = read_lengths(path, &mut refused)?;
            rows += more;
            lengths
        }
        None => BTreeMap::new(),
    };
    if lengths.is_empty() {
        warnings
            .push("no lengths file (x.lengths.csv beside x.rates.csv): all requests have 0 tokens".into());
    }
    let lenders: Vec<_> = lengths.values().cloned().collect();
    let mut catalog = Catalog::new();
    let mut end_s = 0;
    let mut borrowed = 0;
    let mut clients = vec![];
    for (id, windows) in rates.into_iter().filter(|(_, w)| !w.is_empty()) {
        let name = format!("client-{id:04}");
        let adapter = if options.base_model.is_empty() { String::new() } else { name.clone() };
        let info =
            FunctionInfo { tenant: name.clone(), adapter, base_model: options.base_model.clone(), name };
        let own = lengths.get(&id).cloned();
        borrowed += usize::from(own.is_none() && !lenders.is_empty());
        let borrow = || {
            let pick =
                Stream::new(options.seed, &format!("servegen-borrow-{id}")).below(lenders.len() as u64);
            lenders.get(pick as usize).cloned()
        };
        end_s = end_s.max(windows.last().map_or(0, |w| w.start_s + WINDOW_S));
        clients.push(Client {
            function: catalog.intern(info),
            windows: windows.into_iter(),
            lengths: own.or_else(borrow),
            offset_s: span_s.0,
            rng: Stream::new(options.seed, &format!("servegen-arrivals-{id}")),
            length_rng: Stream::new(options.seed, &format!("servegen-lengths-{id}")),
            current: None,
        });
    }
    let notes = vec![format!(
        "servegen: {} clients, renewal per 600-s window, lengths by quantile interpolation, {borrowed} clients with \
         another's lengths, seed {}",
        clients.len(),
        options.seed
    )];
    let merge =
        Merge::new(clients, catalog, end_s.saturating_mul(1_000_000_000)).told(notes, warnings).rows(rows);
    Ok(Box::new(ServeGen { refused, merge }))
}

impl TraceStream for ServeGen {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        match self.refused.pop_front() {
            Some(refusal) => Ok(Some(Item::Refused(refusal))),
            None => self.merge.next_item(),
        }
    }

    fn catalog(&self) -> &Catalog {
        self.merge.catalog()
    }

    fn rows_in(&self) -> u64 {
        self.merge.rows_in()
    }

    fn progress(&self) -> Option<f64> {
        self.merge.progress()
    }

    fn notes(&self) -> Vec<String> {
        self.merge.notes()
    }

    fn warnings(&self) -> Vec<String> {
        self.merge.warnings()
    }
}
