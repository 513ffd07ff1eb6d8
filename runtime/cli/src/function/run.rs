//! `coldframe function run`: one call of a function on this machine, without a server, streamed as it comes.

use super::manifest::{Place, Project};
use crate::backbone::HomeArg;
use crate::ui::{Interrupted, Ui, print};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use coldframe_backbone::sample::SamplingParams;
use coldframe_host::call::{Answer, Call, CallEvent, Prompt, Shape, ToolChoice, Usage, Work};
use coldframe_host::live::ModelOptions;
use coldframe_host::live::code::Code;
use coldframe_host::live::component::{ComponentCode, grants, limits};
use coldframe_host::live::single::{Single, SingleOptions};
use coldframe_host::records::{Names, Settings};
use coldframe_sandbox::services::Level;
use coldframe_sandbox::{Sandbox, SandboxOptions};
use serde_json::json;
use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time of a call whose manifest sets none. Arbitrary.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A component that takes longer to load is being compiled, and that is worth a word.
const NOTICE: Duration = Duration::from_secs(1);

/// How often a call looks whether Ctrl-C was pressed.
const POLL: Duration = Duration::from_millis(100);

/// Answer one request with a function, on this machine and without a server
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe function run functions/router --prompt '@shout what is rain?'
  coldframe function run . --raw --prompt 'Once upon a time'
  coldframe function run . --invoke /extract --body request.json

The answer goes to stdout as it comes, the function's log to stderr; Ctrl-C ends the call.")]
pub struct RunArgs {
    /// The function's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// What is asked; `-` reads stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, required_unless_present = "invoke")]
    prompt: Option<String>,
    /// The system message
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["raw", "invoke"])]
    system: Option<String>,
    /// Go on from the prompt as it stands, as `/v1/completions` does
    #[arg(long, conflicts_with = "invoke")]
    raw: bool,
    /// Call the function's code as `/invoke/{function}` does, with this path
    #[arg(long, value_name = "PATH", conflicts_with = "prompt")]
    invoke: Option<String>,
    /// With --invoke: the body; `-` reads stdin
    #[arg(long, value_name = "FILE", requires = "invoke")]
    body: Option<PathBuf>,
    /// The adapter to use, where the function leaves it to the caller
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Tokens of the answer at most [default: the manifest's]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// 0 takes the likeliest token each time [default: the manifest's]
    #[arg(long, value_name = "X")]
    temperature: Option<f32>,
    /// Seed of the draws
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
    /// Another backbone than the manifest's: a name of the store, or a path
    #[arg(long, value_name = "NAME|PATH")]
    backbone: Option<String>,
    #[command(flatten)]
    home: HomeArg,
    /// Threads of a step [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Say on stderr what it took
    #[arg(long)]
    stats: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs, ui: &Ui) -> Result<()> {
    let project = Project::open(&args.folder)?;
    let settings = project.manifest.settings();
    let call = call(args, &project, &settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start threads")?;
    let home = args.home.store()?.root().to_owned();
    let code = runtime.block_on(code(&project, &settings, &home, ui))?;
    let single = Single::open(SingleOptions {
        model: model(args, &project, home),
        adapters: adapters(&project)?,
        code,
        settings,
    })?;
    let logs = single.logs.of(&call.names);
    // What came before is the command's time and not the call's.
    let arrived = Instant::now();
    let call = Call { arrived, deadline: arrived + (call.deadline - call.arrived), ..call };
    let result = runtime.block_on(async {
        // The task's handle is let go: dropping the answer is what ends the call.
        let (answer, _) = single.start(call);
        tokio::select! {
            said = listen(answer, ui) => said,
            error = interrupted(ui) => Err(error),
        }
    });
    for line in logs.tail(0, usize::MAX) {
        ui.say(&format!("{}: {}", level(line.level), line.message));
    }
    let (usage, first) = result?;
    if args.stats {
        tell(&usage, first, ui);
    }
    Ok(())
}

fn model(args: &RunArgs, project: &Project, home: PathBuf) -> ModelOptions {
    let backbone = args.backbone.clone().unwrap_or_else(|| project.manifest.backbone.clone());
    let mut options = ModelOptions { home: Some(home), ..ModelOptions::new(backbone) };
    if let Some(threads) = args.threads {
        options.threads = threads.get();
    }
    options
}

fn adapters(project: &Project) -> Result<Vec<(String, PathBuf)>> {
    let path = |adapter: &super::manifest::Adapter| match &adapter.place {
        Place::Path(path) => Ok((adapter.name.0.clone(), project.folder.join(path))),
        Place::Uri(uri) => {
            bail!("adapter `{}` lies at {uri}: to run it here, give it a `path`", adapter.name.0)
        }
    };
    project.manifest.adapters.iter().map(path).collect()
}

/// Loads the component; it is compiled the first time and found in the store afterwards.
async fn code(project: &Project, settings: &Settings, home: &Path, ui: &Ui) -> Result<Option<Arc<dyn Code>>> {
    let Some(bytes) = project.component()? else { return Ok(None) };
    // One call, and it may have a hook for each of its generations.
    let options =
        SandboxOptions { calls: 4, cache: Some(home.join("compiled")), ..SandboxOptions::default() };
    let sandbox = Sandbox::new(options)?;
    let mut load = std::pin::pin!(sandbox.load(&bytes, limits(settings), grants(settings)?));
    let function = match tokio::time::timeout(NOTICE, &mut load).await {
        Ok(function) => function?,
        Err(_) => {
            ui.say("compiling the component, once");
            load.await?
        }
    };
    Ok(Some(Arc::new(ComponentCode(function))))
}

fn call(args: &RunArgs, project: &Project, settings: &Settings) -> Result<Call> {
    let arrived = Instant::now();
    let (work, body) = work(args)?;
    Ok(Call {
        id: "local".to_owned(),
        names: Names { tenant: "local".to_owned(), function: project.manifest.name.0.clone() },
        generation: None,
        adapter: args.adapter.clone(),
        work,
        body: body.into(),
        params: params(args, settings)?,
        choices: 1,
        shape: Shape::Free,
        include_stop: false,
        arrived,
        deadline: arrived + settings.timeout_ms.map_or(TIMEOUT, Duration::from_millis) + TIMEOUT,
    })
}

/// What is asked, and the body as a client would have sent it.
fn work(args: &RunArgs) -> Result<(Work, Vec<u8>)> {
    if let Some(path) = &args.invoke {
        let body = match &args.body {
            Some(file) if file.as_os_str() == "-" => stdin()?.into_bytes(),
            Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
            None => Vec::new(),
        };
        let method = if body.is_empty() { "GET" } else { "POST" };
        return Ok((
            Work::Invoke { method: method.to_owned(), path: path.clone(), headers: Vec::new() },
            body,
        ));
    }
    let prompt = args.prompt.clone().expect("clap asks for one of the two");
    let prompt = if prompt == "-" { stdin()? } else { prompt };
    if args.raw {
        let body = json!({ "prompt": prompt }).to_string().into_bytes();
        return Ok((Work::Completion { prompt: Prompt::Text(prompt) }, body));
    }
    let system = args.system.iter().map(|system| json!({ "role": "system", "content": system }));
    let messages: Vec<_> = system.chain([json!({ "role": "user", "content": prompt })]).collect();
    let body = json!({ "messages": messages }).to_string().into_bytes();
    let (messages, tool_choice) = (messages.into(), ToolChoice::Auto);
    Ok((Work::Chat { messages, tools: None, tool_choice, extra: serde_json::Map::new() }, body))
}

fn stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
    Ok(text)
}

