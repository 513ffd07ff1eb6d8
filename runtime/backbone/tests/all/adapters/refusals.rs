//! What is refused: fields, tensors, files; each with a typed error that names the place.

use super::*;
#[test]
fn fields_are_refused_as_listed() {
    let cases = [
        (json!({"peft_type": "IA3"}), "IA3"),
        (json!({"peft_type": null}), "peft_type"),
        (json!({"task_type": "SEQ_CLS"}), "SEQ_CLS"),
        (json!({"bias": "all"}), "bias"),
        (json!({"trainable_token_indices": [1]}), "trainable_token_indices"),
        (json!({"target_parameters": ["mlp.experts.gate_up_proj"]}), "target_parameters"),
        (json!({"alora_invocation_tokens": [1, 2]}), "alora_invocation_tokens"),
        (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
        (json!({"use_qalora": true}), "use_qalora"),
        (json!({"use_bdlora": {"nblocks": 2}}), "use_bdlora"),
        (json!({"arrow_config": {"a": 1}}), "arrow_config"),
        (json!({"monteclora_config": {"a": 1}}), "monteclora_config"),
        (json!({"kasa_config": {"a": 1}}), "kasa_config"),
        (json!({"megatron_config": {"a": 1}}), "megatron_config"),
        (json!({"ensure_weight_tying": true}), "ensure_weight_tying"),
        (json!({"init_lora_weights": "pissa_niter_16"}), "pissa_niter_16"),
        (json!({"init_lora_weights": "loftq"}), "loftq"),
        (json!({"init_lora_weights": "newest"}), "newest"),
        (json!({"use_something_new": true}), "use_something_new"),
        (json!({"something_new": {"k": 1}}), "something_new"),
        (json!({"modules_to_save": ["norm"]}), "norm"),
        (json!({"target_modules": null}), "target_modules"),
        (json!({"target_modules": [1]}), "target_modules"),
        (json!({"target_modules": "(?=q).*"}), "target_modules"),
        (json!({"rank_pattern": {"(q": 2}}), "rank_pattern"),
        (json!({"exclude_modules": "(?<!q)v"}), "exclude_modules"),
        (json!({"layers_pattern": "layers"}), "layers_to_transform"),
        (json!({"target_modules": ".*q_proj", "layers_to_transform": [1]}), "layers_to_transform"),
        (json!({"lora_bias": true, "use_dora": true}), "lora_bias"),
        (json!({"use_dora": "yes"}), "use_dora"),
        (json!({"r": 0}), "r: rank is 0"),
        (json!({"r": -1}), "-1"),
        (json!({"r": 2.5}), "2.5"),
        (json!({"rank_pattern": {"q_proj": 0}}), "rank_pattern.q_proj"),
        (json!({"lora_alpha": "16"}), "lora_alpha"),
        (json!({"lora_alpha": 1e300}), "lora_alpha"),
        (json!({"adaptations": 4}), "adaptations"),
    ];
    for (more, word) in cases {
        refused(&Folder::plain().with(more), "invalid_adapter", &[word]);
    }
    refused(&Folder::plain().with(json!({"r": 1_000_000_000})), "too_large", &["1000000000", "256"]);
}

#[test]
fn fields_are_ignored_as_listed() {
    let folder = Folder::plain().with(json!({
        "lora_dropout": 0.5, "inference_mode": false, "auto_mapping": {"a": 1}, "peft_version": "1",
        "loftq_config": {"a": 1}, "eva_config": {"a": 1}, "corda_config": {"a": 1}, "lora_ga_config": {"a": 1},
        "velora_config": {"a": 1}, "megatron_core": "m", "runtime_config": {"a": 1}, "qalora_group_size": 16,
        "use_qalora": false, "revision": "main", "newer": null, "newer_still": [], "newest": {}, "last": false,
        "init_lora_weights": "gaussian", "trainable_token_indices": null, "fan_in_fan_out": false,
    }));
    assert!(folder.loaded().warnings().is_empty());
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let f16_bits =
        |bits: u16| move |tensor: &mut Tensor| tensor.bytes[2..4].copy_from_slice(&bits.to_le_bytes());
    let v1b = "layers.1.self_attn.v_proj.lora_B";
    for (bits, what) in [(0x7e00, "NaN"), (0x7c00, "infinite"), (0xfc00, "infinite")] {
        refused(&Folder::plain().change(v1b, f16_bits(bits)), "invalid_adapter", &[v1b, what]);
    }
    let huge = random(&format!("base_model.model.model.{v1b}.weight"), "F32", &[4, 2]);
    let huge = Tensor { bytes: [1e38f32; 8].iter().flat_map(|value| value.to_le_bytes()).collect(), ..huge };
    refused(&Folder::plain().change(v1b, |tensor| *tensor = huge.clone()), "invalid_adapter", &[v1b, "1e38"]);

    let zero = Folder::plain().change("lora_B", |tensor| tensor.bytes.fill(0));
    refused(&zero, "invalid_adapter", &["every delta is zero"]);
    let limits = Limits { allow_zero: true, ..Limits::default() };
    assert!(Adapter::load(zero.write(), &base(), &limits).is_ok());
    let partly = Folder::plain().change(v1b, |tensor| tensor.bytes.fill(0)).loaded();
    assert!(partly.warnings()[0].contains("model.layers.1.self_attn.v_proj"), "{:?}", partly.warnings());
    refused(&Folder::plain().with(json!({"lora_alpha": 0})), "invalid_adapter", &["every delta is zero"]);

    let rank = Folder::plain().change(v1b, |tensor| {
        tensor.shape = vec![4, 1];
        tensor.bytes.truncate(8);
    });
    refused(&rank, "invalid_adapter", &[v1b, "rank 1", "says 2"]);
    refused(&Folder::plain().with(json!({"r": 3})), "invalid_adapter", &["rank 2", "says 3"]);
    let empty = Folder::plain().change(v1b, |tensor| {
        tensor.shape = vec![4, 0];
        tensor.bytes.clear();
    });
    refused(&empty, "invalid_adapter", &[v1b, "rank is 0"]);
    let wide = Folder::plain().change("q_proj.lora_A", |tensor| {
        tensor.shape = vec![2, 16];
        tensor.bytes = vec![0x11; 64];
    });
    refused(&wide, "incompatible_base", &["q_proj.lora_A", "16", "8"]);
    let integers =
        Folder::plain().change(v1b, |tensor| *tensor = random(&tensor.name.clone(), "I64", &[4, 2]));
    refused(&integers, "invalid_adapter", &[v1b, "integers"]);
    let resized = Folder::plain().plus(random("base_model.model.lm_head.weight", "F16", &[11, 8]));
    refused(&resized, "incompatible_base", &["lm_head", "[11, 8]", "[10, 8]"]);
}

#[test]
fn tensors_without_a_counterpart_are_named() {
    let lora_a = |path: &str, columns| random(&format!("{path}.lora_A.weight"), "F16", &[2, columns]);
    let more =
        (0..7).fold(Folder::plain(), |folder, index| folder.plus(lora_a(&format!("model.extra{index}"), 8)));
    refused(&more, "invalid_adapter", &["7 left over", "model.extra4", "2 more"]);
    refused(
        &Folder::plain().plus(lora_a("other.self_attn.q_proj", 8)),
        "invalid_adapter",
        &["other.self_attn"],
    );
    refused(
        &Folder::plain().plus(lora_a("model.layers.9.self_attn.q_proj", 8)),
        "incompatible_base",
        &["9", "2 layers"],
    );
    refused(&Folder::plain().plus(lora_a("model.layers.0.mlp.up_proj", 8)), "invalid_adapter", &["up_proj"]);
    let norm = random("base_model.model.model.norm.weight", "F16", &[1, 8]);
    refused(&Folder::plain().plus(norm), "invalid_adapter", &["model.norm.weight"]);
    let block = random("base_model.model.model.layers.0.mlp.up_proj.weight", "F16", &[12, 8]);
    refused(&Folder::plain().plus(block), "invalid_adapter", &["up_proj.weight"]);
    let untargeted = Folder::plain().with(json!({"target_modules": ["q_proj"]}));
    refused(&untargeted, "invalid_adapter", &["2 adapted by tensors", "v_proj"]);
    let missing = Folder::plain().with(json!({"target_modules": ["q_proj", "v_proj", "k_proj"]}));
    refused(&missing, "invalid_adapter", &["2 named by the configuration", "k_proj"]);
    let mut half = Folder::plain();
    half.tensors.retain(|tensor| !tensor.name.contains("layers.0.self_attn.q_proj.lora_B"));
    refused(&half, "invalid_adapter", &["layers.0.self_attn.q_proj", "no lora_B"]);
    let twice = Folder::plain().plus(lora_a("model.layers.0.self_attn.q_proj", 8));
    refused(&twice, "invalid_adapter", &["two names"]);
    let magnitude = random(&format!("{Q0}.lora_magnitude_vector"), "F16", &[8]);
    refused(&Folder::plain().plus(magnitude), "invalid_adapter", &["magnitude", "does not have"]);
    refused(&Folder::new(Folder::plain().config, vec![]), "invalid_adapter", &["q_proj"]);
}

#[test]
fn evil_names_are_only_names() {
    for name in [
        "../../x",
        "a\u{0}b",
        "",
        "/etc/passwd",
        "base_model.model.",
        ".lora_A.weight",
        "mоdel.lora_A.weight",
    ] {
        let error = Folder::plain().plus(random(name, "F16", &[2, 8])).load().expect_err(name);
        assert!(matches!(error, Error::InvalidAdapter { .. } | Error::Corrupt { .. }), "{name}: {error}");
        assert!(!error.to_string().contains('\0'), "{error:?}");
    }
    let long = Folder::plain().plus(random(&"x".repeat(1 << 20), "F16", &[2, 8])).load().expect_err("1 MiB");
    assert!(long.to_string().len() < 4096, "{} bytes of message", long.to_string().len());
}

#[test]
fn broken_files_are_typed_errors() {
    let check = |name: &str, bytes: &[u8], codes: &[&str]| {
        let folder = Folder::plain();
        folder.write();
        fs::write(folder.path().join(name), bytes).expect("file");
        let error = Adapter::load(folder.path(), &base(), &Limits::default()).expect_err(name);
        assert!(codes.contains(&error.code()), "{name}: {} {error}", error.code());
    };
    let tensors = "adapter_model.safetensors";
    check(tensors, b"", &["corrupt_file"]);
    check(tensors, b"PK\x03\x04aaaaaaaaaaaa", &["forbidden_file"]);
    check(tensors, b"\x80\x02}q\x00.aaaaaaaa", &["forbidden_file"]);
    check(tensors, &u64::MAX.to_le_bytes(), &["corrupt_file"]);
    let mut bomb = (57u64 << 20).to_le_bytes().to_vec();
    bomb.resize((57 << 20) + 8, b' ');
    bomb[8] = b'{';
    check(tensors, &bomb, &["too_large"]);
    let mut short = safetensors(&Folder::plain().tensors);
    short.pop();
    check(tensors, &short, &["corrupt_file"]);
    for config in ["", "[]", "{", r#"{"r": NaN}"#, r#"{"r": 1, "r": 2}"#, "\u{feff}{}", &"[".repeat(100_000)]
    {
        check("adapter_config.json", config.as_bytes(), &["invalid_adapter"]);
    }
    check("adapter_config.json", &vec![b' '; (1 << 20) + 1], &["too_large"]);
}

#[test]
fn files_of_other_kinds_are_not_opened() {
    let outside = Folder::plain();
    outside.write();
    let load = |path: &Path| Adapter::load(path, &base(), &Limits::default()).expect_err("refused");
    let folder = || {
        let folder = Folder::plain();
        fs::write(folder.path().join("adapter_config.json"), folder.config.to_string()).expect("config");
        folder
    };
    // A pickle in place of the tensors.
    let pickle = folder();
    fs::write(pickle.path().join("adapter_model.bin"), b"PK\x03\x04").expect("file");
    let error = load(pickle.path());
    assert!(error.code() == "forbidden_file" && error.to_string().contains("pickle"), "{error}");
    // A link out of the folder, to the tensors or to the configuration; a link to the folder; a pipe.
    let linked = folder();
    let target = outside.path().join("adapter_model.safetensors");
    std::os::unix::fs::symlink(&target, linked.path().join("adapter_model.safetensors")).expect("link");
    assert_eq!(load(linked.path()).code(), "forbidden_file");
    let linked = tempfile::tempdir().expect("folder");
    let target = outside.path().join("adapter_config.json");
    std::os::unix::fs::symlink(target, linked.path().join("adapter_config.json")).expect("link");
    assert_eq!(load(linked.path()).code(), "forbidden_file");
    let link = linked.path().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).expect("link");
    assert_eq!(load(&link).code(), "forbidden_file");
    let piped = folder();
    let pipe = piped.path().join("adapter_model.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    assert_eq!(load(piped.path()).code(), "forbidden_file");
    assert_eq!(load(Path::new("/dev/zero")).code(), "forbidden_file");
    // Files by themselves.
    for magic in [&b"PK\x03\x04"[..], b"\x1f\x8b", b"\x80\x04", b"hello", b"\x08\0\0\0\0\0\0\0{}      "] {
        let file = piped.path().join("file");
        fs::write(&file, magic).expect("file");
        assert_eq!(load(&file).code(), "forbidden_file", "{magic:?}");
    }
    assert_eq!(load(&piped.path().join("nothing")).code(), "io");
    assert_eq!(load(tempfile::tempdir().expect("folder").path()).code(), "not_found");
    // Outside the root.
    let root = Limits { root: Some(piped.path().to_owned()), ..Limits::default() };
    assert_eq!(Adapter::load(outside.path(), &base(), &root).expect_err("outside").code(), "forbidden_file");
    let root = Limits { root: outside.path().parent().map(Path::to_owned), ..Limits::default() };
    assert!(Adapter::load(outside.path(), &base(), &root).is_ok());
}

#[test]
fn limits_hold() {
    let folder = Folder::plain();
    let load = |limits: Limits| Adapter::load(folder.write(), &base(), &limits);
    let refused = |limits| assert!(matches!(load(limits), Err(Error::TooLarge { .. })));
    refused(Limits { rank_max: 1, ..Limits::default() });
    refused(Limits { file_bytes_max: 100, ..Limits::default() });
    refused(Limits { memory_bytes_max: 4095, ..Limits::default() });
    assert!(load(Limits { memory_bytes_max: 4096, rank_max: 2, ..Limits::default() }).is_ok());
}

#[test]
fn a_dry_run_tells_everything_at_once() {
    let folder = Folder::plain();
    let answer = dry_run(folder.write(), &base().0, &Limits::default(), Room::ANY);
    let adapter = folder.loaded();
    assert!(answer.fits && answer.problems.is_empty(), "{answer:?}");
    assert_eq!((answer.bytes.host, answer.bytes.device), (adapter.bytes(), adapter.bytes()));
    let sizes = ["adapter_config.json", "adapter_model.safetensors"]
        .map(|name| fs::metadata(folder.path().join(name)).expect("file").len());
    assert_eq!(answer.bytes.disk, sizes.iter().sum::<u64>());
    assert_eq!((answer.kind, answer.rank_max, answer.sites.len()), (Some("lora"), 2, 4));

    let cramped =
        dry_run(folder.path(), &base().0, &Limits::default(), Room { host: u64::MAX, device: 4095 });
    assert!(!cramped.fits && cramped.problems[0].code == "no_room", "{cramped:?}");

    let bad = Folder::plain()
        .with(json!({"use_new": true, "bias": "all", "target_modules": ["q_proj", "v_proj", "k_proj"]}))
        .plus(random("model.extra.lora_A.weight", "F16", &[2, 8]))
        .change("layers.0.self_attn.q_proj.lora_A", |tensor| {
            *tensor = random(&tensor.name.clone(), "F16", &[2, 16])
        });
    let answer = dry_run(bad.write(), &base().0, &Limits::default(), Room::ANY);
    let codes: Vec<_> = answer.problems.iter().map(|problem| problem.code).collect();
    let expected =
        ["invalid_adapter", "invalid_adapter", "incompatible_base", "invalid_adapter", "invalid_adapter"];
    assert_eq!(codes, expected, "{:#?}", answer.problems);
    let json = serde_json::to_value(&answer).expect("serialises");
    assert_eq!(
        json["problems"][2]["place"],
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    );

    let nothing = dry_run(Path::new("/nonexistent"), &base().0, &Limits::default(), Room::ANY);
    assert!(!nothing.fits && nothing.problems[0].code == "io", "{nothing:?}");
}

#[test]
fn a_refused_adapter_keeps_no_memory() {
    if !alone("adapters::refusals::a_refused_adapter_keeps_no_memory") {
        return;
    }
    // Both are found out after the block is made and filled.
    let nan = Folder::plain().change("layers.1.self_attn.v_proj.lora_B", |tensor| tensor.bytes.fill(0xff));
    let zero = Folder::plain().change("lora_B", |tensor| tensor.bytes.fill(0));
    for folder in [nan, zero] {
        assert!(folder.load().is_err());
        assert_eq!(live_bytes(), 0);
    }
    let kept = Folder::plain().loaded();
    assert_eq!(live_bytes(), kept.bytes());
}
