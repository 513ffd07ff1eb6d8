//! Named workloads: each a function of the data folder and a seed.
//!
//! The data folder holds `traces/` with the public files (see docs/traces.md). The `paper-*` presets fall back to
//! synthetic laws without it and say so in a warning; the others need their files.

use super::arrivals::ArrivalLaw;
use super::classes::draw_window;
use super::placed::Placed;
use super::synthetic::{SyntheticFunction, TokenSource, generate};
use super::tokens::TokenLaw;
use super::{counts_file, counts_file::Window};
use crate::digest::sha256_file;
use crate::info::functions::CovClass;
use crate::open::{OpenOptions, open};
use crate::placement::Counts;
use crate::record::{FunctionInfo, TraceError, TraceStream};
use crate::rng::{Stream, Weighted};
use crate::transform::compose::{Compose, Lengths, Popularity, pool};
use crate::transform::{Map, MapSpec, Noted, Rename, Spread};
use std::path::{Path, PathBuf};

/// A stream of a preset.
pub type Preset = Result<Box<dyn TraceStream>, TraceError>;

/// Name, whether it needs the data folder, and what it is.
pub const PRESETS: &[(&str, bool, &str)] = &[
    (
        "paper-predictable",
        false,
        "8 functions, one predictable 4-h window each (CoV at most 1), GSM8K lengths",
    ),
    ("paper-normal", false, "8 functions, one normal 4-h window each (CoV 1 to 4), GSM8K lengths"),
    ("paper-bursty", false, "8 functions, one bursty 4-h window each (CoV above 4), GSM8K lengths"),
    ("mixed-tenants", true, "162 API clients of ServeGen m-large with their own rates and lengths, one day"),
    (
        "adapter-zoo",
        true,
        "GenTD26's adapters in their real order on Azure conversation arrivals and lengths, 1 h",
    ),
    ("spiky-code", true, "Azure code completion as the sum load, split over 100 functions by Zipf 1.1, 1 h"),
    ("long-context", true, "Mooncake conversation with prefix blocks over 20 functions, 1 h"),
    (
        "cold-tail",
        true,
        "1,000 functions, 50 frequent, 150 less, 800 rare, each with a real day's shape, 24 h",
    ),
    ("demo-bursty", false, "8 functions of mixed classes on two backbones, all synthetic, 2 h"),
    ("demo-zipf", false, "20 adapters of one backbone by Zipf 1.0, all synthetic, 1 h"),
];

/// The preset of that name. `data` is the folder that COLDFRAME_DATA names.
pub fn preset(name: &str, data: Option<&Path>, seed: u64) -> Preset {
    let stream = by_name(name, data, seed)?;
    let Some(data) = data else { return Ok(stream) };
    let hashed =
        |file: &&str| Ok(format!("source: {file} sha256 {}", sha256_file(&data.join("traces").join(file))?));
    let sources: Result<Vec<String>, TraceError> = sources(name).iter().map(hashed).collect();
    Ok(Box::new(Noted::new(stream, sources?)))
}

/// Files a preset reads, below `traces/`.
fn sources(name: &str) -> &'static [&'static str] {
    match name {
        "paper-predictable" | "paper-normal" | "paper-bursty" => &[
            "azure-functions-2019/windows-4h.csv.gz",
            "azure-functions-2019/day1-0800-1600-500.invocations.csv.gz",
            "azure-functions-2019/invitro2022-day-pool.invocations.csv.gz",
            "token-lengths/gsm8k_llama2_lengths.csv.gz",
        ],
        "mixed-tenants" => &["servegen/m-large.rates.csv.gz", "servegen/m-large.lengths.csv.gz"],
        "adapter-zoo" => {
            &["azure-llm-2023/AzureLLMInferenceTrace_conv.csv", "genai-lora-2026/adapter_requests.csv.gz"]
        }
        "spiky-code" => &["azure-llm-2023/AzureLLMInferenceTrace_code.csv"],
        "long-context" => &["mooncake/conversation_trace.jsonl.gz"],
        "cold-tail" => &[
            "azure-functions-2019/invitro2022-day-1350.invocations.csv.gz",
            "token-lengths/gsm8k_llama2_lengths.csv.gz",
        ],
        _ => &[],
    }
}

