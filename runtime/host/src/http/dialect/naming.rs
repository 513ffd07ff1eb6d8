//! Which function a request means, in every dialect there is; two that disagree are an error.
//!
//! In this order: `model` as an alias (OpenAI, vLLM; LoRAX's adapter id, where empty is the base), `base:alias`
//! (SGLang), `base::alias` (mistral.rs), `adapter` (mistral.rs), `adapter_id` (LoRAX's `/generate`), `lora_path`
//! (SGLang's `/generate`), `lora` (llama.cpp), `lora_adapter_name` (ServerlessLLM). Names of base models win over
//! functions of the same name. An unknown name is 404 and never the base.

use super::scales;
use crate::http::app::{App, Base, Bound, Principal};
use crate::http::fields::Fields;
use crate::http::problem::{Problem, Result};
use crate::records::Names;
use serde_json::Value;

/// Longest name of a model or adapter, bytes.
const NAME_BYTES_MAX: usize = 512;

/// What a request is for.
#[derive(Debug, Clone)]
pub struct Named {
    /// The function or base model, bound.
    pub bound: Bound,
    /// What the caller wrote in `model`, for the reply.
    pub model: String,
    /// The base model behind it.
    pub base: Base,
}

/// Who asks for what.
pub struct Asked<'a> {
    /// The application.
    pub app: &'a App,
    /// Who.
    pub who: &'a Principal,
    /// `x-request-id`.
    pub id: &'a str,
    /// `x-gateway-model-name-rewrite`: stands in for `model`.
    pub rewrite: Option<&'a str>,
    /// Whether a request without any name means the base.
    pub lenient: bool,
}

/// Binds a request to a function or a base model.
///
/// # Errors
/// 404 `model_not_found`, 400 `conflicting_adapters`, 400 naming a field that is wrong.
pub fn bind(asked: &Asked<'_>, fields: &Fields<'_>) -> Result<Named> {
    let written = fields.text("model", NAME_BYTES_MAX)?;
    let model = asked.rewrite.or(written).map(|name| asked.model(name)).transpose()?;
    let claims = asked.claims(fields)?;
    let named_nothing = model.is_none() && claims.is_empty();
    let named_base = model.as_ref().and_then(|model| model.base.clone());
    let mut all =
        model.and_then(|model| model.function.map(|bound| ("model", Some(bound)))).into_iter().chain(claims);
    let bound = match all.next() {
        Some((first, bound)) => {
            if let Some((other, _)) = all.find(|(_, other)| !same(other.as_ref(), bound.as_ref())) {
                return Err(conflict(first, other));
            }
            bound
        }
        None => match asked.app.scales.get(&asked.who.tenant) {
            Some(function) => Some(asked.function(&function, "model")?),
            None if named_nothing && !asked.lenient => return Err(Problem::missing("model")),
            None => None,
        },
    };
    asked.finish(bound, named_base, written)
}

fn same(a: Option<&Bound>, b: Option<&Bound>) -> bool {
    let key = |bound: &Bound| {
        (bound.names.clone(), bound.generation.as_ref().map(|g| g.id.clone()), bound.adapter.clone())
    };
    a.map(key) == b.map(key)
}

fn conflict(first: &str, other: &str) -> Problem {
    let message = format!("{first} and {other} name different adapters; keep one of them");
    Problem { code: "conflicting_adapters".into(), ..Problem::invalid(other, message) }
}

/// What `model` says: a base, a function, or both.
#[derive(Default)]
struct Model {
    base: Option<Base>,
    function: Option<Bound>,
}

