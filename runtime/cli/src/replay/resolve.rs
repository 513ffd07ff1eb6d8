//! From what was typed to runs: policies, fleet, models, tariffs and the trace are looked up and checked here.
//!
//! After this nothing is a name any more. Errors say which option, what there is, and the nearest name.

use super::ReplayArgs;
use super::policy::policy;
use crate::names::{data_folder, regular_file, unknown};
use anyhow::{Result, bail, ensure};
use coldframe_policy::config::PolicyConfig;
use coldframe_policy::parts::scaling::ScalingPart;
use coldframe_policy::parts::sharing::SharingPart;
use coldframe_simulator::cost::Tariff;
use coldframe_simulator::profile::{FleetProfile, Kind, Profiles};
use coldframe_simulator::report::model::{Inputs, ProfileUsed, TraceSection};
use coldframe_simulator::setup::{Model, Setup};
use coldframe_traces::generate::{PRESETS, preset};
use coldframe_traces::transform::{Map, MapSpec, Repeat};
use coldframe_traces::{Format, OpenOptions, TraceStream, open, sha256_file};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs to do and what their report says of the inputs.
#[derive(Clone)]
pub struct Plan {
    /// Policies, in order.
    pub policies: Vec<PolicyConfig>,
    /// Seeds, in order.
    pub seeds: Vec<u64>,
    /// Everything but policy and seed.
    pub base: Setup,
    /// Tariffs, the primary one first.
    pub tariffs: Vec<Tariff>,
    /// Where records come from.
    pub source: TraceSource,
    /// Skip refused rows.
    pub skip_bad_rows: bool,
    /// For the report.
    pub trace: TraceSection,
    /// For the report.
    pub inputs: Inputs,
    /// For stderr and the report.
    pub warnings: Vec<String>,
    /// A row per request.
    pub requests: Option<PathBuf>,
    /// Spans.
    pub timeline: Option<PathBuf>,
}

/// A trace that can be opened once per run.
#[derive(Clone)]
pub struct TraceSource {
    file: Option<PathBuf>,
    preset: Option<String>,
    data: Option<PathBuf>,
    options: OpenOptions,
    map: Option<MapSpec>,
    repeat: u64,
}

impl TraceSource {
    /// SHA-256 of the file's bytes, hex; empty for a preset. Reads the whole file, so it is asked after the runs.
    pub fn sha256(&self) -> Result<String> {
        Ok(self.file.as_deref().map(sha256_file).transpose()?.unwrap_or_default())
    }

    /// The stream of one seed.
    pub fn open(&self, seed: u64) -> Result<Box<dyn TraceStream>> {
        if let Some(name) = &self.preset {
            return Ok(preset(name, self.data.as_deref(), seed)?);
        }
        let file = self.file.clone().expect("a source is a preset or a file");
        let mut options = self.options.clone();
        options.seed = seed;
        let stream: Box<dyn TraceStream> = match self.repeat {
            0 | 1 => open(&file, &options)?,
            times => {
                // Each pass counts its own rows and opens the file anew, so memory stays flat.
                let opener = Box::new(move || open(&file, &options));
                Box::new(Repeat::new(opener, times)?)
            }
        };
        Ok(match &self.map {
            Some(map) => Box::new(Map::new(stream, MapSpec { seed, ..map.clone() })?),
            None => stream,
        })
    }
}

