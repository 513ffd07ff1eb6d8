//! The engine's thread and the built-in handler, on a tiny model.

use crate::calls::{Heard, call, chat, completion, listen, tool_chat};
use crate::tiny::{CONTEXT, Tiny};
use coldframe_backbone::engine::{Speech, SpeechOptions, Voice};
use coldframe_backbone::kv::TenantId;
use coldframe_backbone::sample::SamplingParams;
use coldframe_host::call::{
    Call, CallError, CallEvent, Cold, Finish, Phases, Prompt, Shape, ToolChoice, Work,
};
use coldframe_host::live::engine::{
    Happened, Job, JobError, JobStream, Meter, Observer, ServiceOptions, Snapshot, StepReport,
};
use coldframe_host::live::single::Single;
use coldframe_host::live::{Before, Ending, Model, ModelOptions, Place, Resident, resident, start_call};
use serde_json::json;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Options for the tiny model.
pub fn options(tiny: &Tiny) -> ModelOptions {
    ModelOptions {
        home: Some(tiny.home()),
        threads: 1,
        kv_bytes: 8 << 20,
        ..ModelOptions::new(tiny.model().display().to_string())
    }
}

pub fn open(options: ModelOptions) -> Arc<Model> {
    Arc::new(Model::open(options).expect("the tiny model opens"))
}

/// A function with these adapters.
pub fn function(tiny: &Tiny, model: &Arc<Model>, adapters: &[&str]) -> Single {
    let load = |name: &&str| resident::load_adapter(model, name, &tiny.adapter(name)).expect("it loads");
    let adapters = adapters.iter().map(load).collect();
    Single::of(model.clone(), Arc::new(Resident { adapters, ..Resident::default() }))
}

async fn hear(function: &Single, call: Call) -> Heard {
    listen(function.start(call).0).await
}

/// Most adapters seen in one step.
#[derive(Default)]
struct Mixed(Mutex<usize>);

