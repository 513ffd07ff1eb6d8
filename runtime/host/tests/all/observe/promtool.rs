//! Prometheus' own judge, where it is installed.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Holds a text against `promtool check metrics`; says so where there is none.
///
/// Names with colons are vLLM's own and gateways read them; its advice against them is the one that is not followed.
pub fn promtool(text: &str) {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = match started {
        Ok(tool) => tool,
        Err(_) => return eprintln!("promtool is not installed (Debian: prometheus): its check is skipped"),
    };
    tool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let said = tool.wait_with_output().expect("it ends");
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let foreign = |line: &&str| !line.starts_with("vllm:") && !line.trim().is_empty();
    let complaints: Vec<&str> = words.lines().filter(foreign).collect();
    assert!(complaints.is_empty(), "promtool: {complaints:#?}");
}
