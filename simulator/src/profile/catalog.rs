//! Finding a profile by name, alias or path.
//!
//! Names win over paths, so a file called `l40s` is reached as `./l40s`. A file holds one profile, or a section for each
//! kind (`[gpu]`, `[model]`, `[step]`, …), as `coldframe calibrate` writes it: then the section of the kind asked for is
//! taken. Shipped files are parsed once and must be valid: a test reads them all.

use super::step::StepFile;
use super::{ColdStart, FleetProfile, GpuProfile, Kind, ModelProfile, ProfileError, StepProfile, shipped};
use crate::cost::Tariff;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::OnceLock;

/// A kind of profile that a file holds one of.
trait Entry: Clone + DeserializeOwned + 'static {
    const KIND: Kind;
    const FILES: &'static [shipped::File];
    fn name(&self) -> &str;
    fn aliases(&self) -> &[String] {
        &[]
    }
    fn all() -> &'static [Self];
    /// Quantities that must not be zero, each with its key.
    fn divisors(&self) -> Vec<(&'static str, u64)>;
}

macro_rules! entry {
    ($type:ty, $kind:expr, $files:expr $(, aliases: $aliases:ident)?; $($key:ident),*) => {
        impl Entry for $type {
            const KIND: Kind = $kind;
            const FILES: &'static [shipped::File] = $files;
            fn name(&self) -> &str {
                &self.name
            }
            $(fn aliases(&self) -> &[String] {
                &self.$aliases
            })?
            fn all() -> &'static [Self] {
                static ALL: OnceLock<Vec<$type>> = OnceLock::new();
                ALL.get_or_init(read_shipped::<$type>)
            }
            fn divisors(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($key), u64::from(self.$key))),*]
            }
        }
    };
}

entry!(GpuProfile, Kind::Gpu, shipped::GPUS, aliases: aliases;
    memory_bytes, memory_bytes_per_s, host_link_bytes_per_s);
entry!(ModelProfile, Kind::Model, shipped::MODELS, aliases: aliases;
    layers, hidden, weight_bytes, kv_bytes_per_token, adapter_bytes_per_rank);
entry!(ColdStart, Kind::ColdStart, shipped::COLD_STARTS;
    remote_bytes_per_s, disk_bytes_per_s, default_loader_bytes_per_s, fast_loader_bytes_per_s, host_bytes_per_s);
entry!(FleetProfile, Kind::Fleet, shipped::FLEETS; workers, gpus_per_worker, host_memory_bytes, vcpus);
entry!(Tariff, Kind::Tariff, shipped::TARIFFS;);

/// The profiles there are. Everything that takes a name also takes an alias or a path to a user's TOML file.
pub struct Profiles;

impl Profiles {
    /// A GPU, e.g. `l40s`, `A100-SXM-80GB`, `./mine.toml`.
    pub fn gpu(name: &str) -> Result<GpuProfile, ProfileError> {
        find(name)
    }

    /// A backbone, e.g. `llama-2-7b`.
    pub fn model(name: &str) -> Result<ModelProfile, ProfileError> {
        find(name)
    }

    /// A cold-start regime, e.g. `container`.
    pub fn cold_start(name: &str) -> Result<ColdStart, ProfileError> {
        find(name)
    }

    /// A fleet, e.g. `l40s-x8`.
    pub fn fleet(name: &str) -> Result<FleetProfile, ProfileError> {
        find(name)
    }

    /// A tariff, e.g. `gpu-second`.
    pub fn tariff(name: &str) -> Result<Tariff, ProfileError> {
        find(name)
    }

