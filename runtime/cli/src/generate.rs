//! `coldframe generate`: one answer of one function, streamed as it comes.

use crate::opened::{BackboneArg, Opened, ms};
use crate::ui::{Interrupted, Ui, print, printable};
use anyhow::{Context, Result, ensure};
use clap::Args;
use coldframe_backbone::engine::{
    Engine, EngineOptions, Reason, Request, Speech, SpeechOptions, Spoken, Usage, What,
};
use coldframe_backbone::executor::PAGE_TOKENS;
use coldframe_backbone::kv::TenantId;
use coldframe_backbone::native::{Native, NativeOptions};
use coldframe_backbone::pack::Pack;
use coldframe_backbone::sample::{Constraint, Grammar, Grammars, SamplingParams};
use coldframe_backbone::text::{ChatInput, ChatTemplate};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Generate an answer with a backbone, with or without an adapter
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe generate --backbone smollm2-135m-instruct --prompt 'What do penguins eat?'
  coldframe generate --backbone smollm2-135m-instruct --adapter functions/adapters/pirate --prompt 'What is rain?'
  echo 'Once upon a time' | coldframe generate --backbone ./model.gguf --raw --prompt -

The answer goes to stdout as it comes; Ctrl-C ends it at a token.")]
pub struct GenerateArgs {
    #[command(flatten)]
    model: BackboneArg,
    /// The fine-tune: a PEFT folder or a llama.cpp GGUF adapter
    #[arg(long, value_name = "PATH")]
    adapter: Option<PathBuf>,
    /// Merge the adapter into a private copy of the matrices that it changes: more memory, less work a token
    #[arg(long, requires = "adapter")]
    merge: bool,
    /// What is asked; `-` reads stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// The system message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Go on from the prompt as it stands, without the chat template
    #[arg(long)]
    raw: bool,
    /// Tokens of the answer at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: u32,
    /// 0 takes the likeliest token each time
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    temperature: f32,
    /// Smallest set of tokens whose probabilities reach this sum
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    top_p: f32,
    /// This many likeliest tokens; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: i64,
    /// Tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    min_p: f32,
    /// Seed of the draws [default: from the clock, shown by --stats]
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
    /// End the answer at this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Keep the answer to a JSON schema
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// With --json: each token's log-probability and this many likeliest tokens beside it
    #[arg(long, value_name = "N")]
    logprobs: Option<u32>,
    /// Say on stderr what it took, also where stderr is no terminal
    #[arg(long)]
    stats: bool,
}

/// What came.
#[derive(Default)]
struct Answer {
    text: String,
    tokens: Vec<Spoken>,
    end: Option<(Reason, Usage)>,
    /// Milliseconds to the first token, and after it.
    first_ms: f64,
    rest_ms: f64,
}

/// Runs the command.
pub fn run(args: GenerateArgs, ui: &Ui) -> Result<()> {
    ensure!(args.logprobs.is_none() || ui.json, "--logprobs needs --json: they have no place in the text");
    let opened = args.model.open(ui)?;
    let start = Instant::now();
    let adapter = args.adapter.as_ref().map(|path| opened.adapter(path, ui)).transpose()?;
    let adapter_ms = ms(start);
    let template = adapter.as_ref().and_then(|adapter| adapter.chat_template());
    let prompt = prompt(&args, &opened, template)?;
    let params = params(&args)?;
    params.validate(opened.checkpoint.config().vocab)?;
    // A merged adapter is in the weights: the request itself runs without one.
    let (pack, adapter) = match adapter {
        Some(adapter) if args.merge => (Arc::new(opened.pack.merged(&adapter)?), None),
        adapter => (opened.pack.clone(), adapter),
    };
    let mut engine = engine(&args, &opened, pack, prompt.len())?;
    let options = SpeechOptions {
        constraint: constraint(&args, &opened)?,
        keep_first_space: args.raw,
        ..SpeechOptions::new(params.clone(), 0)
    };
    let voice = Speech::new(&opened.tokenizer, &prompt, options)?;
    let left = opened.checkpoint.config().context.saturating_sub(prompt.len()).max(1);
    engine.submit(Request {
        tenant: TenantId(0),
        adapter,
        yields: false,
        prompt,
        max_tokens: Some(left.min(args.max_tokens as usize)),
        voices: vec![Box::new(voice)],
    })?;
    let answer = listen(&mut engine, ui)?;
    let report = report(&answer, &opened, &engine, adapter_ms, &params);
    if ui.json {
        print(&format!("{report}\n"))?;
    } else if args.stats || (io::stderr().is_terminal() && !ui.quiet) {
        tell(&report);
    }
    match answer.end {
        Some((Reason::Cancelled, usage)) if ui.stop.load(Ordering::Relaxed) => {
            let what = format!("interrupted after {} tokens", usage.completion);
            Err(anyhow::Error::new(Interrupted).context(what))
        }
        _ => Ok(()),
    }
}

