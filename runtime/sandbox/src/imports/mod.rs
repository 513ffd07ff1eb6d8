//! Host functions of `coldframe:function`, linked by hand so that each begins with a count and a charge.
//!
//! Every function here takes what it needs from the call's own store; none reaches another call's.

pub mod generation;
mod http;
mod model;
pub(crate) mod outgoing;
pub(crate) mod reply;
mod small;

pub use generation::Generation;

use crate::call::Call;
use wasmtime::Engine;
use wasmtime::component::Linker;

/// Full name of an interface of ours.
pub(crate) fn interface(name: &str) -> String {
    format!("coldframe:function/{name}@0.1.0")
}

/// Everything a component may import, whoever it belongs to; grants are looked at when a function is used.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Call>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.instance(&interface("types"))?;
    model::link(&mut linker)?;
    reply::link(&mut linker)?;
    small::link(&mut linker)?;
    http::link(&mut linker)?;
    Ok(linker)
}