    /// Every shipped tariff, the usual primary one first.
    pub fn tariffs() -> &'static [Tariff] {
        Tariff::all()
    }

    /// Step times of a pair from the shipped rows: an exact row first, then one of a model of the same shape; among equals
    /// `vidur`, then `llmservingsim`, then `aiconfigurator`.
    pub fn step(gpu: &GpuProfile, model: &ModelProfile) -> Result<StepProfile, ProfileError> {
        pick(shipped_steps(), gpu, model)
    }

    /// Step times of a pair from one source: a shipped row's name, a shipped file's name (`aiconfigurator`), or a path.
    pub fn step_from(
        source: &str,
        gpu: &GpuProfile,
        model: &ModelProfile,
    ) -> Result<StepProfile, ProfileError> {
        pick(&Self::steps_in(source)?, gpu, model)
    }

    /// All shipped step rows, preferred ones first.
    pub fn steps() -> &'static [StepProfile] {
        shipped_steps()
    }

    /// The rows of one source, named as in [`Profiles::step_from`].
    pub fn steps_in(source: &str) -> Result<Vec<StepProfile>, ProfileError> {
        let of_file = |row: &&StepProfile| row.name.split(',').next() == Some(source);
        let named = |row: &&StepProfile| row.name == source || of_file(row);
        let rows: Vec<StepProfile> = shipped_steps().iter().filter(named).cloned().collect();
        if !rows.is_empty() {
            return Ok(rows);
        }
        if looks_like_path(source) {
            return users_steps(source);
        }
        let files = shipped::STEPS.iter().map(|(name, _)| (*name).to_owned());
        Err(unknown(
            Kind::Step,
            source,
            files.chain(shipped_steps().iter().map(|row| row.name.clone())).collect(),
        ))
    }

    /// Names of the shipped files of one kind.
    pub fn names(kind: Kind) -> Vec<&'static str> {
        files(kind).iter().map(|(name, _)| *name).collect()
    }

    /// Whether a file has a section of this kind, as a file of `coldframe calibrate` may have.
    pub fn has_section(path: &str, kind: Kind) -> Result<bool, ProfileError> {
        let text = read(kind, path)?;
        Ok(text
            .parse::<toml::Table>()
            .is_ok_and(|all| all.get(kind.name()).is_some_and(toml::Value::is_table)))
    }

    /// The text of a profile as it is written, comments included: a file to copy and change.
    pub fn text(kind: Kind, name: &str) -> Result<String, ProfileError> {
        let canonical = match kind {
            Kind::Gpu => find::<GpuProfile>(name)?.name,
            Kind::Model => find::<ModelProfile>(name)?.name,
            Kind::ColdStart => find::<ColdStart>(name)?.name,
            Kind::Fleet => find::<FleetProfile>(name)?.name,
            Kind::Tariff => find::<Tariff>(name)?.name,
            Kind::Step => {
                let rows = Self::steps_in(name)?;
                rows.first().and_then(|row| row.name.split(',').next()).unwrap_or_default().to_owned()
            }
        };
        match files(kind).iter().find(|(file, _)| *file == canonical) {
            Some((_, text)) if !Path::new(name).is_file() => Ok((*text).to_owned()),
            _ => read(kind, name),
        }
    }
}

fn files(kind: Kind) -> &'static [shipped::File] {
    match kind {
        Kind::Gpu => shipped::GPUS,
        Kind::Model => shipped::MODELS,
        Kind::Step => shipped::STEPS,
        Kind::ColdStart => shipped::COLD_STARTS,
        Kind::Fleet => shipped::FLEETS,
        Kind::Tariff => shipped::TARIFFS,
    }
}

fn shipped_steps() -> &'static [StepProfile] {
    static ALL: OnceLock<Vec<StepProfile>> = OnceLock::new();
    ALL.get_or_init(|| {
        let file = |(name, text): &shipped::File| {
            parse::<StepFile>(Kind::Step, name, text).expect("shipped files are tested").rows()
        };
        shipped::STEPS.iter().flat_map(file).collect()
    })
}