impl Observer for Mixed {
    fn stepped(&self, report: &StepReport<'_>) {
        let mut most = self.0.lock().unwrap();
        *most = report.stats.adapters.max(*most);
        let parts: u64 = report.parts.iter().map(|part| part.device_ns).sum();
        assert!(parts == report.stats.step_ns || report.parts.is_empty(), "the parts sum to the step");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_in_one_batch_say_what_they_say_alone() {
    let (tiny, mixed) = (Tiny::new(), Arc::new(Mixed::default()));
    let model = open(ModelOptions { observer: mixed.clone(), ..options(&tiny) });
    let functions: Vec<Single> =
        [&[][..], &["a"], &["b"], &["c"]].iter().map(|names| function(&tiny, &model, names)).collect();
    let prompts = ["The quick brown fox", "jumps"];
    let mut alone = Vec::new();
    for function in &functions {
        for prompt in prompts {
            alone.push(hear(function, completion(prompt, 60)).await);
        }
    }
    let calls = functions.iter().flat_map(|function| {
        prompts.map(|prompt| tokio::spawn(listen(function.start(completion(prompt, 60)).0)))
    });
    let calls: Vec<_> = calls.collect();
    for (call, alone) in calls.into_iter().zip(&alone) {
        let together = call.await.unwrap();
        assert_eq!(together.text(), alone.text());
        assert_eq!(together.finishes[&0], Finish::Length);
        assert_eq!(together.usage.unwrap().completion_tokens, 60);
    }
    let texts: std::collections::BTreeSet<&str> = alone.iter().map(Heard::text).collect();
    assert_eq!(texts.len(), alone.len(), "every adapter and prompt says something else");
    assert!(*mixed.0.lock().unwrap() >= 2, "no step held two adapters");
}

/// Lets the engine's thread do one step for each permit, and tells how things stand after it.
struct Gate {
    told: Mutex<Sender<Snapshot>>,
    permits: Mutex<Receiver<()>>,
}

impl Observer for Gate {
    fn stepped(&self, report: &StepReport<'_>) {
        // The test may be over.
        let _ = self.told.lock().unwrap().send(report.snapshot);
        let _ = self.permits.lock().unwrap().recv_timeout(Duration::from_secs(30));
    }
}

fn gated() -> (Arc<Gate>, Receiver<Snapshot>, Sender<()>) {
    let ((told, heard), (permit, permits)) = (channel(), channel());
    (Arc::new(Gate { told: Mutex::new(told), permits: Mutex::new(permits) }), heard, permit)
}

/// A job of one choice that runs to its length.
fn job(model: &Model, prompt: &str, max_tokens: usize) -> Job {
    let prompt = model.tokenize(prompt, false, false).unwrap();
    let params = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
    let voice = Speech::new(&model.tokenizer, &prompt, SpeechOptions::new(params, 0)).unwrap();
    let voices: Vec<Box<dyn Voice>> = vec![Box::new(voice)];
    let meter = Arc::new(Meter::default());
    Job {
        tenant: TenantId(0),
        adapter: None,
        yields: false,
        prompt,
        max_tokens: Some(max_tokens),
        voices,
        meter,
    }
}

/// Tokens until the end, and what ended them.
async fn read(stream: &mut JobStream) -> (Vec<u32>, Option<JobError>) {
    let (mut tokens, mut error) = (Vec::new(), None);
    while let Some(event) = stream.next().await {
        match event.what {
            Happened::Token(spoken) => tokens.push(spoken.token),
            Happened::Failed(failed) => error = Some(failed),
            Happened::Started { .. } | Happened::Done { .. } => {}
        }
    }
    (tokens, error)
}

#[test]
fn a_dropped_stream_frees_its_pages_within_one_step() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (tiny, (gate, heard, permit)) = (Tiny::new(), gated());
    let model = open(ModelOptions { observer: gate, ..options(&tiny) });
    let work = job(&model, "a prompt of more than one page", 1000);
    let meter = work.meter.clone();
    let stream = runtime.block_on(model.engine.submit(work)).unwrap();
    for _ in 0..5 {
        assert!(heard.recv().unwrap().pages.used > 0);
        permit.send(()).unwrap();
    }
    assert!(heard.recv().unwrap().pages.used > 0);
    drop(stream);
    permit.send(()).unwrap();
    let after = heard.recv().unwrap();
    assert_eq!((after.pages.used, after.running, after.waiting, after.held), (0, 0, 0, 0));
    assert_eq!(after.steps, 7);
    permit.send(()).unwrap();
    runtime.block_on(meter.settled());
    assert_eq!(meter.read().completion, 6, "what nobody read is counted too");
    drop(permit);
}

/// Waits until the engine looks like this.
async fn until(model: &Model, what: &str, holds: impl Fn(&Snapshot) -> bool) {
    for _ in 0..3000 {
        if holds(&model.engine.snapshot()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {what}: {:?}", model.engine.snapshot());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_held_back_and_slows_no_one() {
    let tiny = Tiny::new();
    let service = ServiceOptions { buffered_events: 16, ..ServiceOptions::default() };
    let model = open(ModelOptions { service, ..options(&tiny) });
    let (alone, _) = read(&mut model.engine.submit(job(&model, "slow", 300)).await.unwrap()).await;
    let mut slow = model.engine.submit(job(&model, "slow", 300)).await.unwrap();
    until(&model, "held back", |now| now.held == 1).await;
    let mut neighbour = model.engine.submit(job(&model, "neighbour", 300)).await.unwrap();
    let (said, error) = read(&mut neighbour).await;
    assert!(error.is_none() && said.len() == 300);
    let now = model.engine.snapshot();
    assert_eq!((now.held, now.running, now.pages.used), (1, 0, 0), "it holds neither seat nor pages");
    let (said, error) = read(&mut slow).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(said, alone, "what it says does not depend on the reader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_loses_its_job() {
    let tiny = Tiny::new();
    let idle_limit = Duration::from_millis(30);
    let service = ServiceOptions { buffered_events: 16, idle_limit, ..ServiceOptions::default() };
    let model = open(ModelOptions { service, ..options(&tiny) });
    let mut stream = model.engine.submit(job(&model, "nobody reads this", 300)).await.unwrap();
    until(&model, "ended", |now| now.slow_readers == 1 && now.held == 0).await;
    let (said, error) = read(&mut stream).await;
    assert!(matches!(error, Some(JobError::SlowReader)), "{error:?}");
    assert!(!said.is_empty() && said.len() < 300, "{} tokens were buffered", said.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_is_metered_to_the_token() {
    let tiny = Tiny::new();
    let model = open(options(&tiny));
    let function = function(&tiny, &model, &["a"]);
    let (mut answer, outcome) = function.start(completion("a long story", 3000));
    while !matches!(answer.events.recv().await, Some(Ok(CallEvent::Text { .. }))) {}
    drop(answer);
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.ending, Ending::Dropped);
    let now = model.engine.snapshot();
    assert_eq!((now.running, now.waiting, now.held, now.pages.used), (0, 0, 0, 0));
    let usage = outcome.usage;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (12, now.decode_tokens + 1));
    assert!(usage.device_ns > 0 && usage.device_ns <= now.busy_ns);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phases_sum_to_the_time_of_the_first_token() {
    let tiny = Tiny::new();
    let model = open(options(&tiny));
    let single = function(&tiny, &model, &["a"]);
    let place = Place {
        model: model.clone(),
        resident: single.resident.clone(),
        tenant: TenantId(0),
        state: single.state.clone(),
        logs: single.logs.clone(),
        standings: Arc::default(),
        meter: Arc::default(),
    };
    let ms = Duration::from_millis;
    let phases = Phases { adapter_read: ms(20), parked: ms(30), ..Phases::default() };
    let mut call = chat("hello", 3);
    call.arrived -= ms(60);
    let arrived = call.arrived;
    let (answer, outcome) = start_call(call, place, Before { phases, cold: Cold::Disk });
    let heard = listen(answer).await;
    let (phases, cold) = heard.first.unwrap();
    assert_eq!((phases.adapter_read, phases.parked, cold), (ms(20), ms(30), Cold::Disk));
    assert!(phases.prefill > Duration::ZERO && phases.prepare >= ms(10), "{phases:?}");
    assert!(phases.total() >= ms(60) && phases.total() <= Instant::now() - arrived, "{phases:?}");
    let outcome = outcome.await.unwrap();
    assert_eq!(
        (outcome.ending, outcome.first, Some(outcome.usage)),
        (Ending::Finished, heard.first, heard.usage)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_are_draws_of_their_own_and_come_again() {
    let tiny = Tiny::new();
    let function = function(&tiny, &open(options(&tiny)), &["a"]);
    let ask = |seed| {
        let mut call = chat("three wishes", 20);
        (call.choices, call.params.temperature, call.params.seed) = (3, 1.0, seed);
        call
    };
    let first = hear(&function, ask(Some(7))).await;
    let again = hear(&function, ask(Some(7))).await;
    assert_eq!(first.texts, again.texts);
    assert_eq!(first.finishes.len(), 3);
    assert!(first.texts[&0] != first.texts[&1] && first.texts[&1] != first.texts[&2]);
    let usage = first.usage.unwrap();
    assert_eq!((usage.completion_tokens, usage.cached_tokens), (60, 0));
    assert!(again.usage.unwrap().cached_tokens > 0, "the same function finds its prompt's pages");
    assert_eq!(usage.prompt_tokens, again.usage.unwrap().prompt_tokens, "a prompt counts once");
    assert_ne!(hear(&function, ask(None)).await.texts, hear(&function, ask(None)).await.texts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_and_log_probabilities_are_told() {
    let tiny = Tiny::new();
    let function = function(&tiny, &open(options(&tiny)), &["b"]);
    let mut probed = completion("What comes", 40);
    (probed.params.logprobs, probed.params.top_logprobs) = (true, 2);
    let whole = hear(&function, probed).await;
    assert_eq!(whole.tokens.len(), 40);
    assert!(whole.tokens.iter().all(|token| token.top.len() == 2 && token.logprob <= 0.0));
    assert_eq!(whole.tokens[0].top[0].2, whole.tokens[0].logprob, "greedy takes the likeliest");
    let text = whole.text();
    let stop = text.chars().skip(10).take(2).collect::<String>();
    let at = text.find(&stop).unwrap();
    for include in [false, true] {
        let mut call = completion("What comes", 40);
        (call.params.stop, call.include_stop) = (vec![stop.clone()], include);
        let heard = hear(&function, call).await;
        assert_eq!(heard.text(), if include { &text[..at + stop.len()] } else { &text[..at] });
        assert_eq!(heard.finishes[&0], Finish::Stop);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_must_be_called_is_called() {
    let tiny = Tiny::new();
    let function = function(&tiny, &open(options(&tiny)), &["c"]);
    let parameters = json!({ "type": "object", "properties": { "place": { "$ref": "#/$defs/town" } },
        "required": ["place"], "additionalProperties": false, "$defs": { "town": { "enum": ["Kiel", "Rome"] } } });
    let tool = |name| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
    let tools = json!([tool("weather"), tool("map")]);
    for (choice, names) in
        [(ToolChoice::Required, &["weather", "map"][..]), (ToolChoice::Named("map".to_owned()), &["map"])]
    {
        let heard = hear(&function, tool_chat("How is it?", tools.clone(), choice, 400)).await;
        assert_eq!(heard.error, None);
        assert_eq!((heard.finishes[&0].clone(), heard.text()), (Finish::ToolCalls, ""));
        let (name, arguments) = &heard.tools[0];
        assert!(names.contains(&name.as_str()), "{name}");
        assert!([r#"{"place":"Kiel"}"#, r#"{"place":"Rome"}"#].contains(&arguments.as_str()), "{arguments}");
    }
    let mut shaped = chat("How is it?", 400);
    shaped.shape = Shape::JsonSchema(json!({ "enum": [1, 2, 3] }));
    assert!(["1", "2", "3"].contains(&hear(&function, shaped).await.text().trim()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_names_the_parameter() {
    let tiny = Tiny::new();
    let function = function(&tiny, &open(options(&tiny)), &["a"]);
    let with = |change: &dyn Fn(&mut Call)| {
        let mut call = completion("hello", 4);
        change(&mut call);
        call
    };
    let tokens = |tokens: Vec<u32>| Work::Completion { prompt: Prompt::Tokens(tokens) };
    let cases = [
        ("prompt", completion("", 4)),
        ("prompt", completion(&"x".repeat(CONTEXT + 1), 4)),
        ("prompt", call(tokens(vec![5, 100_000]), 4)),
        ("messages", chat(&"x".repeat(CONTEXT + 1), 4)),
        ("temperature", with(&|call| call.params.temperature = 9.0)),
        ("stop", with(&|call| call.params.stop = vec![String::new()])),
        ("adapter", with(&|call| call.adapter = Some("nobody's".to_owned()))),
        ("n", with(&|call| call.choices = 1000)),
        ("response_format", with(&|call| call.shape = Shape::JsonSchema(json!({ "type": "nonsense" })))),
        ("tool_choice", tool_chat("hello", json!([]), ToolChoice::Required, 4)),
        ("function", call(Work::Invoke { method: "GET".into(), path: "/".into(), headers: vec![] }, 4)),
    ];
    for (expected, call) in cases {
        match hear(&function, call).await.error {
            Some(CallError::BadRequest { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let base = with(&|call| call.adapter = Some("base".to_owned()));
    assert_ne!(hear(&function, base).await.text(), hear(&function, completion("hello", 4)).await.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_goes_takes_its_cached_pages_along() {
    let tiny = Tiny::new();
    let model = open(options(&tiny));
    let function = function(&tiny, &model, &["a"]);
    hear(&function, completion("a prompt that fills a page or two", 20)).await;
    until(&model, "cached", |now| now.pages.cached > 0 && now.pages.used == 0).await;
    function.resident.forget(&model).await;
    until(&model, "forgotten", |now| now.pages.cached == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_changes_underneath_is_fenced() {
    let tiny = Tiny::new();
    let model = open(options(&tiny));
    let function = function(&tiny, &model, &["a"]);
    assert_eq!(hear(&function, completion("before", 4)).await.error, None);
    assert_eq!(model.health(), Ok(()));
    let weights = tiny.model().join("model.safetensors");
    let mut file = std::fs::File::options().append(true).open(weights).unwrap();
    std::io::Write::write_all(&mut file, b"!").unwrap();
    drop(file);
    let problem = model.health().unwrap_err();
    assert!(problem.contains("model.safetensors"), "{problem}");
    let after = hear(&function, completion("after", 4)).await;
    assert!(matches!(after.error, Some(CallError::Start(_))), "{:?}", after.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_over_ends() {
    let tiny = Tiny::new();
    let model = open(options(&tiny));
    let function = function(&tiny, &model, &["a"]);
    let mut late = completion("too late", 3000);
    late.deadline = late.arrived;
    match hear(&function, late).await.error {
        Some(CallError::Overloaded { code, .. }) => assert_eq!(code, "timed_out"),
        other => panic!("{other:?}"),
    }
    until(&model, "idle", |now| now.running + now.waiting + now.held == 0).await;
}
