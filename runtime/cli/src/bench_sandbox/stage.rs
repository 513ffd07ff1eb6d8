//! What the measured guests stand on: a model that never says anything, or something at a steady pace, and a caller that takes
//! everything and may note when.

use coldframe_sandbox::services::{
    Event, Failure, Generation, Later, Level, Message, Reply, Services, Task, Token, TokenHook,
};
use coldframe_sandbox::{CallEnd, Function, Request, Route};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A script for the guest: starts a generation and waits for its first token.
pub const WAITS: &[u8] = &[3, 0, 4, 0];

/// A script for the guest: streams a generation.
pub const STREAMS: &[u8] = &[3, 0, 36, 0];

/// A model that never says anything, or a token at a steady pace.
#[derive(Debug)]
pub struct Stage {
    waiting: AtomicUsize,
    pace: Option<Duration>,
    start: Instant,
    /// How long after its token was said each text came out of the guest.
    heard: Arc<Mutex<Vec<Duration>>>,
}

impl Stage {
    pub fn new() -> Arc<Self> {
        Self::of(None)
    }

    /// A model that says a token at this pace, from a thread of its own as an engine's.
    pub fn speaking(pace: Duration) -> Arc<Self> {
        Self::of(Some(pace))
    }

    fn of(pace: Option<Duration>) -> Arc<Self> {
        let (waiting, heard) = (AtomicUsize::new(0), Arc::default());
        Arc::new(Self { waiting, pace, start: Instant::now(), heard })
    }

    pub fn reply(self: &Arc<Self>) -> Box<dyn Reply> {
        match self.pace {
            Some(_) => Box::new(Ear { start: self.start, heard: self.heard.clone() }),
            None => Box::new(Sink),
        }
    }

    /// Takes what was heard.
    pub fn heard(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
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

/// Calls a function of chats with one turn.
pub async fn chat(function: Function, stage: Arc<Stage>, text: &str) -> CallEnd {
    let messages = vec![Message { role: "user".to_owned(), content: text.to_owned() }];
    let request = Request { messages, ..Request::new("r", Route::Chat) };
    let reply = stage.reply();
    function.call(request, stage, reply).await
}

/// Says nothing, but asks its hook first.
struct Silence(Option<Box<dyn TokenHook>>);

impl Generation for Silence {
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>> {
        match self.0.as_mut().map(|hook| hook.before_token(None, "")) {
            Some(Err(failure)) => Box::pin(async { Err(failure) }),
            _ => Box::pin(std::future::pending()),
        }
    }
    fn cancel(&mut self) {}
}

/// Says the time, again and again.
struct Voice(UnboundedReceiver<Duration>);

impl Voice {
    fn new(start: Instant, pace: Duration) -> Self {
        let (sender, receiver) = unbounded_channel();
        std::thread::spawn(move || {
            while sender.send(start.elapsed()).is_ok() {
                std::thread::sleep(pace);
            }
        });
        Self(receiver)
    }
}

impl Generation for Voice {
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>> {
        Box::pin(async {
            let said = self.0.recv().await;
            Ok(said.map(|said| Event::Token(Token { text: said.as_nanos().to_string(), ..Token::default() })))
        })
    }
    fn cancel(&mut self) {}
}

impl Services for Stage {
    fn generate(&self, task: Task) -> Later<'_, Result<Box<dyn Generation>, Failure>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let generation: Box<dyn Generation> = match self.pace {
            Some(pace) => Box::new(Voice::new(self.start, pace)),
            None => Box::new(Silence(task.hook)),
        };
        Box::pin(async { Ok(generation) })
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

/// Notes how old the time is that it hears.
struct Ear {
    start: Instant,
    heard: Arc<Mutex<Vec<Duration>>>,
}

impl Reply for Ear {
    fn start(&mut self, _status: u16, _headers: Vec<(String, String)>) -> Result<(), Failure> {
        Ok(())
    }
    fn write(&mut self, bytes: Vec<u8>) -> Later<'_, Result<(), Failure>> {
        let said = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        if let Some(said) = said {
            let late = self.start.elapsed().saturating_sub(Duration::from_nanos(said));
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(late);
        }
        Box::pin(async { Ok(()) })
    }
    fn finish(&mut self, _reason: &str) {}
}
