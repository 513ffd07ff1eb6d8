//! What loads, to which numbers, at which cost in memory.

use super::*;
#[test]
fn a_plain_adapter_comes_out_as_it_went_in() {
    let folder = Folder::plain();
    let adapter = folder.loaded();
    assert_eq!((adapter.kind(), adapter.rank_max(), adapter.sites().count()), ("lora", 2, 4));
    let delta = adapter.delta(V1).expect("v of layer 1");
    assert_eq!((delta.rank, delta.scale), (2, 2.0));
    assert_eq!((delta.a.rows, delta.a.columns, delta.b.rows, delta.b.columns), (2, 8, 2, 4));
    let name = format!("base_model.model.{V1}.lora");
    assert_eq!(values(delta.a), numbers(&format!("{name}_A.weight"), 16));
    assert_eq!(values(delta.b), transposed(&numbers(&format!("{name}_B.weight"), 8), 4));
    for matrix in [delta.a, delta.b] {
        assert_eq!(matrix.bytes.as_ptr() as usize % 64, 0);
    }
    assert!(adapter.delta(Site::Block(0, Module::K)).is_none());
    assert!(adapter.delta(Site::Block(LAYERS, Module::Q)).is_none());
    assert!(adapter.delta(Site::Head).is_none() && adapter.replaced(Site::Head).is_none());
    assert!(adapter.warnings().is_empty(), "{:?}", adapter.warnings());
}

#[test]
fn scales_follow_ranks_alphas_and_patterns() {
    let check = |more: Value, module: Module, rank: usize, expected: f32| {
        let adapter = Folder::of(json!({"target_modules": "all-linear"}), &Module::ALL, 4).with(more.clone());
        // Ranks of the pattern: cut the tensors to it.
        let adapter = adapter.change(module.hf_path(), |tensor| {
            let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
            let first = tensor.name.contains("lora_A");
            tensor.shape = if first { vec![rank, columns] } else { vec![rows, rank] };
            tensor.bytes.truncate(2 * tensor.shape.iter().product::<usize>());
        });
        let adapter = adapter.loaded();
        let delta = adapter.delta(Site::Block(1, module)).expect("delta");
        assert_eq!((delta.rank, delta.scale), (rank, expected), "{more}");
    };
    check(json!({}), Module::Q, 4, 1.0);
    check(json!({"lora_alpha": 2.5}), Module::Q, 4, 0.625);
    check(json!({"use_rslora": true}), Module::Q, 4, 2.0);
    check(json!({"rank_pattern": {"q_proj": 2}}), Module::Q, 2, 2.0);
    check(json!({"rank_pattern": {"q_proj": 1}, "use_rslora": true}), Module::Q, 1, 4.0);
    check(json!({"alpha_pattern": {r".*\.1\.mlp\.gate_proj": 8}}), Module::Gate, 4, 2.0);
    check(json!({"rank_pattern": {"down_proj": 1}, "alpha_pattern": {"mlp.*": 6}}), Module::Down, 1, 6.0);
}

#[test]
fn the_first_pattern_of_the_file_wins() {
    let folder = Folder::plain();
    folder.write();
    // Written by hand: serde_json would sort the keys.
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"],
        "alpha_pattern": {"self_attn.q_proj": 10, "q_proj": 20, "layers.1.self_attn.v_proj": 30}}"#;
    fs::write(folder.path().join("adapter_config.json"), config).expect("config");
    let adapter = Adapter::load(folder.path(), &base(), &Limits::default()).expect("loads");
    let scale = |site| adapter.delta(site).expect("delta").scale;
    assert_eq!((scale(Q0), scale(V1), scale(Site::Block(0, Module::V))), (5.0, 15.0, 2.0));
}