/// Looks everything up.
pub fn resolve(args: &ReplayArgs) -> Result<Plan> {
    let args = &with_profile(args)?;
    let mut warnings = Vec::new();
    ensure!(args.seeds >= 1, "--seeds must be at least 1");
    // More would give reports that no view can show.
    ensure!(args.seeds <= 10_000, "--seeds must be at most 10,000");
    ensure!(
        args.seed.checked_add(args.seeds).is_some(),
        "--seed {} leaves no room for {} seeds",
        args.seed,
        args.seeds
    );
    ensure!(args.jitter <= 1000, "--jitter is per mille: at most 1000");
    ensure!(args.repeat >= 1, "--repeat must be at least 1: it counts the passes");
    spare_inputs(args)?;
    let policies = args.policy.iter().map(|p| policy(p, &args.set)).collect::<Result<Vec<_>>>()?;
    let mut names: Vec<&str> = policies.iter().map(|p| p.name.as_str()).collect();
    if let Some(base) = args.baseline.as_ref().filter(|b| !names.contains(&b.as_str())) {
        bail!(unknown("--baseline", base, &names));
    }
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        bail!("policy `{}` is named twice; give one of the files another `name`", twice[0]);
    }
    if args.requests.is_some() || args.timeline.is_some() {
        ensure!(
            policies.len() == 1 && args.seeds == 1,
            "--requests and --timeline are for one policy and one seed: say --policy NAME"
        );
    }
    let (base, mut profiles) = setup(args, policies[0].clone())?;
    policies.iter().try_for_each(|p| slots_fit(p, &base))?;
    warnings.extend(policies.iter().filter_map(|p| too_few_gpus(p, &base)));
    let tariffs = tariffs(args, &base.gpu.name, &mut warnings)?;
    let used = |t: &Tariff| ProfileUsed {
        kind: "tariff".to_owned(),
        name: t.name.clone(),
        source: t.source.clone(),
    };
    profiles.extend(tariffs.iter().map(used));
    let (source, trace) = trace_source(args)?;
    let fleet = format!("{} x {} {}", base.workers, base.gpus_per_worker, base.gpu.name);
    let inputs = Inputs {
        fleet,
        gpus: base.workers * base.gpus_per_worker,
        profiles,
        slo_ttft_s: args.slo_ttft,
        slo_tpot_s: args.slo_tpot,
        primary_tariff: tariffs.first().map(|t| t.name.clone()).unwrap_or_default(),
        command: command_line(),
    };
    Ok(Plan {
        policies,
        seeds: (args.seed..args.seed + args.seeds).collect(),
        base,
        tariffs,
        source,
        skip_bad_rows: args.skip_bad_rows,
        trace,
        inputs,
        warnings,
        requests: args.requests.clone(),
        timeline: args.timeline.clone(),
    })
}

/// A profile of one machine stands for every option that names a part of it.
fn with_profile(args: &ReplayArgs) -> Result<ReplayArgs> {
    let mut args = args.clone();
    let Some(profile) = args.profile.clone() else { return Ok(args) };
    if args.tariff.is_empty() && Profiles::has_section(&profile, Kind::Tariff)? {
        args.tariff = vec![profile.clone()];
    }
    args.model = vec![profile.clone()];
    (args.gpu, args.cold_start) = (profile.clone(), profile.clone());
    (args.fleet, args.step) = (Some(profile.clone()), Some(profile));
    Ok(args)
}

/// An output over the trace or over another output would lose one of them.
fn spare_inputs(args: &ReplayArgs) -> Result<()> {
    let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    };
    let outputs: Vec<(&str, &PathBuf)> = [
        ("--out", &args.out),
        ("--html", &args.html),
        ("--requests", &args.requests),
        ("--timeline", &args.timeline),
    ]
    .into_iter()
    .filter_map(|(option, path)| Some((option, path.as_ref()?)))
    .collect();
    for (n, (option, path)) in outputs.iter().enumerate() {
        let inputs = args.policy.iter().chain([&args.trace]).chain(&args.profile);
        if inputs.map(Path::new).any(|input| input.is_file() && same(input, path)) {
            bail!("{option} {} is an input of this command: write to another file", path.display());
        }
        if let Some((other, _)) = outputs[..n].iter().find(|(_, earlier)| same(earlier, path)) {
            bail!("{other} and {option} name one file: give two");
        }
    }
    Ok(())
}