fn params(args: &GenerateArgs) -> Result<SamplingParams> {
    // Any seed will do, and --stats shows it: only a repeat needs a certain one.
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::from(time.subsec_nanos()));
    Ok(SamplingParams {
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        seed: Some(args.seed.unwrap_or(clock)),
        logprobs: args.logprobs.is_some(),
        top_logprobs: args.logprobs.unwrap_or(0),
        stop: args.stop.clone(),
        max_tokens: Some(args.max_tokens),
        ..SamplingParams::default()
    })
}

/// The prompt's tokens: a chat by the adapter's template or the model's, or the text as it stands.
fn prompt(args: &GenerateArgs, opened: &Opened, template: Option<&str>) -> Result<Vec<u32>> {
    let mut text = args.prompt.clone();
    if text == "-" {
        text.clear();
        io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin")?;
    }
    let (tokenizer, most) = (&opened.tokenizer, opened.checkpoint.config().context);
    if args.raw {
        return Ok(tokenizer.encode_prompt(&text, most)?);
    }
    let template = template.or(tokenizer.chat_template()).with_context(|| {
        format!("{} has no chat template: give --raw to go on from the prompt", opened.path.display())
    })?;
    let template = ChatTemplate::parse(template, &tokenizer.bos_text(), &tokenizer.eos_text())?;
    let system = args.system.iter().map(|system| json!({ "role": "system", "content": system }));
    let messages: Vec<_> = system.chain([json!({ "role": "user", "content": text })]).collect();
    Ok(tokenizer.encode_chat(&template, &ChatInput::new(&Value::Array(messages)), most)?.tokens)
}

fn constraint(args: &GenerateArgs, opened: &Opened) -> Result<Option<Constraint>> {
    let Some(path) = &args.json_schema else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let schema = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    Ok(Some(Grammars::new(opened.tokenizer.clone()).compile(&Grammar::JsonSchema(schema))?))
}

/// An engine with the pages that this answer may need.
fn engine(args: &GenerateArgs, opened: &Opened, pack: Arc<Pack>, prompt: usize) -> Result<Engine> {
    let positions = (prompt + args.max_tokens as usize).min(opened.checkpoint.config().context);
    let pages = positions.div_ceil(PAGE_TOKENS);
    let options = NativeOptions { threads: args.model.threads(), pages, kv: args.model.kv() };
    let native = Native::new(pack, options)?;
    let engine = Engine::new(Box::new(native), EngineOptions::default())?;
    // This thread steps it, and the process ends with the answer.
    engine.settle();
    Ok(engine)
}