fn by_name(name: &str, data: Option<&Path>, seed: u64) -> Preset {
    let need = || {
        let reason = format!(
            "preset {name} needs the public traces: set COLDFRAME_DATA to the folder that holds traces/"
        );
        data.ok_or(TraceError::Setting(reason))
    };
    match name {
        "paper-predictable" => paper(CovClass::Predictable, data, seed),
        "paper-normal" => paper(CovClass::Normal, data, seed),
        "paper-bursty" => paper(CovClass::Bursty, data, seed),
        "mixed-tenants" => mixed_tenants(need()?, seed),
        "adapter-zoo" => adapter_zoo(need()?, seed),
        "spiky-code" => spiky_code(need()?, seed),
        "long-context" => long_context(need()?, seed),
        "cold-tail" => cold_tail(need()?, seed),
        "demo-bursty" => demo_bursty(seed),
        "demo-zipf" => demo_zipf(seed),
        _ => {
            let names: Vec<_> = PRESETS.iter().map(|p| p.0).collect();
            Err(TraceError::Setting(format!("no preset is called {name}; there are: {}", names.join(", "))))
        }
    }
}

/// The paper's eight functions: four adapters on each of two backbones.
fn paper_functions() -> Vec<FunctionInfo> {
    let function = |i: usize| FunctionInfo {
        name: format!("fn-{i}"),
        adapter: format!("lora-{i}"),
        base_model: if i < 4 { "llama-2-7b".into() } else { "llama-2-13b".into() },
        tenant: format!("tenant-{i}"),
    };
    (0..8).map(function).collect()
}

fn azure_2019(data: &Path, name: &str) -> PathBuf {
    data.join("traces/azure-functions-2019").join(name)
}

fn gsm8k(data: &Path) -> Result<TokenSource, TraceError> {
    let path = data.join("traces/token-lengths/gsm8k_llama2_lengths.csv.gz");
    let pairs = pool(&mut open(&path, &OpenOptions::default())?)?;
    Ok(TokenSource::Pool(pairs.into()))
}

/// Four hours of eight functions of one class. With data, real windows of distinct functions; without, fitted laws.
pub fn paper(class: CovClass, data: Option<&Path>, seed: u64) -> Preset {
    let functions = paper_functions();
    let Some(data) = data else { return paper_synthetic(class, functions, seed) };
    let windows = counts_file::read_windows(&azure_2019(data, "windows-4h.csv.gz"), class)?;
    let chosen = choose_windows(&windows, functions.len(), class.name(), seed)?;
    let mut counts = vec![vec![]; chosen.len()];
    let mut files: Vec<&str> = chosen.iter().map(|w| w.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let path = azure_2019(data, &format!("{file}.invocations.csv.gz"));
        counts_file::read_counts(&path, |function, minutes| {
            for (window, out) in chosen.iter().zip(&mut counts) {
                if window.file == file && window.function == function {
                    *out = minutes.iter().skip(window.start).take(240).copied().collect();
                }
            }
        })?;
    }
    let mut matrix = Counts::default();
    let mut notes =
        vec![format!("preset paper-{}: 4-h windows, uniform in the minute, seed {seed}", class.name())];
    for (i, (window, minutes)) in chosen.iter().zip(&counts).enumerate() {
        if minutes.iter().map(|n| u64::from(*n)).sum::<u64>() != window.invocations {
            let reason = format!(
                "{} has not the counts windows-4h.csv.gz states for {}",
                window.file, window.function
            );
            return Err(TraceError::Setting(reason));
        }
        minutes.iter().enumerate().for_each(|(minute, n)| matrix.add(minute, i as u32, *n));
        notes.push(format!("fn-{i}: {} {} from minute {}", window.file, window.function, window.start));
    }
    notes.push("lengths resampled from GSM8K (question, answer)".into());
    Ok(Box::new(Placed::new(matrix, functions, gsm8k(data)?, seed, notes, vec![])?))
}

