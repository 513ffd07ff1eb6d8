//! Functions with code of their own: what code reaches of the platform, and what the caller hears of it.
//!
//! The code here is native, so that the bridge is tested without a sandbox; sandboxed code goes the same way.

use crate::calls::{call, chat, completion, listen};
use crate::live::{function, open, options};
use crate::tiny::Tiny;
use coldframe_host::call::{CallError, CallEvent, Finish, Work};
use coldframe_host::live::code::{Code, CodeEnd, CodeFault, CodeRequest};
use coldframe_host::live::single::Single;
use coldframe_host::live::{Ending, Resident};
use coldframe_sandbox::services::{
    Event, Failure, Input, Later, Level, Params, Reply, Services, Shape, Task, TokenHook, Verdict,
};
use std::sync::Arc;

type Handler = fn(CodeRequest, Arc<dyn Services>, Box<dyn Reply>) -> Later<'static, Result<(), Failure>>;

/// Code that is a function of the test.
struct Native(Handler);

impl Code for Native {
    fn handle(
        &self,
        request: CodeRequest,
        services: Arc<dyn Services>,
        reply: Box<dyn Reply>,
    ) -> Later<'_, CodeEnd> {
        let work = (self.0)(request, services, reply);
        Box::pin(async move {
            let fault =
                |failure: Failure| CodeFault { code: failure.code, message: failure.message, retry: false };
            CodeEnd { fault: work.await.err().map(fault), cpu_ns: 1, fuel: 2, memory_bytes: 3 }
        })
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// A function with this code and one adapter.
fn with_code(tiny: &Tiny, handler: Handler) -> Single {
    let model = open(options(tiny));
    let plain = function(tiny, &model, &["a", "b"]);
    let code: Arc<dyn Code> = Arc::new(Native(handler));
    let resident = Resident { code: Some(code), ..(*plain.resident).clone() };
    Single::of(model, Arc::new(resident))
}

fn task(input: Input, params: Params) -> Task {
    Task { input, params, shape: Shape::Free, adapter: None, hook: None, budget: 16_384 }
}

/// Forwards a generation token by token.
async fn forward(
    services: &Arc<dyn Services>,
    reply: &mut Box<dyn Reply>,
    task: Task,
) -> Result<(u32, u32), Failure> {
    let mut generation = services.generate(task).await?;
    while let Some(event) = generation.next().await? {
        match event {
            Event::Token(token) => reply.write(token.text.into_bytes()).await?,
            Event::End { text, prompt_tokens, completion_tokens, .. } => {
                reply.write(text.into_bytes()).await?;
                return Ok((prompt_tokens, completion_tokens));
            }
        }
    }
    Err(Failure::new("invalid", "a generation without an end"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_forwards_says_what_the_built_in_handler_says() {
    let tiny = Tiny::new();
    let single = with_code(&tiny, |request, services, mut reply| {
        Box::pin(async move {
            let input = Input::Chat(request.messages);
            forward(&services, &mut reply, task(input, request.params)).await?;
            reply.finish("length");
            Ok(())
        })
    });
    let plain = function(&tiny, &single.model, &["a"]);
    let ask = || {
        let mut call = chat("stream this", 30);
        call.params.ignore_eos = false;
        call
    };
    let expected = listen(plain.start(ask()).0).await;
    let heard = listen(single.start(ask()).0).await;
    assert_eq!((heard.text(), heard.error.as_ref()), (expected.text(), None));
    assert_eq!(heard.finishes[&0], Finish::Length);
    let (usage, phases) = (heard.usage.unwrap(), heard.first.unwrap().0);
    assert_eq!((usage.sandbox_ns, usage.fuel, usage.guest_bytes), (1, 2, 3));
    assert_eq!(usage.completion_tokens, expected.usage.unwrap().completion_tokens);
    assert!(phases.handler.as_nanos() > 0 && phases.prefill.as_nanos() > 0, "{phases:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_runs_several_generations_on_its_own_adapters() {
    let tiny = Tiny::new();
    let single = with_code(&tiny, |request, services, mut reply| {
        Box::pin(async move {
            assert_eq!(services.adapters(), ["a", "b"]);
            let mut all = Vec::new();
            for adapter in ["a", "b", "base"] {
                let input = Input::Raw(request.prompt.clone());
                let adapter = Some(adapter.to_owned());
                let task = Task { adapter, ..task(input, request.params.clone()) };
                all.push(services.generate(task).await?);
            }
            for generation in &mut all {
                while let Some(event) = generation.next().await? {
                    if let Event::Token(token) = event {
                        reply.write(token.text.into_bytes()).await?;
                    }
                }
                reply.write(b"|".to_vec()).await?;
            }
            let other =
                Task { adapter: Some("c".to_owned()), ..task(Input::Raw("x".into()), Params::default()) };
            let refused = services.generate(other).await.err().map(|failure| failure.code);
            assert_eq!(refused.as_deref(), Some("invalid"));
            Ok(())
        })
    });
    let ask = || {
        let mut call = completion("one prompt", 12);
        (call.params.ignore_eos, call.params.logit_bias) = (false, [(2, -100.0)].into());
        call
    };
    let heard = listen(single.start(ask()).0).await;
    assert_eq!(heard.error, None);
    let parts: Vec<&str> = heard.text().trim_end_matches('|').split('|').collect();
    let mut expected = Vec::new();
    for adapters in [&["a"][..], &["b"], &[]] {
        let plain = function(&tiny, &single.model, adapters);
        expected.push(listen(plain.start(ask()).0).await.text().to_owned());
    }
    assert_eq!(parts, expected);
    assert_eq!(heard.usage.unwrap().completion_tokens, 36);
}

/// Allows one letter until it has said it five times.
struct OneLetter(usize);

impl TokenHook for OneLetter {
    fn before_token(&mut self, previous: Option<u32>, text: &str) -> Result<Verdict, Failure> {
        assert_eq!((previous.is_none(), text), (self.0 == 0, if self.0 == 0 { "" } else { "z" }));
        self.0 += 1;
        Ok(if self.0 > 5 { Verdict::End } else { Verdict::Only(vec![5 + u32::from(b'z')]) })
    }
}

/// Fails, as a guest that traps does.
struct Traps;

impl TokenHook for Traps {
    fn before_token(&mut self, _: Option<u32>, _: &str) -> Result<Verdict, Failure> {
        Err(Failure::new("trap", "unreachable"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_has_its_say_and_its_failure_is_its_own() {
    let tiny = Tiny::new();
    let single = with_code(&tiny, |request, services, mut reply| {
        Box::pin(async move {
            let hooked = |hook: Box<dyn TokenHook>| Task {
                hook: Some(hook),
                ..task(Input::Raw(request.prompt.clone()), request.params.clone())
            };
            let tokens = forward(&services, &mut reply, hooked(Box::new(OneLetter(0)))).await?;
            assert_eq!(tokens, (3, 5));
            forward(&services, &mut reply, hooked(Box::new(Traps))).await?;
            Ok(())
        })
    });
    let heard = listen(single.start(completion("abc", 50)).0).await;
    assert_eq!(heard.text(), "zzzzz");
    let trap = CallError::Function { code: "trap".to_owned(), message: "unreachable".to_owned() };
    assert_eq!(heard.error, Some(trap));
    assert_eq!(listen(single.start(completion("abc", 50)).0).await.text(), "zzzzz", "the engine goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invoked_code_keeps_state_and_logs() {
    let tiny = Tiny::new();
    let single = with_code(&tiny, |request, services, mut reply| {
        Box::pin(async move {
            let before = services.state_get("count").await?.unwrap_or_default();
            services.state_set("count", [&before[..], b"+"].concat()).await?;
            services.log(Level::Warn, &format!("{} {}", request.method, request.path));
            assert_eq!(services.detokenize(&services.tokenize("ok")?)?, "ok");
            reply.start(201, vec![("x-own".to_owned(), "1".to_owned())])?;
            reply.write(request.body.to_vec()).await?;
            reply.write(before).await?;
            assert!(reply.start(500, Vec::new()).is_err(), "the head is gone");
            Ok(())
        })
    });
    let ask = || {
        let work = Work::Invoke { method: "POST".into(), path: "/a?b".into(), headers: Vec::new() };
        let mut call = call(work, 1);
        call.body = bytes::Bytes::from_static(b"body");
        call
    };
    for expected in ["body", "body+"] {
        let heard = listen(single.start(ask()).0).await;
        assert_eq!((heard.status, heard.bytes, heard.error), (Some(201), expected.into(), None));
    }
    let names = ask().names;
    assert_eq!(single.state.keys(&names, "co").await.unwrap(), ["count"]);
    let lines = single.logs.of(&names).tail(0, 10);
    assert_eq!((lines.len(), lines[1].number, lines[1].message.as_str()), (2, 2, "POST /a?b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_fails_or_panics_ends_its_own_call_alone() {
    let tiny = Tiny::new();
    let single = with_code(&tiny, |request, _, _| {
        Box::pin(async move {
            assert!(request.prompt != "panic", "the code panics");
            Err(Failure::new("no_luck", "try another day"))
        })
    });
    let heard = listen(single.start(completion("fail", 1)).0).await;
    let expected = CallError::Function { code: "no_luck".to_owned(), message: "try another day".to_owned() };
    assert_eq!(heard.error, Some(expected));
    let heard = listen(single.start(completion("panic", 1)).0).await;
    assert!(matches!(heard.error, Some(CallError::Internal(_))), "{:?}", heard.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_ends_the_codes_generations() {
    let tiny = Tiny::new();
    let single = with_code(&tiny, |request, services, mut reply| {
        Box::pin(async move {
            let input = Input::Raw(request.prompt);
            forward(&services, &mut reply, task(input, request.params)).await.map(drop)
        })
    });
    let mut ask = completion("on and on", 3000);
    (ask.params.ignore_eos, ask.params.logit_bias) = (false, [(2, -100.0)].into());
    let (mut answer, outcome) = single.start(ask);
    while !matches!(answer.events.recv().await, Some(Ok(CallEvent::Text { .. }))) {}
    drop(answer);
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.ending, Ending::Dropped);
    let now = single.model.engine.snapshot();
    assert_eq!((now.running, now.waiting, now.held, now.pages.used), (0, 0, 0, 0));
    assert_eq!(outcome.usage.completion_tokens, now.decode_tokens + 1);
}
