//! What the guests of these tests stand on: services that generate counted words, a caller that keeps what it gets.

use coldframe_sandbox::services::{
    Event, Failure, Generation, Input, Later, Level, Reason, Reply, Services, Task, Token, TokenHook, Verdict,
};
use coldframe_sandbox::{CallEnd, Function, Grants, Limits, Request, Route, Sandbox, SandboxOptions};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A model that says `word0 word1 …`, as many as it is asked for.
#[derive(Default)]
pub struct Bed {
    pub lines: Mutex<Vec<(Level, String)>>,
    pub state: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Budgets that tasks came with.
    pub budgets: Mutex<Vec<u32>>,
    /// What went into generations, turns one below the other.
    pub asked: Mutex<Vec<String>>,
    /// Whole texts that generations say in place of counted words, each once.
    pub answers: Mutex<VecDeque<String>>,
    /// Generations that are alive.
    pub alive: Arc<AtomicUsize>,
    /// Tokens a generation has when its task asks for more.
    pub tokens: u32,
    /// Time before each token.
    pub pause: Duration,
}

impl Bed {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { tokens: 8, ..Self::default() })
    }

    pub fn log(&self) -> Vec<String> {
        self.lines.lock().expect("unpoisoned").iter().map(|(_, line)| line.clone()).collect()
    }
}

struct Words {
    bed: Arc<AtomicUsize>,
    hook: Option<Box<dyn TokenHook>>,
    /// One text in place of words.
    text: Option<String>,
    next: u32,
    most: u32,
    asked: u32,
    pause: Duration,
    is_cancelled: bool,
    is_over: bool,
}

impl Words {
    fn end(&mut self, reason: Reason) -> Event {
        self.is_over = true;
        Event::End { reason, text: String::new(), prompt_tokens: 3, completion_tokens: self.next }
    }

    fn say(&mut self) -> Result<Option<Event>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        if self.is_cancelled {
            return Ok(Some(self.end(Reason::Cancelled)));
        }
        if let Some(text) = self.text.take() {
            self.next = self.most;
            return Ok(Some(Event::Token(Token { text, ..Token::default() })));
        }
        if self.next == self.most {
            let reason = if self.asked == self.most { Reason::Length } else { Reason::Stop };
            return Ok(Some(self.end(reason)));
        }
        if let Some(hook) = &mut self.hook {
            let previous = self.next.checked_sub(1);
            let verdict = hook.before_token(previous, "word").inspect_err(|_| self.is_over = true)?;
            if verdict == Verdict::End {
                return Ok(Some(self.end(Reason::Stop)));
            }
        }
        let token = Token { id: self.next, text: format!("word{} ", self.next), ..Token::default() };
        self.next += 1;
        Ok(Some(Event::Token(token)))
    }
}

impl Generation for Words {
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>> {
        Box::pin(async move {
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
            self.say()
        })
    }
    fn cancel(&mut self) {
        self.is_cancelled = true;
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.bed.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Services for Bed {
    fn generate(&self, task: Task) -> Later<'_, Result<Box<dyn Generation>, Failure>> {
        let asked = task.params.max_tokens.unwrap_or(u32::MAX).min(task.budget);
        self.budgets.lock().expect("unpoisoned").push(asked);
        self.asked.lock().expect("unpoisoned").push(match &task.input {
            Input::Raw(text) => text.clone(),
            Input::Chat(turns) => turns.iter().map(|turn| format!("{}\n", turn.content)).collect(),
        });
        self.alive.fetch_add(1, Ordering::SeqCst);
        let words = Words {
            bed: self.alive.clone(),
            hook: task.hook,
            text: self.answers.lock().expect("unpoisoned").pop_front(),
            next: 0,
            most: self.tokens.min(asked),
            asked,
            pause: self.pause,
            is_cancelled: false,
            is_over: false,
        };
        Box::pin(async move { Ok(Box::new(words) as Box<dyn Generation>) })
    }
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, Failure> {
        Ok(text.bytes().map(u32::from).collect())
    }
    fn detokenize(&self, tokens: &[u32]) -> Result<String, Failure> {
        let character =
            |id: &u32| char::from_u32(*id).ok_or_else(|| Failure::new("invalid", "no such token"));
        tokens.iter().map(character).collect()
    }
    fn adapters(&self) -> Vec<String> {
        vec!["formal".to_owned(), "brief".to_owned()]
    }
    fn state_get<'a>(&'a self, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>> {
        Box::pin(async move { Ok(self.state.lock().expect("unpoisoned").get(key).cloned()) })
    }
    fn state_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> Later<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.state.lock().expect("unpoisoned").insert(key.to_owned(), value);
            Ok(())
        })
    }
    fn state_delete<'a>(&'a self, key: &'a str) -> Later<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.state.lock().expect("unpoisoned").remove(key);
            Ok(())
        })
    }
    fn state_keys<'a>(&'a self, prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>> {
        let keys = self
            .state
            .lock()
            .expect("unpoisoned")
            .keys()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        Box::pin(async move { Ok(keys) })
    }
    fn log(&self, level: Level, message: &str) {
        self.lines.lock().expect("unpoisoned").push((level, message.to_owned()));
    }
}