/// Distinct functions, one window each, by a seeded shuffle.
fn choose_windows<'a>(
    windows: &'a [Window],
    n: usize,
    label: &str,
    seed: u64,
) -> Result<Vec<&'a Window>, TraceError> {
    let mut rng = Stream::new(seed, &format!("paper-windows-{label}"));
    let mut order: Vec<usize> = (0..windows.len()).collect();
    let mut chosen: Vec<&Window> = vec![];
    for i in 0..order.len() {
        let j = i + rng.below((order.len() - i) as u64) as usize;
        order.swap(i, j);
        let window = &windows[order[i]];
        if chosen.iter().all(|c| (&c.file, &c.function) != (&window.file, &window.function)) {
            chosen.push(window);
        }
        if chosen.len() == n {
            return Ok(chosen);
        }
    }
    Err(TraceError::Setting(format!("the windows file has fewer than {n} distinct functions of this class")))
}

fn paper_synthetic(class: CovClass, functions: Vec<FunctionInfo>, seed: u64) -> Preset {
    let law = TokenLaw::by_name("gsm8k").expect("a listed law");
    let with_window = |info: FunctionInfo| {
        let label = format!("paper-{}", info.name);
        let (_, arrivals) = draw_window(class, 14_400.0, 1.0, seed, &label)?;
        Ok(SyntheticFunction { info, arrivals, tokens: TokenSource::Law(law) })
    };
    let drawn: Result<Vec<_>, TraceError> = functions.into_iter().map(with_window).collect();
    let notes = vec![format!("preset paper-{}: fitted arrival and length laws, seed {seed}", class.name())];
    let warning =
        "COLDFRAME_DATA is not set: arrivals and lengths come from fitted laws, not from the real windows";
    Ok(Box::new(generate(drawn?, 14_400.0, None, seed, notes, vec![warning.into()])))
}

/// ServeGen m-large: each client a function with an adapter of its own on llama-2-7b, first day.
pub fn mixed_tenants(data: &Path, seed: u64) -> Preset {
    let options = OpenOptions {
        seed,
        window_s: Some((0, 86_400)),
        base_model: "llama-2-7b".into(),
        ..OpenOptions::default()
    };
    open(&data.join("traces/servegen/m-large.rates.csv.gz"), &options)
}

/// GenTD26's adapter requests, in order, on the arrivals and lengths of Azure conversation.
pub fn adapter_zoo(data: &Path, seed: u64) -> Preset {
    let conv =
        open(&data.join("traces/azure-llm-2023/AzureLLMInferenceTrace_conv.csv"), &OpenOptions::default())?;
    let path = data.join("traces/genai-lora-2026/adapter_requests.csv.gz");
    let options = OpenOptions { seed, ..OpenOptions::default() };
    // The real order has no randomness; seeds differ in where in it they begin. The file has 68,195 rows.
    let start = Stream::new(seed, "adapter-zoo-start").below(68_195);
    let mut skip = start;
    let opener = move || -> Preset {
        // The source's 105 image backbones stand for two language ones, dealt by popularity rank.
        let rule = |info: &FunctionInfo| {
            let rank: u32 = info.base_model.trim_start_matches('B').parse().unwrap_or(0);
            let base_model = if rank.is_multiple_of(2) { "llama-2-7b" } else { "llama-2-13b" };
            (!info.adapter.is_empty()).then(|| FunctionInfo { base_model: base_model.into(), ..info.clone() })
        };
        let mut requests = open(&path, &options)?;
        for _ in 0..std::mem::take(&mut skip) {
            requests.next_item()?;
        }
        Ok(Box::new(Rename::new(requests, "", Box::new(rule))))
    };
    let composed = Compose::new(conv, Lengths::Keep, Popularity::Follow(Box::new(opener)), seed)?;
    let note = format!(
        "preset adapter-zoo: GenTD26 requests with an adapter, in file order from row {start} (seed {seed}); even base \
         ranks on llama-2-7b, odd on llama-2-13b"
    );
    Ok(Box::new(Rename::new(composed, &note, Box::new(|info| Some(info.clone())))))
}

