//! Artifacts from everywhere, and what must not get in.

use super::{OPERATOR, Server};
use crate::tiny::Tiny;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

const PATH: &str = "/admin/v1/functions/f";

fn server(
    change: impl FnOnce(&mut coldframe_host::host::HostConfig) + Send + 'static,
) -> (Server, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a folder");
    (Server::start(Arc::new(Tiny::new()), data.path(), change), data)
}

fn by_uri(server: &Server, uri: &str) -> super::Said {
    server.operator("PUT", PATH, &json!({"adapters": [{"uri": uri}]}))
}

/// A multipart body of parts: name, file name, bytes as text.
fn form(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, file, bytes) in parts {
        let head =
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\n");
        all.extend_from_slice(head.as_bytes());
        all.extend_from_slice(bytes);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(b"--b--\r\n");
    all
}

fn upload(server: &Server, body: Vec<u8>) -> super::Said {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let request = agent
        .put(format!("{}{PATH}", server.url))
        .header("authorization", format!("Bearer {OPERATOR}"))
        .header("content-type", "multipart/form-data; boundary=b");
    let reply = request.send(&body[..]).expect("an answer");
    let status = reply.status().as_u16();
    let text = reply.into_body().read_to_string().expect("a body");
    super::Said {
        status,
        value: serde_json::from_str(&text).unwrap_or_default(),
        etag: None,
        retry_after: None,
        text,
    }
}

fn files(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let read = |name| std::fs::read(folder.join(name)).expect(name);
    (read("adapter_config.json"), read("adapter_model.safetensors"))
}

#[test]
fn an_upload_is_the_same_generation_as_a_reference() {
    let (server, _data) = server(|_| {});
    let (config, tensors) = files(&server.tiny.adapter("a"));
    let parts: &[(&str, &str, &[u8])] =
        &[("adapter", "adapter_config.json", &config), ("adapter", "adapter_model.safetensors", &tensors)];
    let uploaded = upload(&server, form(parts)).expect(201);
    let by_reference = server.register("f", "a").expect(200);
    assert_eq!(uploaded.value["generation"], by_reference.value["generation"]);
    server.say("f").expect(200);

    for (parts, status, code) in [
        (vec![("adapter", "adapter_model.bin", &b"\x80\x02x"[..])], 415, "forbidden_file"),
        (
            vec![("adapter", "adapter_model.safetensors", b"PK\x03\x04rest of a zip archive")],
            415,
            "forbidden_file",
        ),
        (vec![("adapter", "adapter_model.safetensors", b"\x1f\x8b\x08\x00gzip")], 415, "forbidden_file"),
        (vec![("adapter", "x.gguf", b"PK\x03\x04")], 415, "forbidden_file"),
        (vec![("adapter", "adapter_config.json", &config[..])], 422, "adapter_file_not_found"),
        (vec![("module", "m.wasm", b"#!/bin/sh")], 415, "forbidden_file"),
        (vec![("what", "x", b"y")], 400, "invalid_request"),
        (
            vec![
                ("adapter", "adapter_config.json", &config[..]),
                ("adapter", "adapter_model.safetensors", b"\x00\x00\x00\x00\x00\x00\x00\x00"),
            ],
            400,
            "invalid_adapter",
        ),
    ] {
        let said = upload(&server, form(&parts)).expect(status);
        assert_eq!(said.code(), code, "{}", said.text);
    }
    let cut = form(parts)[..form(parts).len() - 40].to_vec();
    assert_eq!(upload(&server, cut).status, 400);
}

#[test]
fn files_are_read_below_the_roots_only_and_never_through_links() {
    let place = tempfile::tempdir().expect("a folder");
    let root = place.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    let allowed = root.clone();
    let (server, _data) = server(move |config| config.artifacts.roots = vec![allowed]);
    let (config, tensors) = files(&server.tiny.adapter("a"));
    let make = |folder: &Path| {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("adapter_config.json"), &config).expect("a file");
    };
    let good = root.join("good");
    make(&good);
    std::fs::write(good.join("adapter_model.safetensors"), &tensors).expect("a file");
    by_uri(&server, &format!("file://{}", good.display())).expect(201);

    let outside = place.path().join("outside");
    make(&outside);
    std::fs::write(outside.join("adapter_model.safetensors"), &tensors).expect("a file");
    let (linked, hard, pipe) = (root.join("linked"), root.join("hard"), root.join("pipe"));
    make(&linked);
    symlink(outside.join("adapter_model.safetensors"), linked.join("adapter_model.safetensors"))
        .expect("a link");
    make(&hard);
    std::fs::hard_link(outside.join("adapter_model.safetensors"), hard.join("adapter_model.safetensors"))
        .expect("a link");
    make(&pipe);
    let made = std::process::Command::new("mkfifo").arg(pipe.join("adapter_model.safetensors")).status();
    symlink(&outside, root.join("way-out")).expect("a link");
    let mut cases = vec![
        (outside.clone(), "adapter_path_forbidden"),
        (root.join("way-out"), "adapter_path_forbidden"),
        (linked, "adapter_file_forbidden"),
        (hard, "adapter_file_forbidden"),
    ];
    cases.extend(made.is_ok_and(|made| made.success()).then_some((pipe, "adapter_file_forbidden")));
    for (path, code) in cases {
        let said = by_uri(&server, &format!("file://{}", path.display())).expect(403);
        assert_eq!(said.code(), code, "{}", path.display());
    }
    let climbing = by_uri(&server, &format!("file://{}/../outside", root.display())).expect(400);
    assert_eq!(climbing.code(), "invalid_request");
    let absent = by_uri(&server, &format!("file://{}/nothing", root.display())).expect(404);
    assert_eq!(absent.code(), "adapter_path_not_found");
    let etc = by_uri(&server, "file:///etc/passwd").expect(403);
    assert_eq!(etc.code(), "adapter_path_forbidden");
}

