//! Options of a replay against a running host.

use clap::Args;
use std::path::PathBuf;

/// Options beside those of a simulated replay.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Live")]
pub struct LiveArgs {
    /// Send the trace to a running OpenAI-compatible host instead of simulating it, e.g. http://127.0.0.1:8000
    #[arg(id = "live", long = "live", value_name = "URL")]
    pub url: Option<String>,
    /// Key for the host
    #[arg(long, env = "COLDFRAME_API_KEY", hide_env_values = true, requires = "live")]
    pub api_key: Option<String>,
    /// Stretch of the trace's time: 0.5 sends it twice as fast
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub time_scale: f64,
    /// Send the trace's first seconds (after scaling) without counting them
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub warmup_s: f64,
    /// Stop after so many requests
    #[arg(long, value_name = "N")]
    pub max_requests: Option<usize>,
    /// Stop after so many seconds of the trace (after scaling)
    #[arg(long, value_name = "S")]
    pub max_s: Option<f64>,
    /// Longest prompt, tokens: longer ones are cut
    #[arg(long, value_name = "N")]
    pub max_prompt: Option<u32>,
    /// Longest answer, tokens: longer ones are cut
    #[arg(long, value_name = "N")]
    pub max_output: Option<u32>,
    /// Which of the host's models a function of the trace calls: lines of TRACE_FUNCTION,MODEL [default: the one of its
    /// name; else by popularity, in the host's order]
    #[arg(long, value_name = "FILE.csv")]
    pub map: Option<PathBuf>,
    /// Draw prompts from these token ids instead of asking the host's /tokenize
    #[arg(long, value_name = "FIRST-LAST", value_parser = super::prompt::range)]
    pub prompt_ids: Option<(u32, u32)>,
    /// Ask this in a chat instead of sending prompts of the trace's length
    #[arg(long, value_name = "TEXT")]
    pub ask: Option<String>,
    /// Check whose answers came: lines of MODEL,MARKER, a text that only this model's answers contain
    #[arg(long, value_name = "FILE.csv", requires = "live")]
    pub expect: Option<PathBuf>,
    /// Write what was sent as a trace of the host's functions: `coldframe replay` simulates the same
    #[arg(long, value_name = "FILE", requires = "live")]
    pub sent: Option<PathBuf>,
    /// Seconds after which a request counts as not answered
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    pub timeout_s: f64,
    /// Name of the run in the report
    #[arg(long, value_name = "NAME", default_value = "live")]
    pub label: String,
}
