//! Functions' code in the sandbox: checked at deployment, compiled in a child process, kept compiled under a MAC.

use crate::admin::error::{AdminError, Kind, Result};
use crate::admin::live::ModuleReport;
use crate::live::code::Code;
use crate::live::component::{ComponentCode, grants, limits};
use crate::live::core::machine::Compiler;
use crate::records::{ModuleRecord, Names, Settings};
use crate::store::LocalFile;
use coldframe_sandbox::{Error, Sandbox, World};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The sandbox as the machine and the administration use it.
#[derive(Clone)]
pub struct Components {
    sandbox: Sandbox,
    handle: Handle,
}

impl Components {
    /// Over a sandbox, on the runtime that it is made on.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, handle: Handle::current() }
    }

    /// Checks a component as it is deployed, and compiles it, so that its first call need not.
    ///
    /// # Errors
    /// `invalid_module` and its like.
    pub async fn check(&self, file: &LocalFile, settings: &Settings) -> Result<ModuleReport> {
        let bytes = tokio::fs::read(&file.path).await;
        let bytes = bytes.map_err(|error| AdminError::internal(format!("blob: {error}")))?;
        let grants = grants(settings).map_err(refused)?;
        let function = self.sandbox.load(&bytes, limits(settings), grants).await.map_err(refused)?;
        let checked = function.checked();
        let shut = checked.not_granted(function.grants());
        let warn = |import: &&str| {
            format!(
                "the component imports `{import}`, which `settings.capabilities` does not grant: using it ends a call"
            )
        };
        let warnings = shut.iter().map(warn).collect();
        let record = ModuleRecord {
            digest: file.digest.clone(),
            bytes: file.bytes,
            world: world(checked.world).to_owned(),
        };
        Ok(ModuleReport { record, warnings })
    }
}

fn world(world: World) -> &'static str {
    match world {
        World::Http => "wasi-http",
        World::FunctionWithHook => "coldframe+hook",
        World::Function => "coldframe",
    }
}

fn refused(error: Error) -> AdminError {
    let (kind, code) = match &error {
        Error::TooLarge { .. } => (Kind::TooLarge, "module_too_large"),
        Error::CompileTimeout { .. } => (Kind::Unprocessable, "compile_timeout"),
        Error::CompileMemory { .. } => (Kind::Unprocessable, "compile_memory"),
        Error::UnknownImport(_) => (Kind::Invalid, "unknown_import"),
        Error::Limit { .. } | Error::Pattern { .. } => (Kind::Invalid, "invalid_request"),
        Error::Invalid(_) | Error::NoHandler => (Kind::Invalid, "invalid_module"),
        _ => (Kind::Internal, "internal_error"),
    };
    AdminError::new(kind, code, error.to_string()).about("module")
}

impl Compiler for Components {
    fn compile(
        &self,
        _: &Names,
        _: &ModuleRecord,
        file: &Path,
        settings: &Settings,
    ) -> std::result::Result<Arc<dyn Code>, String> {
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        let grants = grants(settings).map_err(|error| error.to_string())?;
        let loaded = self.handle.block_on(self.sandbox.load(&bytes, limits(settings), grants));
        Ok(Arc::new(ComponentCode(loaded.map_err(|error| error.to_string())?)))
    }
}
