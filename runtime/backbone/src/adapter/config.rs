//! `adapter_config.json`: every field supported, ignored or refused; none is passed over in silence.
//!
//! The fields are those of PEFT 0.21's `LoraConfig`; MoS and AdaMix folders share them and add one each
//! (`docs/adapters.md`). A field that this list does not know is refused unless its value says "off".

use super::json::Json;
use super::limits::{Findings, Limits};
use super::pattern::{Layers, Overrides, Selection, Targets, compile};
use crate::error::Error;

/// The file's name.
pub(crate) const FILE: &str = "adapter_config.json";

/// Training and bookkeeping: no influence on the forward pass.
const IGNORED: [&str; 11] = [
    "lora_dropout",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "megatron_core",
    "runtime_config",
];

/// Fields that change the forward pass or the layout in ways that are not served, with what to do.
const REFUSED: [(&str, &str); 11] = [
    ("trainable_token_indices", "rows of the embedding are replaced; train with modules_to_save instead"),
    ("target_parameters", "expert parameters are adapted; this runtime serves dense models"),
    ("alora_invocation_tokens", "activated LoRA is not served; train a plain LoRA"),
    ("layer_replication", "layers are repeated; the backbone's layers are fixed"),
    ("use_qalora", "QALoRA pools the input; train a plain LoRA"),
    ("use_bdlora", "block-diagonal LoRA is not served; train a plain LoRA"),
    ("arrow_config", "Arrow routing is not served"),
    ("monteclora_config", "MonteCLoRA is not served"),
    ("kasa_config", "KaSA changes the base weights; merge it into the base or train a plain LoRA"),
    ("megatron_config", "Megatron's parallel layout is not served; export a plain LoRA"),
    ("ensure_weight_tying", "tied copies of saved modules are not served; save both modules"),
];

/// Starts of `init_lora_weights` that change the base's weights.
const BASE_CHANGING: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// Starts that only choose the first numbers.
const HARMLESS_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What kind of adapter a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Lora,
    Mos,
    AdaMix,
}

/// The inference-relevant part of a configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub method: Method,
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    pub dora: bool,
    pub bias: bool,
    pub ranks: Overrides<usize>,
    pub alphas: Overrides<f64>,
    pub targets: Targets,
    pub task: Option<String>,
    pub base: Option<String>,
    /// MoS: shards that make up one vector.
    pub shards_per_vector: usize,
    /// AdaMix: adaptations that were trained side by side.
    pub adaptations: usize,
}

impl Config {
    /// Rank of the module at a path.
    pub fn rank_of(&self, path: &str) -> usize {
        self.ranks.of(path).unwrap_or(self.rank)
    }

    /// Factor on `B A x` at a path: alpha / r, or alpha / sqrt(r).
    pub fn scale_of(&self, path: &str) -> f64 {
        let (rank, alpha) = (self.rank_of(path) as f64, self.alphas.of(path).unwrap_or(self.alpha));
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Whether paths lack the leading `model.`, as they do when PEFT wrapped a bare `AutoModel`.
    pub fn headless(&self) -> bool {
        self.task.as_deref() == Some("FEATURE_EXTRACTION")
    }
}

/// Reads a configuration; what stands in the way goes to `findings`. `None` where the file is no JSON object.
pub(crate) fn parse(bytes: &[u8], limits: &Limits, findings: &mut Findings) -> Option<Config> {
    let fields = match serde_json::from_slice(bytes) {
        Ok(Json::Object(fields)) => fields,
        Ok(other) => {
            findings.invalid(FILE, format!("holds {}, expected an object", other.kind()));
            return None;
        }
        Err(error) => {
            findings.invalid(FILE, format!("no JSON: {error}"));
            return None;
        }
    };
    let mut reader = Reader { limits, findings, config: blank(), layers: None, components: Vec::new() };
    for (key, value) in &fields {
        reader.field(key, value);
    }
    reader.check(&Json::Object(fields));
    Some(reader.config)
}

/// PEFT's defaults.
fn blank() -> Config {
    let targets =
        Targets { include: Selection::Names(Vec::new()), exclude: None, layers: None, saved: Vec::new() };
    Config {
        method: Method::Lora,
        rank: 8,
        alpha: 8.0,
        rslora: false,
        dora: false,
        bias: false,
        ranks: Overrides::none(),
        alphas: Overrides::none(),
        targets,
        task: None,
        base: None,
        shards_per_vector: 1,
        adaptations: 1,
    }
}

struct Reader<'a> {
    limits: &'a Limits,
    findings: &'a mut Findings,
    config: Config,
    layers: Option<Vec<i64>>,
    components: Vec<String>,
}

