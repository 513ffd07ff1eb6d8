//! A store of either back end to run a contract on, with its clock in the test's hand.

use coldframe_host::store::clock::ManualClock;
use coldframe_host::store::memory::{Memory, MemoryBlobs};
use coldframe_host::store::{Blobs, Jobs, Journal, Registry, StateStore, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Milliseconds since 1970 when tests begin: a day in 2026.
pub const BEGIN_MS: u64 = 1_780_000_000_000;

enum Kind {
    Memory(Arc<Memory>, Arc<MemoryBlobs>),
    /// The folder last, so that it goes after the store is closed.
    Local(Option<Store>, TempDir),
}

/// A store to test.
pub struct Place {
    pub clock: Arc<ManualClock>,
    kind: Kind,
}

/// A folder of its own, in memory where the machine has a file system there: a sync costs nothing then and means as much,
/// since no test here cuts the power.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder for tests")
}

impl Place {
    pub fn memory() -> Self {
        let clock = Arc::new(ManualClock::new(BEGIN_MS));
        let blobs = MemoryBlobs::new(clock.clone()).expect("a folder for blobs");
        Self { kind: Kind::Memory(Arc::new(Memory::new(clock.clone())), Arc::new(blobs)), clock }
    }

    pub async fn local() -> Self {
        let clock = Arc::new(ManualClock::new(BEGIN_MS));
        let mut place = Self { kind: Kind::Local(None, folder()), clock };
        place.reopen().await;
        place
    }

    /// Closes it and opens it again.
    pub async fn reopen(&mut self) {
        match &mut self.kind {
            Kind::Memory(memory, _) => memory.reopen(),
            Kind::Local(store, folder) => {
                drop(store.take());
                *store = Some(Store::open(folder.path(), self.clock.clone()).await.expect("a sound store"));
            }
        }
    }

    pub fn store(&self) -> &Store {
        match &self.kind {
            Kind::Local(Some(store), _) => store,
            _ => panic!("only the store on disk is one"),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.store().folder().to_owned()
    }

    pub fn registry(&self) -> Arc<dyn Registry> {
        match &self.kind {
            Kind::Memory(memory, _) => memory.clone(),
            Kind::Local(..) => self.store().registry(),
        }
    }

    pub fn jobs(&self) -> Arc<dyn Jobs> {
        match &self.kind {
            Kind::Memory(memory, _) => memory.clone(),
            Kind::Local(..) => self.store().jobs(),
        }
    }

    pub fn blobs(&self) -> Arc<dyn Blobs> {
        match &self.kind {
            Kind::Memory(_, blobs) => blobs.clone(),
            Kind::Local(..) => self.store().blobs(),
        }
    }

    pub fn journal(&self) -> Arc<dyn Journal> {
        match &self.kind {
            Kind::Memory(memory, _) => memory.clone(),
            Kind::Local(..) => self.store().journal(),
        }
    }

    pub fn state(&self) -> Arc<dyn StateStore> {
        match &self.kind {
            Kind::Memory(memory, _) => memory.clone(),
            Kind::Local(..) => self.store().state(),
        }
    }
}