/// Azure code completion split over 100 functions of llama-2-7b by Zipf 1.1.
pub fn spiky_code(data: &Path, seed: u64) -> Preset {
    let code =
        open(&data.join("traces/azure-llm-2023/AzureLLMInferenceTrace_code.csv"), &OpenOptions::default())?;
    Ok(Box::new(Map::new(code, MapSpec { zipf_s: 1.1, seed, ..MapSpec::default() })?))
}

/// Mooncake conversation, its 3-s steps spread, over 20 functions of llama-2-7b by Zipf 1.0, prefix ids kept.
pub fn long_context(data: &Path, seed: u64) -> Preset {
    let chat = open(&data.join("traces/mooncake/conversation_trace.jsonl.gz"), &OpenOptions::default())?;
    let spread = Spread::new(chat, 3_000_000_000, seed);
    Ok(Box::new(Map::new(spread, MapSpec { functions: 20, seed, ..MapSpec::default() })?))
}

/// A day of 1,000 functions. Frequent is at least one call a minute on average, rare at most one an hour, less is
/// between; each draws a row of `invitro2022-day-1350` of its kind, with replacement, and a rotation of its own.
pub fn cold_tail(data: &Path, seed: u64) -> Preset {
    let mut kinds: [Vec<Vec<u32>>; 3] = Default::default();
    counts_file::read_counts(&azure_2019(data, "invitro2022-day-1350.invocations.csv.gz"), |_, minutes| {
        let total: u64 = minutes.iter().map(|n| u64::from(*n)).sum();
        let kind = match total {
            1440.. => 0,
            25.. => 1,
            _ => 2,
        };
        kinds[kind].push(minutes.to_vec());
    })?;
    let mut rng = Stream::new(seed, "cold-tail");
    let (mut matrix, mut functions) = (Counts::default(), vec![]);
    for (rows, n) in kinds.iter().zip([50, 150, 800]) {
        if rows.is_empty() {
            return Err(TraceError::Setting(
                "invitro2022-day-1350 lacks one of the three kinds of function".into(),
            ));
        }
        for _ in 0..n {
            let minutes = &rows[rng.below(rows.len() as u64) as usize];
            let turn = rng.below(minutes.len() as u64) as usize;
            let i = functions.len();
            for (minute, count) in minutes.iter().enumerate() {
                matrix.add((minute + turn) % minutes.len(), i as u32, *count);
            }
            functions.push(FunctionInfo {
                name: format!("fn-{i:04}"),
                adapter: format!("lora-{i:04}"),
                base_model: if i % 2 == 0 { "llama-2-7b".into() } else { "llama-2-13b".into() },
                tenant: format!("tenant-{i:04}"),
            });
        }
    }
    let notes = vec![format!(
        "preset cold-tail: 50 frequent (1/min or more), 150 less, 800 rare (1/h or less) rows of \
         invitro2022-day-1350, rotated, GSM8K lengths, seed {seed}"
    )];
    Ok(Box::new(Placed::new(matrix, functions, gsm8k(data)?, seed, notes, vec![])?))
}

/// Eight synthetic functions for demonstrations: two predictable, two normal, four bursty; two hours.
pub fn demo_bursty(seed: u64) -> Preset {
    use CovClass::{Bursty, Normal, Predictable};
    let span_s = 7200.0;
    let classes = [Predictable, Normal, Bursty, Bursty, Predictable, Normal, Bursty, Bursty];
    let law = TokenLaw::by_name("gsm8k").expect("a listed law");
    let with_class = |(info, class): (FunctionInfo, CovClass)| {
        // Three times the fitted rates: enough requests in two hours to see the policies differ.
        let (_, arrivals) = draw_window(class, span_s, 3.0, seed, &format!("demo-{}", info.name))?;
        let info = FunctionInfo { name: format!("{}-{}", info.name, class.name()), ..info };
        Ok(SyntheticFunction { info, arrivals, tokens: TokenSource::Law(law) })
    };
    let drawn: Result<Vec<_>, TraceError> =
        paper_functions().into_iter().zip(classes).map(with_class).collect();
    let notes = vec![format!("preset demo-bursty: fitted laws at three times their rate, seed {seed}")];
    Ok(Box::new(generate(drawn?, span_s, None, seed, notes, vec![])))
}