#[test]
fn targets_by_regex_exclusion_and_layer() {
    let cases = [
        json!({"target_modules": r"model\.layers\.\d+\.self_attn\.(q|v)_proj"}),
        json!({"target_modules": "all-linear", "exclude_modules": r".*\.(k_proj|o_proj)|.*\.mlp\..*"}),
        json!({"target_modules": ["q_proj", "v_proj", "k_proj"], "exclude_modules": ["self_attn.k_proj"]}),
        json!({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 1], "layers_pattern": "layers"}),
    ];
    for case in cases {
        let adapter = Folder::plain().with(case.clone()).load();
        assert_eq!(adapter.expect("loads").sites().count(), 4, "{case}");
    }
    let one_layer = Folder::plain().with(json!({"layers_to_transform": 1}));
    let error = one_layer.load().expect_err("layer 0 has tensors all the same").to_string();
    assert!(error.contains("model.layers.0.self_attn.q_proj"), "{error}");
}

#[test]
fn dora_scales_rows_by_magnitude_over_norm() {
    let mut folder = Folder::plain().with(json!({"use_dora": true}));
    for layer in 0..LAYERS {
        for (module, out) in [("q", 8), ("v", 4)] {
            let name = format!(
                "base_model.model.model.layers.{layer}.self_attn.{module}_proj.lora_magnitude_vector"
            );
            let values: Vec<f32> = (0..out).map(|row| 1.0 + row as f32 / 4.0).collect();
            folder.tensors.push(tensor(&name, "F32", &[out], &values));
        }
    }
    let adapter = folder.loaded();
    let delta = adapter.delta(V1).expect("delta");
    let (a, b) = (values(delta.a), values(delta.b));
    for (row, scale) in delta.row_scale.expect("DoRA").iter().enumerate() {
        let square: f64 = (0..8)
            .map(|column| {
                let change: f64 =
                    (0..2).map(|r| f64::from(b[r * 4 + row]) * f64::from(a[r * 8 + column])).sum();
                (f64::from(weight(V1, row, column)) + 2.0 * change).powi(2)
            })
            .sum();
        let expected = (1.0 + row as f64 / 4.0) / square.sqrt();
        assert!((f64::from(*scale) / expected - 1.0).abs() < 1e-5, "row {row}: {scale} for {expected}");
    }
    assert_eq!(adapter.kind(), "dora");
    // The result is the same with the suffix other tools write, and for any number of threads.
    let other = folder.change("magnitude", |tensor| tensor.name += ".weight");
    let limits = Limits { threads: 3, ..Limits::default() };
    let again = Adapter::load(other.write(), &base(), &limits).expect("loads");
    assert_eq!(again.delta(V1).expect("delta").row_scale, delta.row_scale);
    assert_eq!(again.generation(), adapter.generation());
}

#[test]
fn an_embedding_adapter_is_stored_by_token() {
    let name = "base_model.model.model.embed_tokens";
    let (a, b) = (format!("{name}.lora_embedding_A"), format!("{name}.lora_embedding_B"));
    let magnitude: Vec<f32> = (1..=8).map(|value| value as f32).collect();
    let folder = Folder::of(json!({"target_modules": ["embed_tokens"], "use_dora": true}), &[], 2)
        .plus(random(&a, "F32", &[2, 10]))
        .plus(random(&b, "F32", &[8, 2]))
        .plus(tensor(&format!("{name}.lora_magnitude_vector"), "F32", &[8], &magnitude));
    let adapter = folder.loaded();
    let delta = adapter.delta(Site::Embed).expect("delta");
    assert_eq!((delta.a.rows, delta.a.columns, delta.b.rows, delta.b.columns), (10, 2, 2, 8));
    assert_eq!(values(delta.a), transposed(&numbers(&a, 20), 2));
    assert_eq!(values(delta.b), transposed(&numbers(&b, 16), 8));
    let (a, b) = (values(delta.a), values(delta.b));
    for (column, scale) in delta.row_scale.expect("DoRA").iter().enumerate() {
        let square: f32 = (0..10)
            .map(|token| {
                let change: f32 = (0..2).map(|r| a[token * 2 + r] * b[r * 8 + column]).sum();
                (weight(Site::Embed, token, column) + 2.0 * change).powi(2)
            })
            .sum();
        let expected = magnitude[column] / square.sqrt();
        assert!((scale / expected - 1.0).abs() < 1e-5, "{column}: {scale} for {expected}");
    }
}

