//! vLLM's load, unload and list, as actions of the administration.

use super::control::Control;
use crate::admin::action::{AdapterSpec, DEFAULT_ADAPTER, FunctionSpec};
use crate::admin::ingest::Uploads;
use crate::admin::{Action, Admin, At, Kind, Principal, Terms};
use crate::call::Later;
use crate::http::app::{
    Adapters, LoadAdapter, LoraAdapter, LoraGeneration, LoraList, Principal as Caller, UnloadAdapter,
};
use crate::http::problem::{Problem, Result};
use crate::live::core::Residency;
use crate::records::{Function, Generation};
use http::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Adapters listed at once.
const LISTED_MAX: usize = 10_000;

/// Loads and unloads.
pub struct Dialect {
    /// Carries out.
    pub admin: Arc<Admin>,
    /// What runs.
    pub control: Arc<Control>,
    /// Largest rank that is accepted.
    pub max_rank: u32,
    /// Bytes that device memory may hold.
    pub max_bytes: u64,
}

fn principal(who: &Caller) -> Principal {
    Principal { tenant: who.tenant.clone(), scope: who.scope, key: who.key.clone() }
}

fn at(name: &str) -> At {
    At { tenant: None, function: name.to_owned() }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "lora_adapter_not_found", "the adapter cannot be found")
        .about("lora_name")
}

impl Dialect {
    async fn seen(&self) -> Result<Residency> {
        self.control.live.residency().await.map_err(|error| Problem::internal(&error.to_string()))
    }

    fn shown(&self, function: &Function, seen: &Residency) -> Option<LoraAdapter> {
        let generation = live(function)?;
        let adapter = generation.adapters.first()?;
        let place = seen.functions.iter().find(|place| {
            place.key.names == function.names && place.key.generation.as_ref() == Some(&generation.id)
        });
        Some(LoraAdapter {
            id: function.names.function.clone(),
            generation: generation.id.clone(),
            rank: adapter.rank,
            bytes: generation.adapters.iter().map(|adapter| adapter.memory_bytes).sum(),
            source: adapter.source.clone(),
            tier: place.map_or("disk".to_owned(), |place| format!("{:?}", place.tier).to_ascii_lowercase()),
            pinned: function.pinned,
        })
    }

    async fn register(&self, who: &Caller, ask: LoadAdapter) -> Result<LoraAdapter> {
        let uri = Some(ask.path);
        let adapter = AdapterSpec { name: DEFAULT_ADAPTER.to_owned(), uri, ..AdapterSpec::default() };
        let spec = FunctionSpec {
            backbone: ask.base,
            adapters: vec![adapter],
            expected_generation: ask.expected_generation,
            pinned: ask.pinned.then_some(true),
            ..FunctionSpec::default()
        };
        let uploads = Uploads::default();
        let action = Action::FunctionPut { at: at(&ask.name), spec, uploads };
        let terms = Terms { if_none_match: !ask.in_place, ..Terms::default() };
        let who_asks = principal(who);
        self.admin.run(&who_asks, action, &terms).await.map_err(|error| match error.kind {
            Kind::Precondition => Problem::new(
                StatusCode::CONFLICT,
                "lora_adapter_already_loaded",
                format!("the adapter '{}' has already been loaded", ask.name),
            )
            .about("lora_name"),
            _ => error.into(),
        })?;
        if ask.load {
            self.admin.run(&who_asks, Action::Prewarm { at: at(&ask.name) }, &Terms::default()).await?;
        }
        let seen = self.seen().await?;
        let function = self.control.catalog.function(&who.tenant, &ask.name);
        let shown = function.and_then(|function| self.shown(&function, &seen));
        shown.ok_or_else(|| Problem::internal("a function that was just registered is not there"))
    }

    async fn remove(&self, who: &Caller, ask: UnloadAdapter) -> Result<u32> {
        let function = self.control.catalog.function(&who.tenant, &ask.name).ok_or_else(not_found)?;
        if let Some(expected) = &ask.expected_generation
            && live(&function).is_none_or(|generation| generation.id != *expected)
        {
            let message = "the adapter is another generation: list the adapters again";
            return Err(Problem::new(StatusCode::CONFLICT, "lora_generation_mismatch", message));
        }
        let seen = self.seen().await?;
        let own = seen.functions.iter().filter(|place| place.key.names == function.names);
        let leases: u64 = own.map(|place| place.leases).sum();
        let action = Action::FunctionDelete { at: at(&ask.name) };
        let done = self.admin.run(&principal(who), action, &Terms::default()).await;
        done.map_err(|error| if error.kind == Kind::Absent { not_found() } else { error.into() })?;
        Ok(u32::try_from(leases).unwrap_or(u32::MAX))
    }

    async fn listed(&self, who: &Caller) -> Result<LoraList> {
        let seen = self.seen().await?;
        let functions = self.control.catalog.functions(Some(&who.tenant), None, LISTED_MAX);
        let adapters: Vec<LoraAdapter> =
            functions.iter().filter_map(|function| self.shown(function, &seen)).collect();
        let mut generations = BTreeMap::<String, LoraGeneration>::new();
        for place in seen.functions.iter().filter(|place| place.key.names.tenant == who.tenant) {
            let Some(id) = place.key.generation.clone() else { continue };
            let named = adapters.iter().filter(|adapter| adapter.generation == id);
            let aliases: Vec<String> = named.map(|adapter| adapter.id.clone()).collect();
            let record = functions.iter().flat_map(|function| &function.generations).find(|g| g.id == id);
            let rank = record.and_then(|record| record.adapters.first()).map_or(0, |adapter| adapter.rank);
            let leases = u32::try_from(place.leases).unwrap_or(u32::MAX);
            let entry = generations.entry(id.clone()).or_insert_with(|| LoraGeneration {
                generation: id,
                retired: aliases.is_empty(),
                aliases,
                rank,
                bytes: place.device_bytes,
                active_leases: 0,
            });
            entry.active_leases += leases;
        }
        Ok(LoraList {
            adapters,
            generations: generations.into_values().collect(),
            max_adapters: None,
            max_rank: self.max_rank,
            max_bytes: self.max_bytes,
        })
    }
}

/// The generation that a function's bare name means first.
fn live(function: &Function) -> Option<&Generation> {
    let target = function.aliases.get(crate::catalog::LIVE)?.first()?;
    function.generations.iter().find(|generation| generation.id == target.generation)
}

impl Adapters for Dialect {
    fn load<'a>(&'a self, who: &'a Caller, ask: LoadAdapter) -> Later<'a, Result<LoraAdapter>> {
        Box::pin(self.register(who, ask))
    }

    fn unload<'a>(&'a self, who: &'a Caller, ask: UnloadAdapter) -> Later<'a, Result<u32>> {
        Box::pin(self.remove(who, ask))
    }

    fn list<'a>(&'a self, who: &'a Caller) -> Later<'a, Result<LoraList>> {
        Box::pin(self.listed(who))
    }
}