/// Twenty adapters of one backbone: a Gamma renewal at 1 request/s (CoV 1.09) split by Zipf 1.0; one hour.
pub fn demo_zipf(seed: u64) -> Preset {
    let spec = MapSpec { functions: 20, seed, ..MapSpec::default() };
    let law = ArrivalLaw::Gamma { rate_rps: 1.0, cov: 1.09 };
    let arrivals = law.start(Stream::new(seed, "demo-zipf")).expect("a positive rate");
    let tokens = TokenSource::Law(TokenLaw::by_name("azure-conv").expect("a listed law"));
    let function = SyntheticFunction { info: FunctionInfo::default(), arrivals, tokens };
    let notes = vec![format!(
        "preset demo-zipf: Gamma renewal at 1 request/s, CoV 1.09, azure-conv lengths, seed {seed}"
    )];
    let stream = generate(vec![function], 3600.0, None, seed, notes, vec![]);
    Ok(Box::new(Map::new(stream, spec)?))
}

/// Splits a total rate over functions by Zipf, each with its own Gamma renewal; what `trace generate` offers by flags.
pub struct ZipfSpec {
    /// Functions, as in [`MapSpec`].
    pub map: MapSpec,
    /// Requests per second over all functions.
    pub rate_rps: f64,
    /// CoV of each function's gaps.
    pub cov: f64,
    /// Length, seconds.
    pub span_s: f64,
    /// Token lengths.
    pub tokens: TokenLaw,
    /// Time-of-day factors.
    pub envelope: Option<super::envelope::Envelope>,
}

/// Generates a [`ZipfSpec`].
pub fn zipf(spec: &ZipfSpec) -> Preset {
    let map = &spec.map;
    if !(spec.span_s.is_finite() && spec.span_s > 0.0) {
        return Err(TraceError::Setting(format!("a span of {} s makes no trace", spec.span_s)));
    }
    // Map's own checks of counts, exponent and base models, before weights are built here.
    Weighted::zipf(map.functions.min(1 << 20), map.zipf_s)
        .filter(|_| map.functions <= 1 << 20 && !map.base_models.is_empty())
        .ok_or_else(|| {
            TraceError::Setting("use 1 to 1048576 functions, a finite Zipf s and a base model".into())
        })?;
    let weights: Vec<f64> = (1..=map.functions).map(|r| libm::pow(f64::from(r), -map.zipf_s)).collect();
    let total: f64 = weights.iter().sum();
    let mut functions = vec![];
    for (i, weight) in weights.iter().enumerate() {
        let law = ArrivalLaw::Gamma { rate_rps: spec.rate_rps * weight / total, cov: spec.cov };
        // Gaps below a nanosecond would never leave their instant.
        if spec.rate_rps > 1e9 {
            return Err(TraceError::Setting(format!(
                "rate {} is too large; use at most 1e9 a second",
                spec.rate_rps
            )));
        }
        let arrivals = law.start(Stream::new(map.seed, &format!("zipf-arrivals-{i}")));
        let arrivals = arrivals.ok_or_else(|| {
            TraceError::Setting(format!("rate {} and CoV {} must be above 0", spec.rate_rps, spec.cov))
        })?;
        functions.push(SyntheticFunction {
            info: map.function(i as u32),
            arrivals,
            tokens: TokenSource::Law(spec.tokens),
        });
    }
    let notes = vec![format!(
        "generated: {} requests/s over {} functions by Zipf {}, Gamma gaps of CoV {}, {} lengths, {} s, seed {}",
        spec.rate_rps, map.functions, map.zipf_s, spec.cov, spec.tokens.name, spec.span_s, map.seed
    )];
    Ok(Box::new(generate(functions, spec.span_s, spec.envelope.clone(), map.seed, notes, vec![])))
}