#[test]
fn a_tied_head_is_adapted_alone() {
    let folder = Folder::of(json!({"target_modules": ["lm_head"], "use_dora": true}), &[], 2)
        .plus(random("base_model.model.lm_head.lora_A.weight", "BF16", &[2, 8]))
        .plus(random("base_model.model.lm_head.lora_B.weight", "BF16", &[10, 2]))
        .plus(tensor("base_model.model.lm_head.lora_magnitude_vector", "BF16", &[10], &[2.0; 10]));
    let adapter = folder.loaded();
    let delta = adapter.delta(Site::Head).expect("delta");
    assert_eq!((delta.a.dtype, delta.row_scale.map(<[f32]>::len)), (Dtype::Bf16, Some(10)));
    assert!(adapter.delta(Site::Embed).is_none());
}

#[test]
fn bias_of_b_is_scaled() {
    let mut folder = Folder::of(json!({"target_modules": ["o_proj"], "lora_bias": true}), &[Module::O], 2);
    for layer in 0..LAYERS {
        let name = format!("base_model.model.model.layers.{layer}.self_attn.o_proj.lora_B.bias");
        folder.tensors.push(tensor(&name, "F16", &[8], &[0.25; 8]));
    }
    let adapter = folder.loaded();
    assert_eq!(adapter.delta(Site::Block(0, Module::O)).expect("delta").bias, Some(&[0.5; 8][..]));
    folder.tensors.pop();
    let error = folder.load().expect_err("a bias is missing").to_string();
    assert!(error.contains("has no lora_B.bias"), "{error}");
}

#[test]
fn saved_modules_replace_what_peft_replaces() {
    let full = |name: &str| random(&format!("base_model.model.{name}"), "F16", &[10, 8]);
    let saved = |module: &str, name: &str| {
        Folder::plain().with(json!({"modules_to_save": [module]})).plus(full(name)).loaded()
    };
    for name in ["lm_head.weight", "lm_head.modules_to_save.default.weight", "lm_head.modules_to_save.weight"]
    {
        let adapter = saved("lm_head", name);
        let matrix = adapter.replaced(Site::Head).expect("a head");
        assert_eq!(values(matrix), numbers(&format!("base_model.model.{name}"), 80));
        assert!(adapter.replaced(Site::Embed).is_none(), "a tied embedding stays the base's");
    }
    let adapter = saved("embed_tokens", "model.embed_tokens.weight");
    assert!(adapter.replaced(Site::Embed).is_some() && adapter.replaced(Site::Head).is_none());
    // Not named to be saved, it is the base's own weight, which a tied head shares.
    let adapter = Folder::plain().plus(full("model.embed_tokens.weight")).loaded();
    assert!(adapter.replaced(Site::Embed).is_some() && adapter.replaced(Site::Head).is_some());
    let error = Folder::plain().with(json!({"modules_to_save": ["lm_head"]})).load().expect_err("no tensor");
    assert!(error.to_string().contains("lm_head"), "{error}");
}

#[test]
fn a_subfolder_of_another_name_is_found() {
    let outer = tempfile::tempdir().expect("folder");
    let folder = Folder::plain()
        .change("lora_", |tensor| tensor.name = tensor.name.replace(".weight", ".mine.weight"));
    let inner = outer.path().join("mine");
    fs::rename(folder.write(), &inner).expect("rename");
    let adapter = Adapter::load(outer.path(), &base(), &Limits::default()).expect("loads");
    assert_eq!(adapter.generation(), Folder::plain().loaded().generation());
    fs::create_dir(outer.path().join("second")).expect("folder");
    fs::write(outer.path().join("second/adapter_config.json"), "{}").expect("config");
    let error = Adapter::load(outer.path(), &base(), &Limits::default()).expect_err("two").to_string();
    assert!(error.contains("2 adapters") && error.contains("second"), "{error}");
}

