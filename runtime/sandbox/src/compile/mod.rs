//! Compiles components ahead of time, in a child process with bounds of time and memory, and keeps what it made under a MAC.

mod cache;
mod child;
mod parent;

pub(crate) use cache::Cache;
pub use child::compile_child_main;

use crate::error::Error;
use crate::options::SandboxOptions;
use std::ffi::OsString;
use std::path::PathBuf;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The program that compiles: one whose `main` calls [`compile_child_main`] when it is started with these arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Compiles a component, by the child process where one is named.
pub(crate) async fn compile(
    bytes: &[u8],
    options: &SandboxOptions,
    engine: &Engine,
) -> Result<Vec<u8>, Error> {
    let bytes = bytes.to_vec();
    match &options.compiler {
        Some(compiler) => parent::compile(compiler, bytes, &options.compile).await,
        None => {
            let engine = engine.clone();
            let work = move || engine.precompile_component(&bytes);
            let done = tokio::task::spawn_blocking(work).await;
            let done = done.map_err(|error| Error::Compiler(error.to_string()))?;
            done.map_err(|error| Error::Invalid(format!("{error:#}")))
        }
    }
}

/// Takes code of our own compiler for a component.
#[expect(
    unsafe_code,
    reason = "code comes from our compiler or from our cache under its MAC, never from a tenant"
)]
pub(crate) fn trust(engine: &Engine, code: &[u8]) -> Result<Component, Error> {
    // SAFETY: callers pass what `precompile_component` of this version gave, straight or through the MAC of the cache.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| Error::Compiler(format!("its output does not fit this engine: {error:#}")))
}
