//! A whole server on a disk that is full or read-only: changes are refused with 507 and a reason, reads and calls go on.
//!
//! The server runs in a process of its own, under a limit on file sizes or on a mount that takes no writes.

use super::Server;
use crate::tiny::Tiny;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Says which case a child is, and where.
const CASE: &str = "COLDFRAME_TEST_HOST_DISK";
/// Changes that are tried until one is refused.
const CHANGES_MAX: usize = 20_000;

/// Reads, and calls of what is registered.
fn still_serves(server: &Server) {
    server.operator("GET", "/admin/v1/functions/kept", &Value::Null).expect(200);
    server.operator("GET", "/admin/v1/usage", &Value::Null).expect(200);
    server.say("kept").expect(200);
    server.operator("GET", "/ready", &Value::Null).expect(200);
}

fn refuses(server: &Server, path: &str, body: &Value) {
    let refused = server.operator("PUT", path, body).expect(507);
    assert_eq!(refused.code(), "store_unavailable");
    assert!(!refused.value["error"]["message"].as_str().unwrap_or_default().is_empty());
}

fn full(data: &Path) {
    let server = Server::start(Arc::new(Tiny::new()), data, |_| {});
    server.register("kept", "a").expect(201);
    let note = "x".repeat(200);
    let made = json!({"scope": "invoke", "note": note});
    let refused = (0..CHANGES_MAX).find_map(|_| {
        let said = server.operator("POST", "/admin/v1/keys", &made);
        (said.status != 201).then_some(said)
    });
    let refused = refused.expect("a limit that is reached").expect(507);
    assert_eq!(refused.code(), "store_unavailable", "{}", refused.text);
    // A smaller change may fit again: the database makes room where it can.
    still_serves(&server);
}

fn read_only(data: &Path) {
    let server = Server::start(Arc::new(Tiny::new()), data, |_| {});
    still_serves(&server);
    refuses(&server, "/admin/v1/tenants/late", &json!({}));
    let info = server.operator("GET", "/info", &Value::Null).expect(200);
    assert!(info.value["store"].as_str().is_some_and(|store| store.contains("read-only")), "{}", info.text);
    still_serves(&server);
}

#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    match case.split_once(':').expect("a case and a path") {
        ("full", path) => full(Path::new(path)),
        ("read-only", path) => read_only(Path::new(path)),
        other => panic!("{other:?} is no case"),
    }
}

/// Runs the child's side after some shell.
fn run(shell: &[&str], setup: &str, case: &str, home: &Path) {
    let script = format!("{setup} exec \"$0\" --exact host::disk::child --nocapture");
    let (program, arguments) = shell.split_first().expect("a shell");
    let output = Command::new(program)
        .args(arguments)
        .args(["-c", &script])
        .arg(std::env::current_exe().expect("this binary"))
        .env(CASE, format!("{case}:{}", home.join("data").display()))
        .env("HERE", home)
        .output()
        .expect("a shell runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_full_disk_refuses_changes_and_goes_on_answering() {
    let home = tempfile::tempdir().expect("a folder");
    // The signal would end the process before the error comes; a block is half a KiB.
    run(&["sh"], "trap '' XFSZ; ulimit -f 4096;", "full", home.path());
    // Without the limit everything that was acknowledged is there, and changes are taken again.
    let server = Server::start(Arc::new(Tiny::new()), &home.path().join("data"), |_| {});
    still_serves(&server);
    let made = server.operator("PUT", "/admin/v1/tenants/late", &json!({}));
    assert_eq!(made.status, 201, "{}", made.text);
}

#[test]
fn a_read_only_disk_is_served_from() {
    let probe = Command::new("unshare").args(["-m", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return eprintln!("not tested: mounts need root and unshare");
    }
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::start(Arc::new(Tiny::new()), &home.path().join("data"), |_| {});
    server.register("kept", "a").expect(201);
    server.say("kept").expect(200);
    drop(server);
    let setup = "mount --bind \"$HERE\" \"$HERE\" && mount -o remount,bind,ro \"$HERE\" &&";
    run(&["unshare", "-m", "sh"], setup, "read-only", home.path());
}
