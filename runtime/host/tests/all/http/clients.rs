//! The official OpenAI clients and schemathesis against this server, where they are installed: see `scripts/clients/`.

use super::scripted::app;
use coldframe_host::http::server;
use std::path::Path;
use std::process::Command;
use tokio::net::TcpListener;

/// Runs a script of `scripts/clients` against a server of the scripted caller.
async fn run(program: &str, script: &'static str) {
    let Some(program) = std::env::var_os(program) else {
        return eprintln!("{program} is not set: {script} did not run");
    };
    let (app, _) = app();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(server::run(listener, app, None, std::future::pending()));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/clients");
    let mut client = Command::new(program);
    client.arg(folder.join(script)).env("COLDFRAME_URL", url).env("COLDFRAME_API_KEY", "acme-invoke");
    client.env("COLDFRAME_MODEL_NAME", "pirate");
    let out = tokio::task::spawn_blocking(move || client.output()).await.expect("joined").expect("it starts");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
    println!("{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works() {
    run("COLDFRAME_CLIENT_PYTHON", "smoke.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_works() {
    run("COLDFRAME_CLIENT_NODE", "smoke.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_requests_find_no_bug() {
    run("COLDFRAME_CLIENT_SH", "contract.sh").await;
}