/// The manifest's defaults, and what the command line says.
fn params(args: &RunArgs, settings: &Settings) -> Result<SamplingParams> {
    let defaults = serde_json::Value::Object(settings.defaults.clone());
    let mut params: SamplingParams =
        serde_json::from_value(defaults).context("[defaults] of the manifest")?;
    params.max_tokens = args.max_tokens.or(params.max_tokens);
    params.temperature = args.temperature.unwrap_or(params.temperature);
    params.seed = args.seed.or(params.seed);
    Ok(params)
}

/// Shows the answer as it comes.
async fn listen(mut answer: Answer, ui: &Ui) -> Result<(Usage, Duration)> {
    let (mut first, mut whole) = (Duration::ZERO, String::new());
    while let Some(event) = answer.events.recv().await {
        match event.map_err(|error| finish_line(&whole, ui, anyhow!(error)))? {
            CallEvent::First { phases, .. } => first = phases.total(),
            CallEvent::Text { text, .. } => show(&text, &mut whole, ui)?,
            CallEvent::Bytes(bytes) => show(&String::from_utf8_lossy(&bytes), &mut whole, ui)?,
            CallEvent::End { usage } => {
                match ui.json {
                    true => print(&format!("{}\n", report(&whole, &usage, first)))?,
                    false => print("\n")?,
                }
                return Ok((usage, first));
            }
            _ => {}
        }
    }
    bail!("the call ended without an answer")
}

fn show(text: &str, whole: &mut String, ui: &Ui) -> Result<()> {
    whole.push_str(text);
    if ui.json { Ok(()) } else { print(&crate::ui::printable(text)) }
}

/// An error does not go on the answer's line.
fn finish_line(whole: &str, ui: &Ui, error: anyhow::Error) -> anyhow::Error {
    if !whole.is_empty() && !ui.json {
        // What stdout says is no news beside the error itself.
        let _ = print("\n");
    }
    error
}

fn report(whole: &str, usage: &Usage, first: Duration) -> serde_json::Value {
    json!({
        "text": whole, "ttft_ms": first.as_secs_f64() * 1e3, "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens, "fuel": usage.fuel, "guest_bytes": usage.guest_bytes,
        "sandbox_us": usage.sandbox_ns as f64 / 1e3,
    })
}

fn tell(usage: &Usage, first: Duration, ui: &Ui) {
    ui.say(&format!(
        "first token after {:.0} ms; {} prompt tokens, {} tokens; the code used {} fuel, {:.2} ms and {} KiB",
        first.as_secs_f64() * 1e3,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.fuel,
        usage.sandbox_ns as f64 / 1e6,
        usage.guest_bytes / 1024,
    ));
}

/// Ready once Ctrl-C was pressed.
async fn interrupted(ui: &Ui) -> anyhow::Error {
    while !ui.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(POLL).await;
    }
    anyhow::Error::new(Interrupted)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Debug => "log debug",
        Level::Info => "log",
        Level::Warn => "log warning",
        Level::Error => "log error",
    }
}
