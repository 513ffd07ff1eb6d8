//! From measured points to the simulator's constants.
//!
//! The formulas are those of [`crate::engine`]: a constant of host work per step, prefill `a + b·T + c·T²`, decode
//! `a + b·B + c·K`, and what adapters add. What the engine does for each sequence outside the executor (sampling) is
//! counted as decode work, since it grows with the batch. Mixed steps are predicted, not fitted: their error shows how
//! well the composition holds. Where steps of a server's streams were measured, `a` and `b` of decode are theirs: each stream
//! had an adapter, so what adapters add to decode rows is in them, and what they add to tokens is that of prompts. Each number of
//! streams measured is in the profile; the line is told with its error, and goes on behind the most.

use super::CalibrateError;
use super::fit::{Errors, Fit, Row, fit};
use super::measured::{AdapterLoad, Files, FirstPoint, Measured, ServedLoad, ServingPoint, StepPoint};
use crate::profile::{Edge, RowTimes};

/// A fit in words, with its errors.
#[derive(Clone, Debug, PartialEq)]
pub struct FitNote {
    /// What was fitted.
    pub what: &'static str,
    /// The formula.
    pub formula: &'static str,
    /// How well.
    pub errors: Errors,
}

/// Constants of the profile, picoseconds unless named otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// Host work per step.
    pub host_ps: u64,
    /// Shortest prefill.
    pub prefill_floor_ps: u64,
    /// Prefill: constant, per token, per token squared.
    pub prefill_ps: [u64; 3],
    /// Decode: constant, per sequence, per cached token.
    pub decode_ps: [u64; 3],
    /// Decode by sequences, where steps of a server's streams were measured: as they were, without cached tokens and adapters.
    pub decode_rows_ps: RowTimes,
    /// Adapters: per layer and step.
    pub adapter_layer_ps: u64,
    /// Adapters: per token.
    pub adapter_token_ps: u64,
    /// Bytes of an adapter per unit of rank.
    pub adapter_bytes_per_rank: u64,
    /// The load that stands for all adapters.
    pub adapter: AdapterLoad,
    /// An adapter from disk: constant, ns; and ns a byte in memory. Where an idle server was seen to take longer than a
    /// program that loads one again and again, both are its.
    pub adapter_disk: [f64; 2],
    /// How much longer that takes while the engine steps: 1 where nothing tells.
    pub adapter_busy: f64,
    /// A request's way beside the engine, where it was measured.
    pub edge: Option<Edge>,
    /// Extra of the first step after a backbone's load, ns.
    pub first_step_ns: u64,
    /// Fits and their errors.
    pub fits: Vec<FitNote>,
    memory_bytes_per_s: u64,
    prefill: Fit<3>,
    decode: Fit<3>,
    adapters: Fit<2>,
}

const PS_PER_NS: f64 = 1000.0;

