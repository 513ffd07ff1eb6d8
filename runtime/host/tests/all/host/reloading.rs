//! A configuration taken while the server works: what may change does, the rest says why not, a broken one changes nothing.

use super::{OPERATOR, Server};
use crate::tiny::Tiny;
use coldframe_host::auth::Secret;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

fn started() -> (Server, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a folder");
    (Server::start(Arc::new(Tiny::new()), data.path(), |_| {}), data)
}

fn policy(server: &Server) -> String {
    let said = server.operator("GET", "/admin/v1/policy", &Value::Null).expect(200);
    said.value["name"].as_str().expect("a name").to_owned()
}

/// Status of a call that announces a body of so many bytes and sends none of them.
fn announced(server: &Server, bytes: usize) -> u16 {
    let address = server.url.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {OPERATOR}\r\n\
         content-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    std::str::from_utf8(&status[9..]).expect("text").parse().expect("a status")
}

#[test]
fn what_may_change_does_and_the_rest_waits_with_its_reason() {
    let (server, _data) = started();
    let load = json!({"lora_name": "x", "lora_path": "/nowhere"});
    let shut = server.operator("POST", "/v1/load_lora_adapter", &load).expect(403);
    assert_ne!(shut.code(), "adapter_path_forbidden");
    let mut config = server.config.clone();
    config.policy = "serverlesslora".to_owned();
    config.runtime_lora_updating = true;
    config.limits.body_mib = Some(1);
    config.limits.connections = Some(3);
    config.tariff = Some("modal".to_owned());
    config.tariff_device = "l40s".to_owned();
    config.engine.kv_mib = 32;
    config.port = 1;
    let done = server.reload(config.clone()).expect("taken");
    assert_eq!(done.changed, ["policy", "limits", "runtime_lora_updating", "tariff"]);
    let kept: Vec<&str> = done.kept.iter().map(|(key, _)| *key).collect();
    assert_eq!(kept, ["port", "engine", "limits.connections"]);
    assert!(done.kept.iter().all(|(_, why)| !why.is_empty()));
    assert_eq!(policy(&server), "serverlesslora");
    // Past the gate, to what is wrong with the path.
    let past = server.operator("POST", "/v1/load_lora_adapter", &load).expect(403);
    assert_eq!(past.code(), "adapter_path_forbidden");
    assert_eq!(announced(&server, 2 << 20), 413);
    server.say("tiny").expect(200);

    // Taken again it changes nothing; what was set through the API since stays.
    server.operator("PUT", "/admin/v1/policy", &json!({"policy": "coldframe"})).expect(200);
    let again = server.reload(config).expect("taken");
    assert_eq!(again.changed, Vec::<&str>::new());
    assert_eq!(policy(&server), "coldframe");
}

#[test]
fn a_broken_configuration_changes_nothing() {
    let (server, data) = started();
    let broken = data.path().join("policy.toml");
    std::fs::write(&broken, "name = 1").expect("written");
    type Change = Box<dyn Fn(&mut coldframe_host::host::HostConfig)>;
    let changes: [(&str, Change); 5] = [
        ("policy", Box::new(move |config| config.policy = broken.display().to_string())),
        ("tariff", Box::new(|config| config.tariff = Some("nobody's".to_owned()))),
        ("tariff_device", Box::new(|config| config.tariff = Some("modal".to_owned()))),
        ("characters", Box::new(|config| config.api_key = Some(Secret::new("short")))),
        ("reach", Box::new(|config| config.api_key = None)),
    ];
    for (word, change) in changes {
        let mut config = server.config.clone();
        config.policy = "vllm".to_owned();
        config.runtime_lora_updating = true;
        change(&mut config);
        let refused = server.reload(config).expect_err(word).to_string();
        assert!(refused.contains(word), "{word}: {refused}");
        assert_eq!(policy(&server), "coldframe", "{word}");
        server
            .operator("POST", "/v1/load_lora_adapter", &json!({"lora_name": "x", "lora_path": "/x"}))
            .expect(403);
    }
    server.say("tiny").expect(200);
}

#[test]
fn the_operators_key_changes_without_a_restart() {
    let (server, _data) = started();
    let mut config = server.config.clone();
    config.api_key = Some(Secret::new("another-key-of-the-operator"));
    assert_eq!(server.reload(config).expect("taken").changed, ["api_key_file"]);
    assert_eq!(server.ask(OPERATOR, "GET", "/admin/v1/functions", &[], "").status, 401);
    server.ask("another-key-of-the-operator", "GET", "/admin/v1/functions", &[], "").expect(200);
}