// A step that takes no time would never let virtual time pass.
fn users_steps(path: &str) -> Result<Vec<StepProfile>, ProfileError> {
    let rows = parse_file::<StepFile>(Kind::Step, path)?.rows();
    let zero = |key| ProfileError::Zero { kind: Kind::Step, origin: path.to_owned(), key };
    if rows.iter().any(|row| row.prefill_floor_ps == 0) {
        return Err(zero("prefill_floor_ps"));
    }
    if rows.iter().any(|row| row.decode_a_ps == 0) {
        return Err(zero("decode_a_ps"));
    }
    if rows.iter().any(|row| !row.decode_rows_ps.sound()) {
        return Err(ProfileError::Rows { origin: path.to_owned() });
    }
    Ok(rows)
}

fn pick(rows: &[StepProfile], gpu: &GpuProfile, model: &ModelProfile) -> Result<StepProfile, ProfileError> {
    let on_gpu = |row: &&StepProfile| row.gpu == gpu.name || gpu.aliases.contains(&row.gpu);
    let exact = |row: &&StepProfile| row.model == model.name || model.aliases.contains(&row.model);
    let like = |row: &&StepProfile| model.same_shape.contains(&row.model);
    let found = rows.iter().filter(on_gpu).find(exact).or_else(|| rows.iter().filter(on_gpu).find(like));
    found.cloned().ok_or_else(|| {
        let mut known: Vec<String> = rows.iter().map(|row| format!("{}/{}", row.gpu, row.model)).collect();
        known.sort();
        known.dedup();
        ProfileError::NoSteps { gpu: gpu.name.clone(), model: model.name.clone(), known }
    })
}

fn find<T: Entry>(name: &str) -> Result<T, ProfileError> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    if let Some(entry) = T::all().iter().find(|e| is(e.name()) || e.aliases().iter().any(|a| is(a))) {
        return Ok(entry.clone());
    }
    if looks_like_path(name) {
        let entry: T = parse_file(T::KIND, name)?;
        return match entry.divisors().into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(ProfileError::Zero { kind: T::KIND, origin: name.to_owned(), key }),
            None => Ok(entry),
        };
    }
    Err(unknown(T::KIND, name, T::all().iter().map(|e| e.name().to_owned()).collect()))
}

// Model aliases such as `owner/name` are matched before this is asked.
fn looks_like_path(name: &str) -> bool {
    name.ends_with(".toml") || name.contains('/') || Path::new(name).is_file()
}

fn read(kind: Kind, path: &str) -> Result<String, ProfileError> {
    std::fs::read_to_string(path).map_err(|source| ProfileError::Read { kind, path: path.into(), source })
}

fn parse<T: DeserializeOwned>(kind: Kind, origin: &str, text: &str) -> Result<T, ProfileError> {
    let failed = |error: toml::de::Error| ProfileError::Parse {
        kind,
        origin: origin.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    };
    toml::from_str(text).map_err(failed)
}

/// A user's file: the section of its kind where it has sections, else the whole of it.
fn parse_file<T: DeserializeOwned>(kind: Kind, path: &str) -> Result<T, ProfileError> {
    let text = read(kind, path)?;
    let sections = text.parse::<toml::Table>().ok();
    match sections.as_ref().and_then(|all| all.get(kind.name())).filter(|section| section.is_table()) {
        Some(section) => {
            parse(kind, path, &toml::to_string(section).expect("a table read is a table written"))
        }
        None => parse(kind, path, &text),
    }
}

fn read_shipped<T: Entry>() -> Vec<T> {
    let one = |(name, text): &shipped::File| parse(T::KIND, name, text).expect("shipped files are tested");
    T::FILES.iter().map(one).collect()
}

// Near enough to be a slip of the hand: an arbitrary limit.
const NEAR: f64 = 0.75;

fn unknown(kind: Kind, name: &str, known: Vec<String>) -> ProfileError {
    let lower = name.to_ascii_lowercase();
    let score = |known: &String| strsim::jaro_winkler(&lower, &known.to_ascii_lowercase());
    let nearest =
        known.iter().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|best| score(best) > NEAR).cloned();
    ProfileError::Unknown { kind, name: name.to_owned(), nearest, known }
}
