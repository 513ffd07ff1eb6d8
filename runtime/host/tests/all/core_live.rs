//! The core over the real engine, on a tiny model: what is loaded, evicted and answered is real.

use crate::calls::{Heard, completion, listen};
use crate::fakes::{estimates, policy};
use crate::live::{function, open, options};
use crate::tiny::Tiny;
use coldframe_host::call::{Call, Caller, Cold, Later};
use coldframe_host::live::ModelOptions;
use coldframe_host::live::core::{
    ArtifactSource, BackboneInfo, Budget, Live, LiveOptions, Machine, MachineOptions, NoCode, Unwatched,
};
use coldframe_host::live::loaders::Loaders;
use coldframe_host::live::logs::Logs;
use coldframe_host::live::resident::load_adapter;
use coldframe_host::live::state::MemoryState;
use coldframe_host::meter::{LedgerRow, MemoryLedger};
use coldframe_host::records::{AdapterRecord, Generation, ModuleRecord, Names, Settings};
use coldframe_policy::units::BackboneId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Adapters by the name of their folder.
struct Folders(PathBuf);

impl ArtifactSource for Folders {
    fn adapter_dir<'a>(&'a self, adapter: &'a AdapterRecord) -> Later<'a, Result<PathBuf, String>> {
        Box::pin(async move { Ok(self.0.join(&adapter.name)) })
    }

    fn module<'a>(&'a self, _: &'a ModuleRecord) -> Later<'a, Result<PathBuf, String>> {
        Box::pin(async { Err("no modules here".to_owned()) })
    }
}

fn call_of(name: &str, generation: &Arc<Generation>) -> Call {
    let names = Names { tenant: "acme".to_owned(), function: name.to_owned() };
    Call { names, generation: Some(generation.clone()), ..completion("Once upon a time", 12) }
}

async fn ask(live: &Live, name: &str, generation: &Arc<Generation>) -> Heard {
    listen(live.call(call_of(name, generation)).await.expect("admitted")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_functions_with_room_for_one_answer_as_alone() {
    let tiny = Tiny::new();
    let named = ModelOptions { name: Some("tiny".to_owned()), ..options(&tiny) };
    let source = Folders(tiny.adapter("a").parent().expect("a folder").to_owned());
    let machine = Machine::new(MachineOptions {
        models: vec![named.clone()],
        source: Arc::new(source),
        compiler: Arc::new(NoCode),
        state: Arc::new(MemoryState::default()),
        logs: Arc::new(Logs::default()),
        loaders: Loaders::start(2).expect("threads"),
        code_loaders: Loaders::start(1).expect("a thread"),
    });
    let measured = machine.measure(BackboneId(0), 16, Duration::from_secs(2)).await.expect("it answers");
    assert!(measured.t0 > Duration::ZERO && measured.adapter_bytes_per_s > 0);
    let model = machine.open(BackboneId(0)).await.expect("it opens");
    let mut generations = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let loaded = load_adapter(&model, name, &tiny.adapter(name)).expect("it loads");
        let record = AdapterRecord {
            name: name.to_owned(),
            generation: loaded.adapter.generation().to_string(),
            files: BTreeMap::new(),
            kind: "lora".to_owned(),
            rank: 4,
            disk_bytes: loaded.times.bytes,
            memory_bytes: loaded.adapter.bytes(),
            source: None,
        };
        let generation = Generation {
            id: name.repeat(64),
            backbone: "tiny".to_owned(),
            adapters: vec![record],
            module: None,
            settings: Settings::default(),
            created_ms: 0,
        };
        generations.insert(name, Arc::new(generation));
    }
    let alone: BTreeMap<&str, String> = {
        let mut said = BTreeMap::new();
        for name in ["a", "b", "c"] {
            let single = function(&tiny, &open(options(&tiny)), &[name]);
            said.insert(
                name,
                listen(single.start(completion("Once upon a time", 12)).0).await.text().to_owned(),
            );
        }
        said
    };
    assert!(alone["a"] != alone["b"] && alone["b"] != alone["c"]);
    let spec = machine.open_ahead(BackboneId(0), 0).await.expect("it opens");
    drop(model);
    let adapter = generations["a"].adapters[0].memory_bytes;
    // Room for one call's tokens (16 or 17 of the prompt and 12), and not for another adapter.
    let kv = spec.kv_per_token.0 * 32;
    let ledger = Arc::new(MemoryLedger::default());
    let live_options = LiveOptions {
        policy: policy("coldframe", &[]),
        budget: Budget { device: spec.weights.0 + adapter + kv, host: 1 << 20 },
        backbones: vec![BackboneInfo { name: "tiny".to_owned(), spec }],
        estimates: estimates(),
        max_calls: 100,
        log: None,
        ledger: ledger.clone(),
        witness: Arc::new(Unwatched),
        checked: true,
    };
    let (live, task) = Live::start(live_options, Arc::new(machine.clone())).expect("it starts");
    let mut seen = Vec::new();
    for round in 0..2 {
        for name in ["a", "b", "c"] {
            let heard = ask(&live, name, &generations[name]).await;
            assert_eq!(heard.text(), alone[name], "round {round}, function {name}");
            let (phases, cold) = heard.first.expect("a first token");
            seen.push(cold);
            // A copy in host memory is the one that is used: it is there at once.
            let loads = phases.adapter_read + phases.adapter_load;
            assert_eq!(loads > Duration::ZERO, round == 0, "round {round} {name}: {phases:?}");
        }
    }
    assert_eq!(seen, [Cold::Backbone, Cold::Disk, Cold::Disk, Cold::Warm, Cold::Warm, Cold::Warm]);
    for row in ledger.rows() {
        if let LedgerRow::Request(row) = row {
            assert_eq!(row.phases_ns.iter().sum::<u64>(), row.ttft_ns, "phases are the whole");
            assert!(row.device_ns > 0 && row.completion_tokens > 0 && row.ttft_ns <= row.took_ns);
        }
    }
    let mut calls = Vec::new();
    for _ in 0..4 {
        for name in ["a", "b", "c"] {
            let (live, generation) = (live.clone(), generations[name].clone());
            calls.push(tokio::spawn(async move { (name, ask(&live, name, &generation).await) }));
        }
    }
    for call in calls {
        let (name, heard) = call.await.expect("no panic");
        assert_eq!(heard.text(), alone[name], "under pressure too");
    }
    drop(live);
    task.await.expect("the core never panics");
    assert!(machine.model(BackboneId(0)).is_none(), "nothing holds the backbone any more");
}
