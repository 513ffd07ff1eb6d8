//! From the catalog to the decisions: which generations may be called, and which are pinned. What a function logged goes
//! with it: one of the same name later has a log of its own.

use crate::catalog::CatalogChange;
use crate::live::core::{CatalogChange as LiveChange, Live};
use crate::live::logs::Logs;
use crate::records::{Digest, Function, Names};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the decisions were told.
pub struct Feed {
    logs: Arc<Logs>,
    known: BTreeMap<Names, BTreeSet<Digest>>,
    pinned: BTreeMap<Names, Digest>,
}

impl Feed {
    /// Nothing was told yet.
    pub fn new(logs: Arc<Logs>) -> Self {
        Self { logs, known: BTreeMap::new(), pinned: BTreeMap::new() }
    }

    /// Passes changes on until the catalog ends.
    pub async fn follow(mut self, live: Live, mut changes: mpsc::UnboundedReceiver<CatalogChange>) {
        while let Some(change) = changes.recv().await {
            self.pass(&live, change).await;
        }
    }

    /// Passes on what is there already.
    pub async fn catch_up(&mut self, live: &Live, changes: &mut mpsc::UnboundedReceiver<CatalogChange>) {
        while let Ok(change) = changes.try_recv() {
            self.pass(live, change).await;
        }
    }

    async fn pass(&mut self, live: &Live, change: CatalogChange) {
        match change {
            CatalogChange::Put(function) => self.put(live, &function).await,
            CatalogChange::Removed(names) => {
                self.pinned.remove(&names);
                for generation in self.known.remove(&names).unwrap_or_default() {
                    tell(live, LiveChange::Removed { names: names.clone(), generation });
                }
                self.logs.forget(&names);
            }
        }
    }

    async fn put(&mut self, live: &Live, function: &Function) {
        let names = &function.names;
        let now: BTreeSet<Digest> =
            function.generations.iter().map(|generation| generation.id.clone()).collect();
        let before = self.known.insert(names.clone(), now.clone()).unwrap_or_default();
        for generation in &function.generations {
            if !before.contains(&generation.id) {
                let generation = Arc::new(generation.clone());
                tell(live, LiveChange::Added { names: names.clone(), generation });
            }
        }
        for gone in before.difference(&now) {
            tell(live, LiveChange::Removed { names: names.clone(), generation: gone.clone() });
        }
        self.pin(live, function).await;
    }

    /// The live generation of a pinned function is pinned, and no other of it.
    async fn pin(&mut self, live: &Live, function: &Function) {
        let first = function.aliases.get(crate::catalog::LIVE).and_then(|targets| targets.first());
        let wanted = first.filter(|_| function.pinned).map(|target| target.generation.clone());
        let before = self.pinned.get(&function.names).cloned();
        if before == wanted {
            return;
        }
        if let Some(before) = &before {
            // One that went meanwhile is pinned no more either way.
            let _ = live.pin(&function.names, before, false).await;
        }
        match &wanted {
            Some(generation) => {
                if let Err(error) = live.pin(&function.names, generation, true).await {
                    tracing::warn!(%error, function = function.names.function, "a function could not be pinned");
                }
                self.pinned.insert(function.names.clone(), generation.clone());
            }
            None => drop(self.pinned.remove(&function.names)),
        }
    }
}

fn tell(live: &Live, change: LiveChange) {
    if let Err(error) = live.apply(change) {
        tracing::warn!(%error, "a function cannot be served here");
    }
}