/// Fits everything.
pub fn derive(measured: &Measured) -> Result<Derived, CalibrateError> {
    let host = host_ns(&measured.steps);
    let time = |p: &StepPoint| (p.device_ns + p.host_ns) as f64 - host;
    let of = |wanted: fn(&StepPoint) -> bool| measured.steps.iter().filter(move |p| wanted(p));
    let prompts: Vec<&StepPoint> = of(|p| p.rows == 0 && p.adapters == 0).collect();
    let rows: Vec<&StepPoint> = of(|p| p.prompt == 0 && p.adapters == 0).collect();
    enough("prefill", prompts.len())?;
    enough("decode", rows.len())?;
    let prefill = fit(&equations(&prompts, |p| [1.0, p.prompt as f64, (p.prompt * p.prompt) as f64], time));
    let decode = fit(&equations(&rows, |p| [1.0, p.rows as f64, p.cached as f64], time));
    // No prompt is shorter than a step of one sequence; the end of one, some tokens beside others, comes near.
    let least = prompts.iter().chain(rows.iter().filter(|p| p.rows == 1));
    let floor = least.map(|p| time(p)).fold(f64::INFINITY, f64::min);
    let ps = |ns: f64| (ns.max(0.0) * PS_PER_NS).round() as u64;
    let mut derived = Derived {
        host_ps: ps(host),
        prefill_floor_ps: ps(floor).max(1),
        prefill_ps: prefill.k.map(ps),
        decode_ps: decode.k.map(ps),
        decode_rows_ps: RowTimes::default(),
        adapter_layer_ps: 0,
        adapter_token_ps: 0,
        adapter_bytes_per_rank: bytes_per_rank(&measured.adapters),
        adapter: nearest(&measured.adapters, measured.rank),
        adapter_disk: [0.0; 2],
        adapter_busy: busy(&measured.served_loads),
        edge: None,
        first_step_ns: measured.backbone.first_step_ns.saturating_sub(measured.backbone.usual_step_ns),
        fits: vec![
            FitNote { what: "prefill", formula: "a + b·T + c·T²", errors: prefill.errors },
            FitNote { what: "decode", formula: "a + b·B + c·K", errors: decode.errors },
        ],
        memory_bytes_per_s: measured.bandwidths.memory_contended.max(1),
        prefill,
        decode,
        adapters: Fit { k: [0.0; 2], errors: Errors::default() },
    };
    derived.decode_ps[0] = derived.decode_ps[0].max(1);
    derived.with_adapters(measured, host);
    derived.loads(measured);
    derived.mixed(measured, host);
    derived.served(measured, host);
    derived.edge(measured, host);
    Ok(derived)
}

impl Derived {
    /// A step's time by the formulas, host work left out, ns.
    pub fn predict_ns(&self, p: &StepPoint) -> f64 {
        self.bare_ns(p) + if p.adapters > 0 { self.adapters_ns(p) } else { 0.0 }
    }

    fn bare_ns(&self, p: &StepPoint) -> f64 {
        if p.prompt == 0 {
            let line = [self.decode_ps[0], self.decode_ps[1]];
            let rows = self.decode_rows_ps.at(p.rows, line) as f64 / PS_PER_NS;
            return rows + self.decode.k[2] * p.cached as f64;
        }
        let squares = (p.prompt * p.prompt) as f64;
        let prompt = self.prefill.at([1.0, (p.prompt + p.rows) as f64, squares]);
        prompt.max(self.prefill_floor_ps as f64 / PS_PER_NS) + self.decode.k[2] * p.cached as f64
    }

    fn adapters_ns(&self, p: &StepPoint) -> f64 {
        self.adapters.at([1.0, (p.prompt + p.rows) as f64]) + self.read_ns(p)
    }

    /// Reading the adapters' weights once.
    fn read_ns(&self, p: &StepPoint) -> f64 {
        p.adapter_bytes as f64 * 1e9 / self.memory_bytes_per_s as f64
    }