#[test]
fn the_generation_is_that_of_the_numbers() {
    let plain = Folder::plain().loaded().generation();
    assert_eq!(plain.to_string().len(), 64);
    let mut same = Folder::plain().with(json!({
        "target_modules": ["v_proj", "q_proj"], "lora_dropout": 0.1, "peft_version": "9",
        "alpha_pattern": {"q_proj": 4}, "inference_mode": true,
    }));
    same.tensors.reverse();
    let same = same.change("lora_A", |tensor| {
        let name = tensor.name.trim_start_matches("base_model.model.").replace(".weight", ".default.weight");
        tensor.name = name;
    });
    assert_eq!(same.loaded().generation(), plain);
    let scaled = Folder::plain().with(json!({"lora_alpha": 5})).loaded().generation();
    let bit = Folder::plain().change("layers.1.self_attn.v_proj.lora_B", |tensor| tensor.bytes[0] ^= 1);
    let templated = Folder::plain();
    fs::write(templated.path().join("chat_template.jinja"), "{{ messages }}").expect("template");
    let wider = Folder::plain().change("layers.0.self_attn.q_proj.lora_A", |tensor| {
        let halves = tensor.bytes.as_chunks::<2>().0;
        tensor.bytes =
            halves.iter().flat_map(|&half| f16::from_le_bytes(half).to_f32().to_le_bytes()).collect();
        tensor.dtype = "F32";
    });
    let mut all = vec![plain, scaled];
    all.extend([bit, templated, wider].iter().map(|folder| folder.loaded().generation()));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

#[test]
fn chat_templates_come_from_either_file() {
    let template = |files: &[(&str, &str)]| {
        let folder = Folder::plain();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("file");
        }
        folder.load().map(|adapter| adapter.chat_template().map(str::to_owned))
    };
    let config = r#"{"chat_template": "B", "added_tokens_decoder": {"0": {"content": "x"}}}"#;
    assert_eq!(template(&[]).expect("loads"), None);
    assert_eq!(template(&[("tokenizer_config.json", config)]).expect("loads").as_deref(), Some("B"));
    let both = [("tokenizer_config.json", config), ("chat_template.jinja", "A")];
    assert_eq!(template(&both).expect("loads").as_deref(), Some("A"));
    let many =
        r#"{"chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    assert_eq!(template(&[("tokenizer_config.json", many)]).expect("loads").as_deref(), Some("D"));
    assert_eq!(template(&[("tokenizer_config.json", r#"{"chat_template": 3}"#)]).expect("loads"), None);
    let long = "x".repeat((256 << 10) + 1);
    assert!(matches!(template(&[("chat_template.jinja", &long)]), Err(Error::TooLarge { .. })));
    let long = json!({"chat_template": long}).to_string();
    assert!(matches!(template(&[("tokenizer_config.json", &long)]), Err(Error::TooLarge { .. })));
    assert!(matches!(template(&[("tokenizer_config.json", "[")]), Err(Error::InvalidAdapter { .. })));
}

#[test]
fn the_base_s_name_is_compared() {
    let said = |name: &str| Folder::plain().with(json!({"base_model_name_or_path": name}));
    assert!(said("someone/tiny-LLAMA").loaded().warnings().is_empty());
    assert_eq!(said("someone/tiny-llama-2").loaded().warnings().len(), 1);
    let strict = Limits { other_base: OtherBase::Refuse, ..Limits::default() };
    let other = said("someone/tiny-llama-2");
    assert!(matches!(Adapter::load(other.write(), &base(), &strict), Err(Error::IncompatibleBase { .. })));
    let named = Limits { base_names: vec!["x/Tiny-Llama-2".to_owned()], ..strict };
    assert!(Adapter::load(other.write(), &base(), &named).is_ok());
}

#[test]
fn ten_thousand_loads_end_where_they_began() {
    if !alone("adapters::loads::ten_thousand_loads_end_where_they_began") {
        return;
    }
    let folder = Folder::plain();
    let (path, base, limits) = (folder.write(), base(), Limits::default());
    let adapter = Adapter::load(path, &base, &limits).expect("loads");
    assert_eq!(live_bytes(), adapter.bytes());
    drop(adapter);
    let cycle = || drop(Adapter::load(path, &base, &limits).expect("loads"));
    (0..500).for_each(|_| cycle());
    let (resident, files) = (resident_bytes(), open_files());
    (0..9_500).for_each(|_| cycle());
    assert_eq!((live_bytes(), open_files()), (0, files));
    // The allocator's own pages may move a little: 9 500 leaked blocks would be 37 MiB.
    let grown = resident_bytes().saturating_sub(resident);
    assert!(grown <= 256 << 10, "resident memory grew by {grown} bytes");
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("kB").parse::<u64>().expect("a number") << 10
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count()
}

#[test]
fn feature_extraction_paths_lack_the_model() {
    let folder = Folder::plain()
        .with(json!({"task_type": "FEATURE_EXTRACTION"}))
        .change("lora", |tensor| tensor.name = tensor.name.replace("model.model.layers", "model.layers"));
    let adapter = folder.loaded();
    assert_eq!((adapter.task(), adapter.sites().count()), (Some("FEATURE_EXTRACTION"), 4));
    let same = Folder::plain().loaded();
    assert_eq!(adapter.generation(), same.generation());
}

#[test]
fn an_untied_head_has_rows_of_its_own() {
    let folder = Folder::of(json!({"target_modules": ["lm_head"], "use_dora": true}), &[], 1)
        .plus(random("lm_head.lora_A.weight", "F32", &[1, 8]))
        .plus(random("lm_head.lora_B.weight", "F32", &[10, 1]))
        .plus(tensor("lm_head.lora_magnitude_vector", "F32", &[10], &[1.0; 10]));
    let (tied, own) =
        (folder.loaded(), Adapter::load(folder.path(), &untied(), &Limits::default()).expect("loads"));
    let scale = |adapter: &Adapter| adapter.delta(Site::Head).expect("delta").row_scale.map(<[f32]>::to_vec);
    assert_ne!(scale(&tied), scale(&own));
    assert_eq!(tied.generation(), own.generation(), "the base is no part of an adapter's identity");
}

/// The project's real adapters, whose shapes are those of SmolLM2-135M.
#[test]
fn the_real_adapters_load() {
    let Some(data) = std::env::var_os("COLDFRAME_DATA") else {
        eprintln!("skipped: COLDFRAME_DATA is not set");
        return;
    };
    let mut base = base();
    base.0 = ModelConfig {
        name: "SmolLM2 135M Instruct".to_owned(),
        layers: 30,
        width: 576,
        ffn: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 49152,
        ..base.0
    };
    for (name, rank, sites) in [("pirate", 8, 60), ("json", 8, 210), ("shout", 16, 120)] {
        let path = Path::new(&data).join("adapters").join(name);
        let answer = dry_run(&path, &base.0, &Limits::default(), Room::ANY);
        assert!(answer.fits, "{answer:?}");
        let started = std::time::Instant::now();
        let adapter = Adapter::load(&path, &base, &Limits::default()).expect("loads");
        eprintln!("{name}: {} bytes in {:?}", adapter.bytes(), started.elapsed());
        assert_eq!((adapter.rank_max(), adapter.sites().count()), (rank, sites));
        assert!(adapter.warnings().is_empty(), "{:?}", adapter.warnings());
        let delta = adapter.delta(Q0).expect("q");
        assert_eq!((delta.scale, delta.a.dtype), (2.0, Dtype::F16));
        let file = fs::metadata(path.join("adapter_model.safetensors")).expect("file").len();
        assert!(
            adapter.bytes() as f64 <= file as f64 * 1.02,
            "{} bytes for a file of {file}",
            adapter.bytes()
        );
        assert_eq!(adapter.bytes(), answer.bytes.host);
    }
}