fn setup(args: &ReplayArgs, policy: PolicyConfig) -> Result<(Setup, Vec<ProfileUsed>)> {
    let fleet = match &args.fleet {
        Some(name) => Profiles::fleet(name)?,
        None => FleetProfile {
            name: String::new(),
            about: String::new(),
            source: String::new(),
            workers: args.workers,
            gpus_per_worker: args.gpus_per_worker,
            gpu: args.gpu.clone(),
            host_memory_bytes: (args.host_memory_gb * 1e9) as u64,
            vcpus: args.vcpus,
        },
    };
    ensure!(
        u64::from(fleet.workers) * u64::from(fleet.gpus_per_worker) <= 100_000,
        "a fleet has at most 100,000 GPUs"
    );
    let mut gpu = Profiles::gpu(args.profile.as_ref().unwrap_or(&fleet.gpu))?;
    if let Some(gb) = args.gpu_memory_gb {
        ensure!(
            gb.is_finite() && gb > 0.0 && gb <= 1e6,
            "--gpu-memory-gb must be above zero, at most a million"
        );
        gpu.memory_bytes = (gb * 1e9) as u64;
    }
    let mut used = Vec::new();
    let mut note = |kind: &str, name: &str, source: &str| {
        used.push(ProfileUsed { kind: kind.to_owned(), name: name.to_owned(), source: source.to_owned() });
    };
    note("gpu", &gpu.name, &gpu.source);
    let mut models = Vec::new();
    for name in &args.model {
        let profile = Profiles::model(name)?;
        let mut step = match &args.step {
            Some(source) => Profiles::step_from(source, &gpu, &profile)?,
            None => match Profiles::step(&gpu, &profile) {
                Ok(step) => step,
                // The default pair of models should not make a GPU unusable that has rows for the first only.
                Err(_) if !models.is_empty() && args.model == ["llama-2-7b", "llama-2-13b"] => continue,
                Err(e) => return Err(e.into()),
            },
        };
        if let Some(ms) = args.host_ms {
            ensure!((0.0..=60_000.0).contains(&ms), "--host-ms must be from 0 to 60,000");
            step.host_ps = (ms * 1e9) as u64;
        }
        note("model", &profile.name, &profile.source);
        note("step", &step.name, &step.source);
        models.push(Model { profile, step });
    }
    let cold = Profiles::cold_start(&args.cold_start)?;
    note("cold-start", &cold.name, &cold.source);
    for (name, value) in [
        ("--slo-ttft", args.slo_ttft),
        ("--slo-tpot", args.slo_tpot),
        ("--host-memory-gb", args.host_memory_gb),
    ] {
        ensure!(value.is_finite() && value > 0.0, "{name} must be a positive number");
        // A number so large is a slip, and its sums would overflow.
        ensure!(value <= 1e6, "{name} {value} is too large: at most a million");
    }
    let setup = Setup {
        policy,
        gpu,
        workers: fleet.workers,
        gpus_per_worker: fleet.gpus_per_worker,
        host_memory_bytes: fleet.host_memory_bytes,
        vcpus: fleet.vcpus,
        models,
        cold,
        rank: args.rank,
        slo_ttft_ns: (args.slo_ttft * 1e9) as u64,
        slo_tpot_ns: (args.slo_tpot * 1e9) as u64,
        function_times: BTreeMap::new(),
        seed: args.seed,
        jitter_permille: args.jitter,
        any_backbone: args.profile.is_some(),
        start: None,
        sent_late_us: Vec::new(),
        keep_log: false,
    };
    setup.check()?;
    Ok((setup, used))
}

/// A one-process engine keeps room for all its adapter slots; without it no replica ever starts.
fn slots_fit(policy: &PolicyConfig, setup: &Setup) -> Result<()> {
    let slots = u64::from(policy.engine.adapter_slots);
    let usable = setup.gpu.memory_bytes / 1000 * u64::from(policy.engine.memory_permille);
    for model in setup.models.iter().filter(|_| matches!(policy.sharing, SharingPart::OneProcess {})) {
        let adapters = setup.adapter_bytes(model).saturating_mul(slots);
        let need =
            model.profile.weight_bytes.saturating_add(adapters).saturating_add(setup.cold.kernel_bytes);
        ensure!(
            need < usable,
            "no GPU of this fleet can hold {} under {}: weights, {slots} adapter slots and context take {:.1} GB, \
             a {} has {:.1} GB usable. Choose a larger --gpu, a smaller --model, or fewer engine.adapter_slots",
            model.profile.name,
            policy.name,
            need as f64 / 1e9,
            setup.gpu.name,
            usable as f64 / 1e9
        );
    }
    Ok(())
}

/// A fixed policy gives each backbone a GPU of its own, in order: the last ones may get none.
fn too_few_gpus(policy: &PolicyConfig, setup: &Setup) -> Option<String> {
    let gpus = setup.workers as usize * setup.gpus_per_worker as usize;
    if !matches!(policy.scaling, ScalingPart::Fixed { .. }) || gpus >= setup.models.len() {
        return None;
    }
    let without: Vec<&str> = setup.models[gpus..].iter().map(|m| m.profile.name.as_str()).collect();
    let without = without.join(", ");
    Some(format!(
        "{}: {gpus} GPU and a replica of each backbone on one of its own: requests to {without} are refused. \
         Raise --workers, or name fewer backbones with --model",
        policy.name
    ))
}