impl Reader<'_> {
    fn invalid(&mut self, key: &str, problem: impl Into<String>) {
        self.findings.invalid(place(key), problem);
    }

    fn field(&mut self, key: &str, value: &Json) {
        match key {
            "peft_type" => self.method(value),
            "base_model_name_or_path" => self.config.base = value.text().map(str::to_owned),
            // A revision is a name inside the base's own history; nothing here can be compared with it.
            "revision" => {}
            "task_type" => self.task(value),
            "r" => self.config.rank = self.rank(key, value).unwrap_or(1),
            "lora_alpha" => self.config.alpha = self.alpha(key, value).unwrap_or(1.0),
            "use_rslora" => self.config.rslora = self.flag(key, value),
            "use_dora" => self.config.dora = self.flag(key, value),
            "lora_bias" => self.config.bias = self.flag(key, value),
            "fan_in_fan_out" => self.fan_in_fan_out(value),
            "rank_pattern" => self.rank_pattern(value),
            "alpha_pattern" => self.alpha_pattern(value),
            "target_modules" => self.target_modules(value),
            "exclude_modules" => self.config.targets.exclude = self.selection(key, value),
            "layers_to_transform" => self.layers = self.indices(key, value),
            "layers_pattern" => self.components = self.names(key, value),
            "modules_to_save" => self.modules_to_save(value),
            "init_lora_weights" => self.init(value),
            "bias" => self.base_bias(value),
            "shards_per_vector" => self.config.shards_per_vector = self.count(key, value),
            "adaptations" => self.config.adaptations = self.count(key, value),
            // A default of 16 is written beside `use_qalora: false`, so the size alone says nothing.
            "qalora_group_size" => {}
            _ => self.other(key, value),
        }
    }

    fn method(&mut self, value: &Json) {
        self.config.method = match value.text() {
            Some("LORA") => Method::Lora,
            Some("MOS") => Method::Mos,
            Some("ADAMIX") => Method::AdaMix,
            _ => {
                let problem = format!("{} is another method; LORA, MOS and ADAMIX are served", show(value));
                return self.invalid("peft_type", problem);
            }
        };
    }

    fn task(&mut self, value: &Json) {
        match value {
            Json::Null => {}
            Json::Text(task) if task == "CAUSAL_LM" || task == "FEATURE_EXTRACTION" => {
                self.config.task = Some(task.clone());
            }
            _ => self.invalid(
                "task_type",
                format!("{} is not served; CAUSAL_LM and FEATURE_EXTRACTION are", show(value)),
            ),
        }
    }

    fn rank(&mut self, key: &str, value: &Json) -> Option<usize> {
        let rank = match value {
            Json::Integer(rank) if *rank >= 1 => u64::try_from(*rank).ok(),
            _ => None,
        };
        match rank {
            None => self.invalid(key, format!("rank is {}, expected a whole number from 1", show(value))),
            Some(rank) if rank > self.limits.rank_max as u64 => {
                let what = format!("adapter {}: {}: rank", self.findings.path().display(), place(key));
                self.findings.push(Error::TooLarge { what, size: rank, limit: self.limits.rank_max as u64 });
            }
            Some(rank) => return usize::try_from(rank).ok(),
        }
        None
    }

    fn alpha(&mut self, key: &str, value: &Json) -> Option<f64> {
        let alpha = value.number().filter(|alpha| alpha.is_finite() && alpha.abs() <= self.limits.alpha_max);
        if alpha.is_none() {
            let bound = self.limits.alpha_max;
            self.invalid(key, format!("alpha is {}, expected a number of at most {bound}", show(value)));
        }
        alpha
    }

    fn flag(&mut self, key: &str, value: &Json) -> bool {
        match value {
            Json::Null => false,
            Json::Bool(flag) => *flag,
            other => {
                self.invalid(key, format!("is {}, expected true or false", show(other)));
                false
            }
        }
    }

    fn count(&mut self, key: &str, value: &Json) -> usize {
        match value {
            Json::Integer(count @ 1..=1024) => *count as usize,
            _ => {
                self.invalid(key, format!("is {}, expected a whole number from 1 to 1024", show(value)));
                1
            }
        }
    }

    /// PEFT itself resets it for linear layers, with a warning; no served family has the transposed kind.
    fn fan_in_fan_out(&mut self, value: &Json) {
        if self.flag("fan_in_fan_out", value) {
            self.findings.warn(
                "fan_in_fan_out is true: no layer of this backbone is stored transposed, so it is unused",
            );
        }
    }

    fn rank_pattern(&mut self, value: &Json) {
        for (key, value) in self.entries("rank_pattern", value) {
            let place = format!("rank_pattern.{}", name(&key));
            if let Some(rank) = self.rank(&place, &value)
                && let Err(problem) = self.config.ranks.add(&key, rank)
            {
                self.invalid(&place, problem);
            }
        }
    }

    fn alpha_pattern(&mut self, value: &Json) {
        for (key, value) in self.entries("alpha_pattern", value) {
            let place = format!("alpha_pattern.{}", name(&key));
            if let Some(alpha) = self.alpha(&place, &value)
                && let Err(problem) = self.config.alphas.add(&key, alpha)
            {
                self.invalid(&place, problem);
            }
        }
    }

    fn entries(&mut self, key: &str, value: &Json) -> Vec<(String, Json)> {
        match value {
            Json::Null => Vec::new(),
            Json::Object(fields) if fields.len() <= self.limits.patterns_max => fields.clone(),
            Json::Object(fields) => {
                let bound = self.limits.patterns_max;
                self.invalid(key, format!("{} patterns, at most {bound} are read", fields.len()));
                Vec::new()
            }
            other => {
                self.invalid(key, format!("is {}, expected an object", other.kind()));
                Vec::new()
            }
        }
    }

    fn target_modules(&mut self, value: &Json) {
        if let Some(selection) = self.selection("target_modules", value) {
            self.config.targets.include = selection;
        }
    }

    fn selection(&mut self, key: &str, value: &Json) -> Option<Selection> {
        match value {
            Json::Null => None,
            Json::Text(text) if key == "target_modules" && text.eq_ignore_ascii_case("all-linear") => {
                Some(Selection::AllLinear)
            }
            Json::Text(text) if text.is_empty() => None,
            Json::Text(text) => match compile(text) {
                Ok(regex) => Some(Selection::Pattern(regex)),
                Err(problem) => {
                    self.invalid(key, problem);
                    None
                }
            },
            list => Some(Selection::Names(self.names(key, list))),
        }
    }

    fn names(&mut self, key: &str, value: &Json) -> Vec<String> {
        let list = match value {
            Json::Null => return Vec::new(),
            Json::Text(text) => return vec![text.clone()],
            Json::List(list) if list.len() <= self.limits.patterns_max => list,
            other => {
                let bound = self.limits.patterns_max;
                self.invalid(key, format!("is {}, expected a list of at most {bound} names", other.kind()));
                return Vec::new();
            }
        };
        let names: Option<Vec<_>> = list.iter().map(|item| item.text().map(str::to_owned)).collect();
        names.unwrap_or_else(|| {
            self.invalid(key, "expected a list of strings");
            Vec::new()
        })
    }

    fn indices(&mut self, key: &str, value: &Json) -> Option<Vec<i64>> {
        let one = |item: &Json| match item {
            Json::Integer(index) => Some(*index),
            _ => None,
        };
        let indices = match value {
            Json::Null => return None,
            Json::List(list) => list.iter().map(one).collect::<Option<Vec<_>>>(),
            item => one(item).map(|index| vec![index]),
        };
        if indices.is_none() {
            self.invalid(key, "expected a layer's index or a list of them");
        }
        // An empty list means no restriction, as in PEFT.
        indices.filter(|indices| !indices.is_empty())
    }

    fn modules_to_save(&mut self, value: &Json) {
        for module in self.names("modules_to_save", value) {
            if super::names::saved_site(&module).is_none() {
                let problem = format!("{:?} cannot be replaced; lm_head and embed_tokens can", name(&module));
                self.invalid("modules_to_save", problem);
            }
            self.config.targets.saved.push(module);
        }
    }

    fn init(&mut self, value: &Json) {
        let text = match value {
            Json::Null | Json::Bool(_) => return,
            Json::Text(text) => text.to_ascii_lowercase(),
            _ => String::new(),
        };
        if BASE_CHANGING.iter().any(|start| text.starts_with(start)) {
            let problem =
                format!("{text:?} changes the base's weights; convert the adapter to plain LoRA when saving");
            self.invalid("init_lora_weights", problem);
        } else if !HARMLESS_INITS.contains(&text.as_str()) {
            let problem = format!("{} is unknown: it may change the base's weights", show(value));
            self.invalid("init_lora_weights", problem);
        }
    }

    fn base_bias(&mut self, value: &Json) {
        if !matches!(value.text(), Some("none") | None) || !matches!(value, Json::Text(_) | Json::Null) {
            let problem = format!("{} replaces biases of the base; train with bias \"none\"", show(value));
            self.invalid("bias", problem);
        }
    }

    fn other(&mut self, key: &str, value: &Json) {
        if IGNORED.contains(&key) || value.is_unset() {
            return;
        }
        match REFUSED.iter().find(|(refused, _)| *refused == key) {
            Some((_, why)) => self.invalid(key, *why),
            None => {
                let problem = format!(
                    "unknown field with the value {}: a newer PEFT may mean something by it",
                    show(value)
                );
                self.invalid(&name(key), problem);
            }
        }
    }

    /// What only the fields together can tell.
    fn check(&mut self, fields: &Json) {
        let set = |key| fields.get(key).is_some_and(|value| !value.is_unset());
        if !matches!(fields.get("peft_type"), Some(Json::Text(_))) {
            self.invalid("peft_type", "is missing; LORA, MOS and ADAMIX are served");
        }
        if !set("target_modules") && !set("modules_to_save") {
            self.invalid("target_modules", "names no module");
        }
        if self.config.bias && self.config.dora {
            self.invalid("lora_bias", "cannot be combined with use_dora (nor can it in PEFT)");
        }
        let foreign = match self.config.method {
            Method::Lora => ["shards_per_vector", "adaptations"].as_slice(),
            Method::Mos => ["adaptations", "use_dora", "lora_bias", "modules_to_save"].as_slice(),
            Method::AdaMix => ["shards_per_vector", "use_dora", "lora_bias"].as_slice(),
        };
        for key in foreign.iter().filter(|key| set(key)) {
            self.invalid(key, "does not go with this peft_type");
        }
        self.layer_list();
    }

    fn layer_list(&mut self) {
        let Some(indices) = self.layers.take() else {
            if !self.components.is_empty() {
                self.invalid("layers_pattern", "needs layers_to_transform");
            }
            return;
        };
        if !matches!(self.config.targets.include, Selection::Names(_)) {
            return self
                .invalid("layers_to_transform", "needs target_modules to be a list (so it does in PEFT)");
        }
        match Layers::new(indices, &self.components) {
            Ok(layers) => self.config.targets.layers = Some(layers),
            Err(problem) => self.invalid("layers_pattern", problem),
        }
    }
}

fn place(key: &str) -> String {
    format!("{FILE}: {key}")
}

/// A name of the file, made fit for a message.
pub(crate) fn name(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

fn show(value: &Json) -> String {
    match value {
        Json::Text(text) => format!("\"{}\"", name(text)),
        Json::Integer(number) => number.to_string(),
        Json::Float(number) => number.to_string(),
        Json::Bool(flag) => flag.to_string(),
        other => other.kind().to_owned(),
    }
}
