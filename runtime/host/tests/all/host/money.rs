//! Money: rows under a tariff, what is shared split three ways, a month's budget that ends.

use super::Server;
use crate::tiny::Tiny;
use coldframe_host::host::HostConfig;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Writes a tariff for this kind of machine: so much a call, so much for a second of the device.
fn tariff(folder: &Path, request: u64, second: u64) -> String {
    let path = folder.join("tariff.toml");
    let text = format!(
        "name = \"own\"\nabout = \"a test's\"\nsource = \"nobody\"\nseen = \"never\"\ngpu_basis = \"reserved\"\n\
         bill_startup = true\nbill_idle = true\nlife = \"exact\"\nvcpu_nano_usd_per_s = 0\n\
         memory_nano_usd_per_gb_s = 0\nrequest_nano_usd = {request}\n[gpu_nano_usd_per_s]\ncpu = {second}\n"
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn priced(path: String) -> impl FnOnce(&mut HostConfig) {
    move |config| config.tariff = Some(path)
}

fn rows(said: &Value) -> Vec<Value> {
    said["data"].as_array().expect("a list").clone()
}

fn of(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name}: {row}"))
}

/// Usage once it has so many requests: a row is handed over when its call has ended, a moment after its last byte.
fn usage(server: &Server, path: &str, requests: u64) -> Vec<Value> {
    for _ in 0..500 {
        let rows = rows(&server.operator("GET", path, &Value::Null).expect(200).value);
        if rows.iter().map(|row| of(row, "requests")).sum::<u64>() >= requests {
            return rows;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never {requests} requests in {path}");
}

fn call(server: &Server, key: &str) -> super::Said {
    let body = json!({"model": "tiny", "prompt": "hello", "max_tokens": 2}).to_string();
    server.ask(key, "POST", "/v1/completions", &[], &body)
}

#[test]
fn a_tenant_is_cut_off_at_its_budget_and_another_is_not() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let path = tariff(data.path(), 1_000, 0);
    let server = Server::start(tiny.clone(), data.path(), priced(path.clone()));
    let budget = |nano: u64| json!({"quota": {"month_nanodollars": nano}});
    server.operator("PUT", "/admin/v1/tenants/poor", &budget(2_000)).expect(201);
    server.operator("PUT", "/admin/v1/tenants/rich", &budget(1_000_000)).expect(201);
    let (poor, rich) = (server.key("poor", "invoke"), server.key("rich", "invoke"));
    for n in 1..=2 {
        call(&server, &poor).expect(200);
        usage(&server, "/admin/v1/usage?tenant=poor", n);
    }
    let refused = call(&server, &poor).expect(429);
    assert_eq!(refused.code(), "insufficient_quota");
    assert!(refused.retry_after.is_some_and(|seconds| seconds >= 1), "{refused:?}");
    call(&server, &rich).expect(200);
    drop(server);

    // What was spent is in the ledger, so a restart gives nothing back.
    let server = Server::start(tiny, data.path(), priced(path));
    assert_eq!(call(&server, &poor).expect(429).code(), "insufficient_quota");
    call(&server, &rich).expect(200);
    server.operator("PUT", "/admin/v1/tenants/poor", &budget(3_000)).expect(200);
    call(&server, &poor).expect(200);
    let poors = usage(&server, "/admin/v1/usage?tenant=poor&by=tenant", 3);
    assert_eq!(of(&poors[0], "nanodollars"), 3_000);
}

#[test]
fn the_shared_part_is_split_three_ways_each_to_the_whole() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let path = tariff(data.path(), 7, 1_000_000_007);
    let server = Server::start(tiny.clone(), data.path(), priced(path.clone()));
    for name in ["a", "b", "c"] {
        server.register(&format!("f-{name}"), name).expect(201);
    }
    for model in ["f-a", "f-a", "f-b", "f-c"] {
        server.say(model).expect(200);
    }
    // A backbone's stretch is told when it ends.
    drop(server);
    let server = Server::start(tiny, data.path(), priced(path));
    let all = usage(&server, "/admin/v1/usage", 4);
    let sum = |name: &str| all.iter().map(|row| of(&row["shared_nanodollars"], name)).sum::<u64>();
    assert!(sum("equal") > 0, "{all:?}");
    assert_eq!((sum("use"), sum("shapley")), (sum("equal"), sum("equal")));
    for row in &all {
        let total = of(row, "nanodollars") + of(&row["shared_nanodollars"], "shapley");
        assert_eq!(of(row, "total_nanodollars"), total);
        assert!(of(row, "nanodollars") >= 7 * of(row, "requests"));
    }
    let equal: Vec<u64> = all.iter().map(|row| of(&row["shared_nanodollars"], "equal")).collect();
    assert!(equal.iter().all(|part| part.abs_diff(equal[0]) <= 1), "{equal:?}");
    // One tenant's view, and a sum by tenant, are parts of the same whole.
    let by_tenant = usage(&server, "/admin/v1/usage?by=tenant", 4);
    assert_eq!(by_tenant.len(), 1);
    assert_eq!(of(&by_tenant[0]["shared_nanodollars"], "shapley"), sum("shapley"));
    let one = usage(&server, "/admin/v1/usage?function=f-a", 2);
    assert_eq!(one, [all[0].clone()]);

    // The rows themselves, as tables.
    let table = server.operator("GET", "/admin/v1/usage/rows?table=requests", &Value::Null).expect(200).text;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].ends_with("nanodollars") && lines.len() >= 5, "{table}");
    let paid: u64 =
        lines[1..].iter().map(|line| line.rsplit(',').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(paid, all.iter().map(|row| of(row, "nanodollars")).sum::<u64>());
    let residency = "/admin/v1/usage/rows?table=residency";
    let seen = server.operator("GET", residency, &Value::Null).expect(200).text;
    assert!(seen.lines().any(|line| line.contains("backbone") && line.contains("f-b=")), "{seen}");
    let tenant = server.key("default", "admin");
    let own = server.ask(&tenant, "GET", residency, &[], "").expect(200).text;
    assert!(
        !own.contains("=") && own.contains("adapter"),
        "who else keeps a backbone is not theirs to see: {own}"
    );
}

#[test]
fn a_call_is_in_the_usage_that_is_asked_for_next() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    server.say("tiny").expect(200);
    // Well within the half second between two writes of the ledger, but for the moment until the call has ended.
    let rows = usage(&server, "/admin/v1/usage", 1);
    assert_eq!(rows.len(), 1);
    assert_eq!((of(&rows[0], "requests"), of(&rows[0], "total_nanodollars")), (1, 0));
}

#[test]
fn a_tariff_that_does_not_price_this_machine_is_refused_at_the_start() {
    use coldframe_host::host::Host;
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny.clone(), data.path(), |_| {});
    let mut config = server.config.clone();
    drop(server);
    config.tariff = Some("modal".to_owned());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let refused = runtime.block_on(Host::start(config.clone(), None)).err().expect("refused").to_string();
    assert!(refused.contains("tariff_device") && refused.contains("l40s"), "{refused}");
    config.tariff_device = "l40s".to_owned();
    drop(runtime.block_on(Host::start(config, None)).expect("a host"));
}