fn tariffs(args: &ReplayArgs, gpu: &str, warnings: &mut Vec<String>) -> Result<Vec<Tariff>> {
    if !args.tariff.is_empty() {
        let all = args.tariff.iter().map(|t| Profiles::tariff(t)).collect::<Result<Vec<_>, _>>()?;
        if let Some(without) = all.iter().find(|t| !t.prices(gpu)) {
            bail!(
                "tariff `{}` has no price for a {gpu}; `coldframe profiles show tariff {}` prints what it has",
                without.name,
                without.name
            );
        }
        return Ok(all);
    }
    let all: Vec<Tariff> = Profiles::tariffs().iter().filter(|t| t.prices(gpu)).cloned().collect();
    if all.is_empty() {
        warnings.push(format!(
            "no shipped tariff prices a {gpu}: the report has no money. Give a file with --tariff"
        ));
    }
    Ok(all)
}

/// Where records come from, and what the report says of it.
pub fn trace_source(args: &ReplayArgs) -> Result<(TraceSource, TraceSection)> {
    let path = Path::new(&args.trace);
    let known: Vec<&str> = PRESETS.iter().map(|p| p.0).collect();
    let is_preset = !path.exists() && known.contains(&args.trace.as_str());
    if !path.exists() && !is_preset {
        let looks_like_file = args.trace.contains(['/', '.']);
        if looks_like_file {
            bail!("trace file {} does not exist", args.trace);
        }
        bail!(unknown("--trace", &args.trace, &known));
    }
    let data = if is_preset { data_folder(args.data.as_deref())? } else { None };
    regular_file(path)?;
    let format = match &args.format {
        None => None,
        Some(name) => {
            let known: Vec<&str> = Format::ALL.iter().map(|f| f.name()).collect();
            let found = Format::ALL.iter().find(|f| f.name() == name);
            Some(*found.ok_or_else(|| anyhow::anyhow!(unknown("--format", name, &known)))?)
        }
    };
    let mut mapping = Vec::new();
    let map = match args.adapters {
        None => None,
        Some(n) => {
            ensure!(!is_preset, "--adapters maps a trace file; presets bring their own functions");
            // One backbone unless the user names several: adapters of one base model is the usual case.
            let spec = MapSpec {
                functions: n,
                zipf_s: args.zipf,
                stickiness: args.sticky,
                base_models: vec![Profiles::model(&args.model[0])?.name],
                seed: args.seed,
            };
            mapping.push(spec.note());
            Some(spec)
        }
    };
    if args.repeat > 1 {
        mapping.push(format!("repeated {} times end to end", args.repeat));
    }
    let options = OpenOptions { format, sort: args.sort, ..OpenOptions::default() };
    let source = TraceSource {
        file: (!is_preset).then(|| path.to_owned()),
        preset: is_preset.then(|| args.trace.clone()),
        data: data.clone(),
        options,
        map,
        repeat: args.repeat,
    };
    if is_preset {
        let from = if data.is_some() {
            "sampled from the public data"
        } else {
            "drawn from the fitted laws (COLDFRAME_DATA is not set)"
        };
        mapping.push(format!("workload preset {}, {from}, one draw per seed", args.trace));
    }
    // What can be seen at the start is wrong before a long file is hashed.
    if !is_preset && !args.sort {
        source.open(args.seed)?;
    }
    let name = if is_preset {
        args.trace.clone()
    } else {
        path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    };
    let section = TraceSection {
        name,
        format: args
            .format
            .clone()
            .unwrap_or_else(|| if is_preset { "preset".to_owned() } else { "by first line".to_owned() }),
        mapping,
        ..TraceSection::default()
    };
    Ok((source, section))
}

/// The command that repeats the run, with the program's name rather than its place.
pub fn command_line() -> String {
    let quoted =
        std::env::args().skip(1).map(|a| if a.contains([' ', '{', '\'']) { format!("{a:?}") } else { a });
    std::iter::once("coldframe".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// What the model leaves out, for every report.
pub fn limits() -> Vec<String> {
    [
        "Step times are fits of public measurements (2 to 6 % mean error, single points up to 22 %); GPUs and models without rows are refused, not guessed.",
        "Prefix caching is not modelled: every prompt is prefilled whole.",
        "Adapters cost one grouped kernel per layer plus one read of their weights per step; ranks share one constant.",
        "Engines that share a GPU slow each other down equally (processor sharing); spatial partitioning is not modelled.",
        "Output lengths are known at admission where KV memory is reserved per request; a paged pool learns them as they come.",
        "Checkpoints and adapters start on each worker's disk; the first fetch from a remote store is not counted.",
        "The run ends with the last request: what is kept alive after it is not billed, for any policy.",
        "Workers do not fail.",
    ]
    .map(str::to_owned)
    .into()
}