#[test]
fn nothing_but_public_addresses_is_fetched() {
    let (server, _data) = server(|_| {});
    let digest = "0".repeat(64);
    for host in [
        "127.0.0.1:1",
        "[::1]:1",
        "169.254.169.254",
        "10.0.0.1",
        "localhost:1",
        "[::ffff:127.0.0.1]:1",
        "2130706433:1",
    ] {
        let body = json!({"adapters": [{"uri": format!("https://{host}/a.gguf"), "digest": digest}]});
        let said = server.operator("PUT", PATH, &body).expect(403);
        assert_eq!(said.code(), "address_forbidden", "{host}");
    }
    for uri in [
        "http://example.com/a.gguf",
        "https://u:p@example.com/a.gguf",
        "https://example.com/a.gguf",
        "ftp://x/y",
    ] {
        assert_eq!(by_uri(&server, uri).expect(400).code(), "invalid_request", "{uri}");
    }
}

/// Serves answers by path, for as many connections as come.
fn web(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => head.extend_from_slice(&chunk[..count]),
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            // A client that has seen enough hangs up.
            let _ = stream.write_all(&answer(path));
        }
    });
    address
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut all = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())
        .into_bytes();
    all.extend_from_slice(body);
    all
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn files_of_the_web_and_of_registries_are_held_to_their_digests() {
    let (server, _data) = server(|config| config.artifacts.private_addresses = true);
    let (config, tensors) = files(&server.tiny.adapter("a"));
    let manifest = json!({"schemaVersion": 2, "layers": [
        {"mediaType": "application/json", "digest": format!("sha256:{}", sha256(&config)), "size": config.len(),
         "annotations": {"org.opencontainers.image.title": "adapter_config.json"}},
        {"mediaType": "application/octet-stream", "digest": format!("sha256:{}", sha256(&tensors)), "size": tensors.len(),
         "annotations": {"org.opencontainers.image.title": "adapter_model.safetensors"}},
    ]})
    .to_string();
    let (config_digest, tensors_digest, manifest_digest) =
        (sha256(&config), sha256(&tensors), sha256(manifest.as_bytes()));
    let (served, wanted) = (manifest.clone(), config_digest.clone());
    let address = web(move |path| match path {
        "/config" => ok(&config),
        "/tensors" => ok(&tensors),
        "/elsewhere" => {
            b"HTTP/1.1 302 Found\r\nlocation: http://localhost:1/x\r\ncontent-length: 0\r\n\r\n".to_vec()
        }
        path if path.ends_with(&wanted) => ok(&config),
        path if path.contains("/blobs/") => ok(&tensors),
        path if path.contains("/manifests/") => ok(served.as_bytes()),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    });
    let spec = |tensors_uri: &str, digest: &str| {
        json!({"adapters": [{"files": {
            "adapter_config.json": {"uri": format!("http://{address}/config"), "digest": config_digest},
            "adapter_model.safetensors": {"uri": format!("http://{address}{tensors_uri}"), "digest": digest},
        }}]})
    };
    let wrong = server.operator("PUT", PATH, &spec("/tensors", &"0".repeat(64))).expect(422);
    assert_eq!(wrong.code(), "digest_mismatch");
    let away = server.operator("PUT", PATH, &spec("/elsewhere", &tensors_digest)).expect(422);
    assert_eq!(away.code(), "redirect_forbidden");
    let gone = server.operator("PUT", PATH, &spec("/nothing", &tensors_digest)).expect(502);
    assert_eq!(gone.code(), "upstream_refused");
    let first = server.operator("PUT", PATH, &spec("/tensors", &tensors_digest)).expect(201);

    let oci = by_uri(&server, &format!("oci://{address}/acme/a@sha256:{manifest_digest}")).expect(200);
    assert_eq!(oci.value["generation"], first.value["generation"]);
    let other = by_uri(&server, &format!("oci://{address}/acme/a@sha256:{}", "1".repeat(64))).expect(422);
    assert_eq!(other.code(), "digest_mismatch");
}

#[test]
fn a_functions_log_goes_with_it() {
    let (server, _data) = server(|_| {});
    let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/budget-hog/budget-hog.wasm");
    let code = std::fs::read(code).expect("a committed example");
    let parts: &[(&str, &str, &[u8])] = &[("module", "handler.wasm", &code)];
    let logs = || server.operator("GET", &format!("{PATH}/logs"), &serde_json::Value::Null);
    let lines = || logs().expect(200).value["data"].as_array().map(Vec::len);
    upload(&server, form(parts)).expect(201);
    let body = json!({"model": "f", "prompt": "trap", "max_tokens": 4});
    let said = server.operator("POST", "/v1/completions", &body);
    assert!(said.text.contains("trap"), "{}", said.text);
    assert!(lines().is_some_and(|lines| lines > 0), "{}", logs().text);
    server.operator("DELETE", PATH, &serde_json::Value::Null).expect(200);
    logs().expect(404);
    upload(&server, form(parts)).expect(201);
    // What follows the catalog tells the log a moment after the answer.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while lines() != Some(0) {
        assert!(std::time::Instant::now() < until, "{}", logs().text);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
