//! The sandbox of a process: one engine, one pool, one set of host functions, and the components that are loaded.

use crate::call::Call;
use crate::check::{Checked, check};
use crate::compile::Cache;
use crate::engine;
use crate::error::Error;
use crate::function::{Function, Module};
use crate::hook::HookCall;
use crate::imports;
use crate::lanes::Lanes;
use crate::limits::{Grants, Limits};
use crate::options::SandboxOptions;
use crate::ticker::Ticker;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

/// How often the folder of compiled components helped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Found and genuine.
    pub hits: u64,
    /// Not there.
    pub misses: u64,
    /// There, but not written by this sandbox or damaged: compiled again.
    pub forged: u64,
}

/// Where functions of all tenants run, each in instances of its own.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) options: SandboxOptions,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) linker: Linker<Call>,
    pub(crate) hook_linker: Linker<HookCall>,
    cache: Option<Cache>,
    /// Loaded components by digest, so that functions of one component share its code.
    modules: Mutex<HashMap<String, Weak<Module>>>,
    pub(crate) ticker: Ticker,
}

impl Sandbox {
    /// Starts an engine with its pool.
    ///
    /// # Errors
    /// The machine cannot run it, or the folder of compiled components cannot be used.
    pub fn new(options: SandboxOptions) -> Result<Self, Error> {
        let engine = engine::running(&options)?;
        let cache = options.cache.as_deref().map(|folder| Cache::open(folder, &engine)).transpose()?;
        let linkers = || Ok((imports::linker(&engine)?, crate::hook::linker(&engine)?));
        let (linker, hook_linker) =
            linkers().map_err(|error: wasmtime::Error| Error::Engine(format!("{error:#}")))?;
        let inner = Inner {
            places: Arc::new(Semaphore::new(options.calls as usize)),
            lanes: Lanes::new(options.background.clone()),
            linker,
            hook_linker,
            cache,
            modules: Mutex::new(HashMap::new()),
            ticker: Ticker::start(&engine)?,
            engine,
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The settings it was made with.
    pub fn options(&self) -> &SandboxOptions {
        &self.inner.options
    }

    /// Reads a component without compiling it.
    ///
    /// # Errors
    /// As [`check()`].
    pub fn check(&self, bytes: &[u8]) -> Result<Checked, Error> {
        check(bytes, &self.inner.options.module)
    }

    /// How often the folder of compiled components helped since the start.
    pub fn cache_counts(&self) -> CacheCounts {
        self.inner.cache.as_ref().map(Cache::counts).unwrap_or_default()
    }

    /// Makes a function of a component: checks it, takes its code from the cache or compiles it, links it.
    ///
    /// # Errors
    /// The component is refused, the compiler ran over its bounds, or a limit is over what the sandbox was made for.
    pub async fn load(&self, bytes: &[u8], limits: Limits, grants: Grants) -> Result<Function, Error> {
        self.fits(&limits)?;
        let checked = self.check(bytes)?;
        let module = match self.loaded(&checked.digest) {
            Some(module) => module,
            None => self.load_module(bytes, checked).await?,
        };
        Ok(Function::new(self.inner.clone(), module, limits, grants))
    }

    fn loaded(&self, digest: &str) -> Option<Arc<Module>> {
        self.modules().get(digest)?.upgrade()
    }

    fn modules(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Module>>> {
        self.inner.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load_module(&self, bytes: &[u8], checked: Checked) -> Result<Arc<Module>, Error> {
        let component = self.component(bytes, &checked.digest).await?;
        let module = Arc::new(Module::link(&self.inner, &component, checked)?);
        let mut modules = self.modules();
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(module.checked.digest.clone(), Arc::downgrade(&module));
        Ok(module)
    }

    async fn component(&self, bytes: &[u8], digest: &str) -> Result<Component, Error> {
        let inner = &self.inner;
        if let Some(component) = inner.cache.as_ref().and_then(|cache| cache.read(&inner.engine, digest)) {
            return Ok(component);
        }
        let code = crate::compile::compile(bytes, &inner.options, &inner.engine).await?;
        let component = crate::compile::trust(&inner.engine, &code)?;
        if let Some(cache) = &inner.cache {
            cache.write(digest, &code)?;
        }
        Ok(component)
    }

    fn fits(&self, limits: &Limits) -> Result<(), Error> {
        let options = &self.inner.options;
        let within = |what, asked, most| {
            if asked > most { Err(Error::Limit { what, asked, most }) } else { Ok(()) }
        };
        within("memory_bytes", limits.memory_bytes, options.memory_bytes_max)?;
        within("table_elements", limits.table_elements, options.table_elements_max)
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sandbox").field("options", &self.inner.options).finish_non_exhaustive()
    }
}
