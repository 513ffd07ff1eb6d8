#![allow(missing_docs, unused)]
#[path = "../../cli/src/bench_sandbox/stage.rs"]
mod stage;
use coldframe_sandbox::yardstick::Bare;
use coldframe_sandbox::*;
use stage::*;
use std::time::*;
const BARE: &[u8] = include_bytes!("../guests/bare.wasm");
fn main() {
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sandbox = Sandbox::new(SandboxOptions { calls: 1064, ..Default::default() }).unwrap();
    let f = rt.block_on(sandbox.load(BARE, Limits::default(), Grants::default())).unwrap();
    let bare = Bare::new(BARE).unwrap();
    let stage = Stage::new();
    let n = 20000;
    let (mut a, mut b) = (vec![], vec![]);
    rt.block_on(async {
        for _ in 0..n {
            let (s, r, q) = (stage.clone(), stage.reply(), request(&[]));
            let t = Instant::now();
            let e = f.call(q, s, r).await;
            a.push(t.elapsed());
            e.result.unwrap();
            let t = Instant::now();
            bare.instantiate_call_drop().unwrap();
            b.push(t.elapsed());
        }
    });
    a.sort(); b.sort();
    println!("{:?} ours p50 {:?} p90 {:?}   bare p50 {:?} p90 {:?}  ratio {:.3}", std::env::vars().filter(|v| v.0.starts_with("X_")).collect::<Vec<_>>(), a[n/2], a[n*9/10], b[n/2], b[n*9/10], a[n/2].as_secs_f64()/b[n/2].as_secs_f64());
}