/// A field and what it names; `None` is the base and nothing else.
type Claim = (&'static str, Option<Bound>);

impl Asked<'_> {
    fn base(&self, name: &str) -> Option<Base> {
        let bases = self.app.behind.functions.bases();
        bases.into_iter().find(|base| base.id == name || base.also.iter().any(|also| also == name))
    }

    fn function(&self, name: &str, field: &str) -> Result<Bound> {
        let found = self.app.behind.functions.resolve(&self.who.tenant, name, self.id);
        found.ok_or_else(|| Problem::no_model(name).about(field))
    }

    fn model(&self, name: &str) -> Result<Model> {
        if name.is_empty() {
            return Ok(Model::default());
        }
        if let Some(base) = self.base(name) {
            return Ok(Model { base: Some(base), function: None });
        }
        if let Ok(function) = self.function(name, "model") {
            return Ok(Model { base: None, function: Some(function) });
        }
        for separator in ["::", ":"] {
            // From the right: a base's own name may hold a colon.
            let Some((base, alias)) = name.rsplit_once(separator) else { continue };
            if let (Some(base), Ok(function)) = (self.base(base), self.function(alias, "model")) {
                return Ok(Model { base: Some(base), function: Some(function) });
            }
        }
        Err(Problem::no_model(name))
    }

    fn claims(&self, fields: &Fields<'_>) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        if let Some(value) = fields.get("adapter") {
            claims.push(("adapter", self.adapter(value)?));
        }
        for field in ["adapter_id", "lora_path", "lora_adapter_name"] {
            if let Some(value) = fields.get(field) {
                let name = one_name(value, field)?;
                claims.push((field, name.map(|name| self.alias(name, field)).transpose()?.flatten()));
            }
        }
        if let Some(list) = fields.get("lora") {
            let cards = self.app.behind.functions.list(&self.who.tenant);
            let name = scales::chosen(list, &cards, "lora")?;
            claims.push(("lora", name.map(|name| self.function(&name, "lora")).transpose()?));
        }
        Ok(claims)
    }

    /// mistral.rs: a name, or the generation itself.
    fn adapter(&self, value: &Value) -> Result<Option<Bound>> {
        if let Value::String(name) = value {
            return self.alias(name, "adapter");
        }
        let fields = value.as_object().filter(|fields| fields.len() == 1);
        let Some(generation) = fields.and_then(|fields| fields.get("generation")?.as_str()) else {
            let problem = "must be a name or {\"generation\": \"64 hexadecimal digits\"}";
            return Err(Problem::invalid("adapter", problem));
        };
        let found = self.app.behind.functions.generation(&self.who.tenant, generation);
        found.map(Some).ok_or_else(|| Problem::no_model(generation).about("adapter"))
    }

    /// An adapter's name; a base's name and nothing mean the base.
    fn alias(&self, name: &str, field: &str) -> Result<Option<Bound>> {
        if name.is_empty() || self.base(name).is_some() {
            return Ok(None);
        }
        self.function(name, field).map(Some)
    }

    fn finish(&self, bound: Option<Bound>, named: Option<Base>, written: Option<&str>) -> Result<Named> {
        let mut bases = self.app.behind.functions.bases();
        let Some(bound) = bound else {
            let base = named.unwrap_or_else(|| bases.swap_remove(0));
            let names = Names { tenant: self.who.tenant.clone(), function: base.id.clone() };
            let model = written.filter(|model| !model.is_empty()).unwrap_or(&base.id).to_owned();
            return Ok(Named { bound: Bound { names, generation: None, adapter: None }, model, base });
        };
        let backbone = bound.generation.as_ref().map(|generation| generation.backbone.as_str());
        let own = backbone.and_then(|id| self.base(id));
        if let (Some(named), Some(own)) = (&named, &own)
            && named.id != own.id
        {
            let problem = format!("{} was made for {}, not for {}", bound.names.function, own.id, named.id);
            return Err(Problem {
                code: "conflicting_adapters".into(),
                ..Problem::invalid("model", problem)
            });
        }
        let base = own.or(named).unwrap_or_else(|| bases.swap_remove(0));
        let model = written.filter(|model| !model.is_empty()).unwrap_or(&bound.names.function).to_owned();
        Ok(Named { bound, model, base })
    }
}

/// SGLang allows a list with one entry for each prompt; this server takes one prompt a request there.
fn one_name<'v>(value: &'v Value, field: &'static str) -> Result<Option<&'v str>> {
    let entry = match value {
        Value::Array(items) if items.len() == 1 => &items[0],
        other => other,
    };
    match entry {
        Value::Null => Ok(None),
        Value::String(name) if name.len() <= NAME_BYTES_MAX => Ok(Some(name)),
        _ => Err(Problem::invalid(field, format!("must be one name of at most {NAME_BYTES_MAX} bytes"))),
    }
}
