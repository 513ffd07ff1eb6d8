//! A function's code: compiling it, reading it compiled, one instance of it with a call.
//!
//! The guest is the sandbox's smallest: what a larger one takes more is its own. Compiling happens in this process, so the
//! start of the compiling child is not in it.

use super::loads::{median, nanos};
use crate::bench_sandbox::stage::{Stage, request};
use anyhow::{Context, Result};
use coldframe_sandbox::{Function, Grants, Limits, Sandbox, SandboxOptions};
use coldframe_simulator::calibrate::Sandbox as Times;
use std::path::Path;
use std::time::Instant;
use tokio::runtime::Runtime;

/// The smallest guest.
const GUEST: &[u8] = include_bytes!("../../../sandbox/guests/bare.wasm");
/// Calls of each round.
const CALLS: usize = 200;

/// Measures.
pub fn measure(rounds: u32) -> Result<Times> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut compile, mut load, mut call) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let folder = tempfile::tempdir()?;
        compile.push(loaded(&runtime, folder.path())?.1);
        let (function, took) = loaded(&runtime, folder.path())?;
        load.push(took);
        for _ in 0..CALLS {
            call.push(called(&runtime, &function)?);
        }
    }
    let of = |times: Vec<u64>| median(times.into_iter());
    Ok(Times { compile_ns: of(compile), load_ns: of(load), instantiate_ns: of(call) })
}

/// Loads the guest through a folder of compiled components, in a sandbox of its own; nanoseconds.
fn loaded(runtime: &Runtime, cache: &Path) -> Result<(Function, u64)> {
    let cache = Some(cache.to_owned());
    let sandbox = Sandbox::new(SandboxOptions { cache, calls: 8, hooks: 1, ..SandboxOptions::default() })?;
    let start = Instant::now();
    let function = runtime.block_on(sandbox.load(GUEST, Limits::default(), Grants::default()))?;
    Ok((function, nanos(start)))
}

/// One call of it, nanoseconds.
fn called(runtime: &Runtime, function: &Function) -> Result<u64> {
    let stage = Stage::new();
    let reply = stage.reply();
    let start = Instant::now();
    let end = runtime.block_on(function.call(request(&[]), stage, reply));
    let took = nanos(start);
    end.result.context("the smallest guest failed")?;
    Ok(took)
}
