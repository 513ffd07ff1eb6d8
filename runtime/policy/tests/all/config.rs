//! A policy file's mistakes are told with their place; presets survive their own TOML.

use coldframe_policy::config::{from_table, preset, preset_names, preset_toml, set};

#[test]
fn presets_round_trip() {
    for name in preset_names() {
        let policy = preset(&name).expect("a preset");
        let back = from_table(toml::Table::try_from(&policy).expect("a table"), &name).expect("a policy");
        assert_eq!(back, policy);
    }
    let error = preset("slora").expect_err("no such preset").to_string();
    assert!(error.contains("slora") && error.contains("serverlesslora"), "{error}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    fn check(name: &str, key: &str, value: &str, reason: &str) {
        let mut table = preset_toml(name).expect("a preset");
        let made = set(&mut table, key, value).and_then(|()| from_table(table, "mine.toml"));
        let error = made.expect_err(key).to_string();
        assert!(error.contains(reason), "{key} = {value}: {error}");
        assert!(error.contains("mine.toml") || error.contains(key), "{key} = {value}: {error}");
    }
    check("vllm", "engine.speed", "3", "speed");
    check("vllm", "engine.max_sequences", "'many'", "invalid type");
    check("vllm", "motor.max_sequences", "3", "`motor` is no section");
    check("vllm", "engine.max_sequences", "0", "at least 1");
    check("vllm", "engine.max_adapters", "17", "can't be larger");
    check("vllm", "engine.memory_permille", "1001", "1..=1000");
    check("vllm", "engine.paged_kv", "false", "one KV pool");
    check("vllm", "sharing.kind", "private", "exclusive_gpu");
    check("serverlesslora", "engine.paged_kv", "true", "whole device");
    check("serverlesslora", "scaling", "{ kind = 'fixed', replicas = 1 }", "go together");
    check("serverlesslora", "queue.patience_s", "nan", "must be positive");
    check("serverlesslora", "queue.limit", "0", "must be positive");
    check("serverlesslora", "keep_alive.adapter_s", "-1.0", "keep_alive.adapter_s = -1");
    check("serverlesslora", "keep_alive.adapter_s", "nan", "keep_alive.adapter_s");
    check("serverlesslora", "preload.classes", "['glue']", "glue");
    check("instainfer", "preload.p_load", "0.99", "p_offload");
    check("instainfer", "keep_alive.p_offload", "1.5", "p_offload");
}
