//! Artifacts as the machine asks for them.

use crate::admin::ingest::artifacts::Artifacts;
use crate::call::Later;
use crate::live::core::ArtifactSource;
use crate::records::{AdapterRecord, ModuleRecord};
use std::path::PathBuf;

impl ArtifactSource for Artifacts {
    fn adapter_dir<'a>(&'a self, adapter: &'a AdapterRecord) -> Later<'a, Result<PathBuf, String>> {
        Box::pin(async move { self.adapter(adapter).await.map_err(|error| error.message) })
    }

    fn module<'a>(&'a self, module: &'a ModuleRecord) -> Later<'a, Result<PathBuf, String>> {
        Box::pin(async move { Artifacts::module(self, module).await.map_err(|error| error.message) })
    }
}