/// What a caller got.
#[derive(Debug, Default)]
pub struct Got {
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
    pub reason: Option<String>,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A caller that keeps what it gets, and may be slow, or go after some bytes.
#[derive(Clone, Default)]
pub struct Caller {
    pub got: Arc<Mutex<Got>>,
    pub pause: Duration,
    pub goes_after: Option<usize>,
}

impl Reply for Caller {
    fn start(&mut self, status: u16, headers: Vec<(String, String)>) -> Result<(), Failure> {
        let mut got = self.got.lock().expect("unpoisoned");
        (got.status, got.headers) = (Some(status), headers);
        Ok(())
    }
    fn write(&mut self, bytes: Vec<u8>) -> Later<'_, Result<(), Failure>> {
        Box::pin(async move {
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
            let mut got = self.got.lock().expect("unpoisoned");
            if self.goes_after.is_some_and(|most| got.bytes.len() >= most) {
                return Err(Failure::new("closed", "the caller has gone"));
            }
            got.bytes.extend(bytes);
            Ok(())
        })
    }
    fn finish(&mut self, reason: &str) {
        self.got.lock().expect("unpoisoned").reason = Some(reason.to_owned());
    }
}

/// A small sandbox, made once for all tests that need nothing special.
pub fn sandbox() -> Sandbox {
    static SANDBOX: std::sync::OnceLock<Sandbox> = std::sync::OnceLock::new();
    SANDBOX.get_or_init(|| small(SandboxOptions::default())).clone()
}

/// A sandbox with a small pool.
pub fn small(options: SandboxOptions) -> Sandbox {
    Sandbox::new(SandboxOptions { calls: options.calls.min(64), hooks: options.hooks.min(64), ..options })
        .expect("the engine starts")
}

/// Limits that a test does not wait long for.
pub fn limits() -> Limits {
    Limits { fuel: 20_000_000, wall: Duration::from_secs(20), ..Limits::default() }
}

/// Everything granted but the network.
pub fn grants() -> Grants {
    Grants { state: true, clock: true, random: true, ..Grants::default() }
}

/// Loads a component.
pub async fn load(bytes: &[u8], limits: Limits, grants: Grants) -> Function {
    sandbox().load(bytes, limits, grants).await.expect("the component loads")
}

/// Calls a function on `invoke` with a body.
pub async fn call(function: &Function, body: &[u8], bed: &Arc<Bed>) -> (CallEnd, Got) {
    let caller = Caller::default();
    let end = function.call(invoke(body), bed.clone(), Box::new(caller.clone())).await;
    let got = std::mem::take(&mut *caller.got.lock().expect("unpoisoned"));
    (end, got)
}

/// A request of `invoke` with a body.
pub fn invoke(body: &[u8]) -> Request {
    Request {
        body: body.to_vec(),
        method: "POST".to_owned(),
        path: "/".to_owned(),
        ..Request::new("r1", Route::Invoke)
    }
}

/// The word a call ended with, `ok` for success.
pub fn code(end: &CallEnd) -> &str {
    end.result.as_ref().map_or_else(|end| end.code(), |()| "ok")
}
