//! An arbitrary script for the guest that does what it is told: the call ends within its limits and leaves nothing alive.
#![no_main]

use coldframe_sandbox::services::{Event, Failure, Generation, Later, Level, Reason, Reply, Services, Task};
use coldframe_sandbox::{Function, Grants, Limits, Request, Route, Sandbox, SandboxOptions};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct One(bool);

impl Generation for One {
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>> {
        let end = Event::End { reason: Reason::Stop, text: "x".to_owned(), prompt_tokens: 1, completion_tokens: 1 };
        let event = (!std::mem::replace(&mut self.0, true)).then_some(end);
        Box::pin(async move { Ok(event) })
    }
    fn cancel(&mut self) {}
}

impl Drop for One {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Nothing;

impl Services for Nothing {
    fn generate(&self, _task: Task) -> Later<'_, Result<Box<dyn Generation>, Failure>> {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(Box::new(One(false)) as Box<dyn Generation>) })
    }
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(text.bytes().map(u32::from).collect())
    }
    fn detokenize(&self, _tokens: &[u32]) -> Result<String, Failure> {
        Ok(String::new())
    }
    fn adapters(&self) -> Vec<String> {
        Vec::new()
    }
    fn state_get<'a>(&'a self, _key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>> {
        Box::pin(async { Ok(None) })
    }
    fn state_set<'a>(&'a self, _key: &'a str, _value: Vec<u8>) -> Later<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    fn state_delete<'a>(&'a self, _key: &'a str) -> Later<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    fn state_keys<'a>(&'a self, _prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn log(&self, _level: Level, message: &str) {
        assert!(!message.contains(['\n', '\u{1b}']));
    }
}

struct Sink;

impl Reply for Sink {
    fn start(&mut self, _status: u16, _headers: Vec<(String, String)>) -> Result<(), Failure> {
        Ok(())
    }
    fn write(&mut self, _bytes: Vec<u8>) -> Later<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    fn finish(&mut self, _reason: &str) {}
}

fn stage() -> &'static (tokio::runtime::Runtime, Function) {
    static STAGE: OnceLock<(tokio::runtime::Runtime, Function)> = OnceLock::new();
    STAGE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let options = SandboxOptions { calls: 4, hooks: 1, ..SandboxOptions::default() };
        let sandbox = Sandbox::new(options).expect("the engine starts");
        let limits = Limits { fuel: 2_000_000, wall: Duration::from_secs(5), memory_bytes: 8 << 20, ..Limits::default() };
        let grants = Grants { state: true, clock: true, random: true, ..Grants::default() };
        let load = sandbox.load(include_bytes!("../../guests/script.wasm"), limits, grants);
        let function = runtime.block_on(load).expect("it loads");
        (runtime, function)
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (runtime, function) = stage();
    let request = Request { body: bytes.to_vec(), ..Request::new("r", Route::Invoke) };
    let end = runtime.block_on(function.call(request, Arc::new(Nothing), Box::new(Sink)));
    assert!(end.usage.fuel <= function.limits().fuel);
    assert!(end.usage.memory_bytes_max <= function.limits().memory_bytes);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
});
