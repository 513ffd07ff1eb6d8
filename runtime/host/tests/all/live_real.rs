//! The real model with the repository's own adapters, through the service.
//!
//! `COLDFRAME_MODEL` names the SmolLM2 GGUF; without it these tests pass, and say so.

use crate::calls::{chat, listen};
use crate::live::open;
use coldframe_host::live::resident::load_adapter;
use coldframe_host::live::single::Single;
use coldframe_host::live::{ModelOptions, Resident};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn model() -> Option<PathBuf> {
    let path = std::env::var_os("COLDFRAME_MODEL").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: set COLDFRAME_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf");
    }
    path
}

fn adapter(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/adapters").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trained_adapters_in_one_batch_say_what_they_were_trained_to() {
    let Some(path) = model() else { return };
    let home = tempfile::tempdir().unwrap();
    let options = ModelOptions::new(path.display().to_string());
    let model = open(ModelOptions { home: Some(home.path().to_owned()), kv_bytes: 64 << 20, ..options });
    let single = |names: &[&str]| {
        let load = |name: &&str| load_adapter(&model, name, &adapter(name)).unwrap();
        let adapters = names.iter().map(load).collect();
        Single::of(model.clone(), Arc::new(Resident { adapters, ..Resident::default() }))
    };
    let functions = [single(&["pirate"]), single(&["shout"]), single(&["json"]), single(&[])];
    let ask = || {
        let mut call = chat("What do penguins eat?", 24);
        call.params.ignore_eos = false;
        call
    };
    let mut alone = Vec::new();
    for function in &functions {
        alone.push(listen(function.start(ask()).0).await);
    }
    let calls: Vec<_> =
        functions.iter().map(|function| tokio::spawn(listen(function.start(ask()).0))).collect();
    for (call, alone) in calls.into_iter().zip(&alone) {
        assert_eq!(call.await.unwrap().text(), alone.text());
    }
    let [pirate, shout, json, base] = [0, 1, 2, 3].map(|index: usize| alone[index].text());
    println!("pirate: {pirate}\nshout: {shout}\njson: {json}\nbase: {base}");
    assert!(["Arr", "Ahoy", "matey", "Yo ho"].iter().any(|word| pirate.contains(word)), "{pirate}");
    assert_eq!(shout, shout.to_uppercase());
    assert!(json.trim_start().starts_with('{'), "{json}");
    assert!(base != pirate && base != shout && base != json);
}