    fn with_adapters(&mut self, measured: &Measured, host: f64) {
        let rows_too = measured.serving.is_empty();
        let points = measured.steps.iter().filter(|p| p.adapters > 0 && (rows_too || p.prompt > 0));
        let rows: Vec<Row<2>> = points
            .map(|p| {
                let time = (p.device_ns + p.host_ns) as f64 - host;
                let extra = time - self.bare_ns(p) - self.read_ns(p);
                Row { x: [1.0, (p.prompt + p.rows) as f64], y: extra, of: time.max(1.0) }
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        self.adapters = fit(&rows);
        let layers = f64::from(measured.shape.layers.max(1));
        self.adapter_layer_ps = (self.adapters.k[0] * PS_PER_NS / layers).round() as u64;
        self.adapter_token_ps = (self.adapters.k[1] * PS_PER_NS).round() as u64;
        let formula = "read of their bytes + a + b·tokens";
        self.fits.push(FitNote { what: "steps with adapters", formula, errors: self.adapters.errors });
    }

    /// Loads of adapters by their bytes.
    fn loads(&mut self, measured: &Measured) {
        let time = |load: &AdapterLoad| match measured.files {
            Files::Cached => Some(load.memory_ns),
            Files::Dropped => load.disk_ns,
        };
        let row = |load: &AdapterLoad| {
            let ns = time(load)? as f64;
            Some(Row { x: [1.0, load.bytes as f64], y: ns, of: ns.max(1.0) })
        };
        let rows: Vec<Row<2>> = measured.adapters.iter().filter_map(row).collect();
        if rows.is_empty() {
            return;
        }
        let found = fit(&rows);
        let behind = match measured.files {
            Files::Cached => behind_a_server(&measured.served_loads, found.k),
            Files::Dropped => 1.0,
        };
        self.adapter_disk = found.k.map(|ns| ns * behind);
        self.fits.push(FitNote { what: "adapter load", formula: "a + b·bytes", errors: found.errors });
    }

    /// Decode as a server does it, with an adapter for each stream: its tokens go out over HTTP, on the cores that compute.
    fn served(&mut self, measured: &Measured, host: f64) {
        let row = |p: &ServingPoint| {
            let rest = host + self.adapters_ns(&p.step()) + self.decode.k[2] * p.cached as f64;
            Row { x: [1.0, p.rows as f64], y: p.step_ns as f64 - rest, of: p.step_ns.max(1) as f64 }
        };
        let rows: Vec<Row<2>> = measured.serving.iter().map(row).collect();
        if rows.is_empty() {
            return;
        }
        let found = fit(&rows);
        self.decode.k = [found.k[0], found.k[1], self.decode.k[2]];
        self.decode_ps = self.decode.k.map(|ns| (ns * PS_PER_NS).round() as u64);
        self.decode_ps[0] = self.decode_ps[0].max(1);
        // A kernel takes rows by tiles: the line is some percent off at few of them, and a step's error is more than its own
        // where requests come faster than they go.
        let mut knots: Vec<[u64; 2]> = (measured.serving.iter().zip(&rows))
            .map(|(p, row)| [p.rows, (row.y * PS_PER_NS).round().max(1.0) as u64])
            .collect();
        knots.sort_unstable();
        knots.dedup_by_key(|knot| knot[0]);
        self.decode_rows_ps = RowTimes(knots);
        let formula = "a + b·B + c·K + adapters (the profile has each B measured)";
        self.fits.push(FitNote { what: "steps behind a server", formula, errors: found.errors });
    }

    /// What a first token takes longer than its steps: half of one that is under way, then those with its prompt, of which
    /// the engine takes what fits beside the rows into each.
    fn edge(&mut self, measured: &Measured, host: f64) {
        let steps = |p: &FirstPoint| {
            let bytes_of_rows = p.adapter_bytes * p.rows / (p.rows + 1);
            let under_way = StepPoint {
                rows: p.rows,
                cached: p.cached,
                adapters: p.rows,
                adapter_bytes: bytes_of_rows,
                ..StepPoint::default()
            };
            let wait = match p.rows {
                0 => 0.0,
                _ => (self.predict_ns(&under_way) + host) / 2.0,
            };
            let most = measured.engine.map_or(u64::MAX, |rules| u64::from(rules.max_batched_tokens));
            let fits = most.saturating_sub(p.rows).max(1);
            let own = (0..p.prompt.div_ceil(fits)).map(|n| {
                let step = StepPoint {
                    prompt: fits.min(p.prompt - n * fits),
                    adapters: p.rows + 1,
                    adapter_bytes: p.adapter_bytes,
                    ..under_way
                };
                self.predict_ns(&step) + host
            });
            wait + own.sum::<f64>()
        };
        let extra = |p: &FirstPoint| Row {
            x: [1.0, f64::from(u8::from(p.rows > 0)), p.prompt as f64],
            y: p.ttft_ns as f64 - steps(p),
            of: p.ttft_ns.max(1) as f64,
        };
        let rows: Vec<Row<3>> = measured.firsts.iter().map(extra).collect();
        if rows.is_empty() {
            return;
        }
        let found = fit(&rows);
        let [request_ps, busy_ps, token_ps] = found.k.map(|ns| (ns * PS_PER_NS).round() as u64);
        self.edge = Some(Edge { request_ps, busy_ps, running_ps: 0, token_ps });
        let formula = "its steps + a + b·[B > 0] + c·T";
        self.fits.push(FitNote { what: "first tokens behind a server", formula, errors: found.errors });
    }

    fn mixed(&mut self, measured: &Measured, host: f64) {
        let points = measured.steps.iter().filter(|p| p.prompt > 0 && p.rows > 0);
        let time = |p: &StepPoint| (p.device_ns + p.host_ns) as f64 - host;
        let errors = Errors::of(points.map(|p| (self.predict_ns(p) - time(p), time(p))));
        if errors.points > 0 {
            let formula = "prefill of T + B tokens + c·K, predicted";
            self.fits.push(FitNote { what: "prefill beside decode", formula, errors });
        }
    }
}

/// Mean load by an idle server over the fitted one of as many bytes; 1 where it was not measured or is shorter.
fn behind_a_server(loads: &[ServedLoad], [constant, per_byte]: [f64; 2]) -> f64 {
    let idle = loads.iter().filter(|load| load.rows == 0);
    let (seen, fitted) = idle.fold((0.0, 0.0), |(seen, fitted), load| {
        (seen + load.load_ns as f64, fitted + constant + per_byte * load.bytes as f64)
    });
    if fitted > 0.0 { (seen / fitted).max(1.0) } else { 1.0 }
}

/// Mean load beside streams over that of an idle server; 1 where one of them is missing or the idle one is longer.
fn busy(loads: &[ServedLoad]) -> f64 {
    let mean = |wanted: fn(&ServedLoad) -> bool| {
        let all: Vec<f64> =
            loads.iter().filter(|load| wanted(load)).map(|load| load.load_ns as f64).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let ratio = mean(|load| load.rows > 0) / mean(|load| load.rows == 0);
    if ratio.is_finite() { ratio.max(1.0) } else { 1.0 }
}

/// The median over decode steps of one sequence without adapters; zero where there is none.
pub(super) fn host_ns(steps: &[StepPoint]) -> f64 {
    let one = steps.iter().filter(|p| p.prompt == 0 && p.rows == 1 && p.adapters == 0);
    let mut all: Vec<u64> = one.map(|p| p.host_ns).collect();
    all.sort_unstable();
    all.get(all.len() / 2).map_or(0.0, |&ns| ns as f64)
}

fn enough(what: &'static str, points: usize) -> Result<(), CalibrateError> {
    // One more than there are coefficients: through as many points any law fits.
    const LEAST: usize = 4;
    if points < LEAST { Err(CalibrateError::TooFew { what, points, least: LEAST }) } else { Ok(()) }
}

fn equations(
    points: &[&StepPoint],
    x: fn(&StepPoint) -> [f64; 3],
    time: impl Fn(&StepPoint) -> f64,
) -> Vec<Row<3>> {
    points.iter().map(|p| Row { x: x(p), y: time(p), of: time(p).max(1.0) }).collect()
}

/// Least squares through the origin.
fn bytes_per_rank(loads: &[AdapterLoad]) -> u64 {
    let row = |load: &AdapterLoad| Row {
        x: [f64::from(load.rank)],
        y: load.bytes as f64,
        of: load.bytes.max(1) as f64,
    };
    fit(&loads.iter().map(row).collect::<Vec<_>>()).k[0].round() as u64
}

fn nearest(loads: &[AdapterLoad], rank: u32) -> AdapterLoad {
    loads.iter().min_by_key(|load| load.rank.abs_diff(rank)).copied().unwrap_or_default()
}
