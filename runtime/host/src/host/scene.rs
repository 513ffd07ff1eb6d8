//! The machine as metrics look at it: engines, residency, and what the registry knows of each function.

use super::control::Control;
use crate::call::Later;
use crate::live::core::FunctionResidency;
use crate::observe::{EngineScene, FunctionScene, Look, Scene};
use coldframe_backbone::executor::PAGE_TOKENS;
use coldframe_policy::units::BackboneId;

impl Look for Control {
    fn look(&self) -> Later<'_, Option<Scene>> {
        Box::pin(async move {
            let residency = self.live.residency().await.ok()?;
            let functions = residency.functions.iter().map(|seen| self.function(seen)).collect();
            let engines = self.backbones.iter().enumerate();
            let engines = engines.map(|(place, name)| self.engine(place, name)).collect();
            Some(Scene { engines, residency, functions })
        })
    }
}

impl Control {
    fn engine(&self, place: usize, name: &str) -> EngineScene {
        let model = self.machine.model(BackboneId(u32::try_from(place).unwrap_or(u32::MAX)));
        let snapshot = model.map(|model| model.engine.snapshot());
        EngineScene { name: name.to_owned(), snapshot, page_tokens: PAGE_TOKENS }
    }

    fn function(&self, seen: &FunctionResidency) -> FunctionScene {
        let names = &seen.key.names;
        let function = self.catalog.function(&names.tenant, &names.function);
        let generation = function.as_ref().and_then(|function| {
            let id = seen.key.generation.as_ref()?;
            function.generations.iter().find(|generation| generation.id == *id)
        });
        let adapters = generation.map_or(&[][..], |generation| &generation.adapters);
        FunctionScene {
            seen: seen.clone(),
            // A call of the base model goes under the backbone's own name.
            backbone: generation
                .map_or_else(|| names.function.clone(), |generation| generation.backbone.clone()),
            rank: adapters.iter().map(|adapter| adapter.rank).max().unwrap_or(0),
            adapter_bytes: adapters.iter().map(|adapter| adapter.memory_bytes).sum(),
        }
    }
}
