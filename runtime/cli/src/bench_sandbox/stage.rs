//! What the measured guests stand on: a model that never says anything and a caller that takes everything.

use coldframe_sandbox::services::{Event, Failure, Generation, Later, Level, Reply, Services, Task};
use coldframe_sandbox::{CallEnd, Function, Request, Route};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A script for the guest: starts a generation and waits for its first token.
pub const WAITS: &[u8] = &[3, 0, 4, 0];

/// A model that never says anything.
#[derive(Debug, Default)]
pub struct Stage {
    waiting: AtomicUsize,
}

impl Stage {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn reply(self: &Arc<Self>) -> Box<dyn Reply> {
        Box::new(Sink)
    }

    /// Until so many generations were started.
    pub async fn until_waiting(&self, most: usize) {
        while self.waiting.load(Ordering::Relaxed) < most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What was started has its first wait behind it a moment later.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A request of `/invoke` with a script as its body.
pub fn request(body: &[u8]) -> Request {
    Request { body: body.to_vec(), ..Request::new("r", Route::Invoke) }
}

/// Calls a function with a script.
pub async fn call(function: Function, stage: Arc<Stage>, body: Vec<u8>) -> CallEnd {
    let reply = stage.reply();
    function.call(request(&body), stage, reply).await
}

struct Silence;

impl Generation for Silence {
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>> {
        Box::pin(std::future::pending())
    }
    fn cancel(&mut self) {}
}

impl Services for Stage {
    fn generate(&self, _task: Task) -> Later<'_, Result<Box<dyn Generation>, Failure>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Box::new(Silence) as Box<dyn Generation>) })
    }
    fn tokenize(&self, _text: &str) -> Result<Vec<u32>, Failure> {
        Ok(Vec::new())
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
    fn log(&self, _level: Level, _message: &str) {}
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