/// Steps until the answer ends, showing text as it comes.
fn listen(engine: &mut Engine, ui: &Ui) -> Result<Answer> {
    let (mut answer, start) = (Answer::default(), Instant::now());
    while !engine.is_idle() {
        for event in engine.step()?.events {
            match event.what {
                What::Started { .. } => {}
                What::Token(spoken) => {
                    if answer.tokens.is_empty() {
                        answer.first_ms = ms(start);
                    }
                    let gone = !show(&spoken.text, ui)?;
                    answer.text += &spoken.text;
                    answer.tokens.push(spoken);
                    if (gone || ui.stop.load(Ordering::Relaxed)) && answer.end.is_none() {
                        engine.cancel(event.sequence);
                    }
                }
                What::Done { reason, text, usage } => {
                    show(&text, ui)?;
                    answer.text += &text;
                    answer.end = Some((reason, usage));
                }
                What::Failed { error, .. } => return Err(error.into()),
            }
        }
    }
    answer.rest_ms = ms(start) - answer.first_ms;
    if !answer.text.ends_with('\n') {
        show("\n", ui)?;
    }
    Ok(answer)
}

/// Writes text at once; `false` when the reader is gone.
fn show(text: &str, ui: &Ui) -> Result<bool> {
    if ui.json || text.is_empty() {
        return Ok(true);
    }
    let mut out = io::stdout();
    // A terminal obeys control characters; a file gets what was said.
    let tame = if out.is_terminal() { tame(text) } else { text.to_owned() };
    match out.write_all(tame.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

/// Text that cannot drive a terminal, tabs kept.
fn tame(text: &str) -> String {
    text.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

fn report(
    answer: &Answer,
    opened: &Opened,
    engine: &Engine,
    adapter_ms: f64,
    params: &SamplingParams,
) -> Value {
    let (reason, usage) = answer.end.unwrap_or((Reason::Cancelled, Usage::default()));
    let rest = answer.tokens.len().saturating_sub(1) as f64;
    let phases = opened.phases;
    let mut report = json!({
        "text": answer.text,
        "finish_reason": word(reason),
        "usage": {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
        },
        "seed": params.seed,
        "device": engine.device(),
        "timings": {
            "validate_ms": phases.validate_ms,
            "map_ms": phases.map_ms,
            "tokenizer_ms": phases.tokenizer_ms,
            "adapter_ms": adapter_ms,
            "first_token_ms": answer.first_ms,
            "prefill_tok_s": usage.prompt as f64 / answer.first_ms * 1e3,
            "decode_tok_s": if rest > 0.0 { json!(rest / answer.rest_ms * 1e3) } else { Value::Null },
        },
    });
    if params.logprobs {
        let entry = |spoken: &Spoken| {
            let token = |id| String::from_utf8_lossy(opened.tokenizer.token_bytes(id)).into_owned();
            let top = spoken.top.iter().map(|(id, p)| json!({ "id": id, "token": token(*id), "logprob": p }));
            let top: Vec<_> = top.collect();
            json!({ "id": spoken.token, "token": token(spoken.token), "logprob": spoken.logprob, "top": top })
        };
        report["logprobs"] = answer.tokens.iter().map(entry).collect();
    }
    report
}

/// OpenAI's words.
fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop | Reason::Eos => "stop",
        Reason::Length => "length",
        Reason::Cancelled => "cancelled",
    }
}

fn tell(report: &Value) {
    let (timings, usage) = (&report["timings"], &report["usage"]);
    let number = |name: &str| timings[name].as_f64().unwrap_or(0.0);
    eprintln!(
        "load: validate {:.1} ms, map {:.1} ms, tokenizer {:.1} ms, adapter {:.1} ms",
        number("validate_ms"),
        number("map_ms"),
        number("tokenizer_ms"),
        number("adapter_ms")
    );
    eprintln!(
        "prompt: {} tokens, first token after {:.1} ms ({:.0} tok/s)",
        usage["prompt_tokens"],
        number("first_token_ms"),
        number("prefill_tok_s")
    );
    eprintln!(
        "answer: {} tokens, {:.1} tok/s, ended by {}; seed {}, {}",
        usage["completion_tokens"],
        number("decode_tok_s"),
        report["finish_reason"].as_str().unwrap_or(""),
        report["seed"],
        report["device"].as_str().unwrap_or("")
    );
}
