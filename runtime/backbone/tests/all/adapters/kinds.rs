//! The other kinds: MoS, AdaMix, llama.cpp, and what the converter writes.

use super::*;
/// A MoS folder of q and v: pools of 6 shards, 2 to a vector.
fn mos() -> Folder {
    let config = json!({
        "peft_type": "MOS", "r": 3, "lora_alpha": 6, "shards_per_vector": 2, "target_modules": ["q_proj", "v_proj"],
    });
    let mut tensors = Vec::new();
    for (kind, out) in [("q_proj", 8), ("v_proj", 4)] {
        tensors.push(random(&format!("mos.{kind}.pool_A"), "F16", &[6, 4]));
        tensors.push(random(&format!("mos.{kind}.pool_B"), "BF16", &[6, out / 2]));
        for layer in 0..LAYERS {
            let path = format!("model.layers.{layer}.self_attn.{kind}");
            let layer = layer as f32;
            tensors.push(tensor(
                &format!("{path}.index_A"),
                "I32",
                &[3, 2],
                &[0., 1., 2., 3., 4. + layer, 0.],
            ));
            tensors.push(tensor(
                &format!("{path}.index_B"),
                "I64",
                &[3, 2],
                &[5., 0., 1., 1., 3., 2. + layer],
            ));
        }
    }
    Folder::new(config, tensors)
}

#[test]
fn mos_gathers_vectors_from_shards() {
    let adapter = mos().loaded();
    assert_eq!((adapter.kind(), adapter.rank_max(), adapter.sites().count()), ("mos", 3, 4));
    let delta = adapter.delta(V1).expect("delta");
    assert_eq!((delta.rank, delta.scale), (3, 2.0));
    let gathered = |name: &str, count: usize, width: usize, picks: &[usize]| -> Vec<f32> {
        let pool = numbers(name, count * width);
        picks.iter().flat_map(|&pick| pool[pick * width..][..width].to_vec()).collect()
    };
    assert_eq!(values(delta.a), gathered("mos.v_proj.pool_A", 6, 4, &[0, 1, 2, 3, 5, 0]));
    assert_eq!(values(delta.b), gathered("mos.v_proj.pool_B", 6, 2, &[5, 0, 1, 1, 3, 3]));
    let outside = mos().change("layers.1.self_attn.v_proj.index_B", |tensor| tensor.bytes[0] = 6);
    refused(&outside, "invalid_adapter", &["v_proj.index_B", "shard 6", "6"]);
    let negative = mos().change("layers.1.self_attn.v_proj.index_A", |tensor| tensor.bytes[3] = 0x80);
    refused(&negative, "invalid_adapter", &["index_A", "-2147483648"]);
    refused(&mos().with(json!({"shards_per_vector": 4})), "incompatible_base", &["pool_A"]);
    refused(&mos().with(json!({"r": 2})), "invalid_adapter", &["index_A", "[2, 2]"]);
    refused(
        &mos().plus(random("mos.k_proj.pool_A", "F16", &[6, 4])),
        "invalid_adapter",
        &["mos.k_proj.pool_A"],
    );
    let mut poolless = mos();
    poolless.tensors.retain(|tensor| tensor.name != "mos.q_proj.pool_B");
    refused(&poolless, "invalid_adapter", &["mos.q_proj.pool_B", "missing"]);
    refused(&mos().with(json!({"target_modules": ["lm_head"]})), "invalid_adapter", &["lm_head"]);
}

/// An AdaMix folder: three A's and one shared B at each site.
fn adamix() -> Folder {
    let mut folder = Folder::plain().with(json!({"peft_type": "ADAMIX", "adaptations": 3}));
    let plain = std::mem::take(&mut folder.tensors);
    for tensor in plain {
        let count = if tensor.name.contains("lora_A") { 3 } else { 1 };
        for number in 0..count {
            let name = tensor.name.replace(".weight", &format!(".{number}.weight"));
            folder.tensors.push(random(&name, "F16", &tensor.shape));
        }
    }
    folder
}

#[test]
fn adamix_averages_its_adaptations() {
    let adapter = adamix().loaded();
    let delta = adapter.delta(V1).expect("delta");
    assert_eq!((adapter.kind(), delta.a.dtype, delta.b.dtype), ("adamix", Dtype::F32, Dtype::F32));
    let name = |matrix: &str, number: usize| format!("base_model.model.{V1}.lora_{matrix}.{number}.weight");
    let all: Vec<_> = (0..3).map(|number| numbers(&name("A", number), 16)).collect();
    for (index, value) in values(delta.a).into_iter().enumerate() {
        let mean = (all[0][index] + all[1][index] + all[2][index]) / 3.0;
        assert!((value - mean).abs() < 1e-6, "{value} for {mean}");
    }
    assert_eq!(values(delta.b), transposed(&numbers(&name("B", 0), 8), 4));
    let mut two = adamix();
    two.tensors.retain(|tensor| !tensor.name.contains("lora_A.1."));
    refused(&two, "invalid_adapter", &["lora_A", "[0, 2]", "0 to 2"]);
    refused(&adamix().with(json!({"adaptations": 2})), "invalid_adapter", &["lora_A"]);
    let plain = Folder::plain().with(json!({"peft_type": "ADAMIX"}));
    refused(&plain, "invalid_adapter", &["left over"]);
}

/// A GGUF adapter of q and v at rank 2, f32, written by hand.
fn gguf_adapter(alpha: f32, architecture: &str, tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(4u64.to_le_bytes());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    for (key, value) in
        [("general.type", "adapter"), ("general.architecture", architecture), ("adapter.type", "lora")]
    {
        out.extend([text(key), 8u32.to_le_bytes().to_vec(), text(value)].concat());
    }
    out.extend(
        [text("adapter.lora.alpha"), 6u32.to_le_bytes().to_vec(), alpha.to_le_bytes().to_vec()].concat(),
    );
    let mut data: Vec<u8> = Vec::new();
    for tensor in tensors {
        data.resize(data.len().next_multiple_of(32), 0);
        out.extend(text(&tensor.name));
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&dim| out.extend((dim as u64).to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(&tensor.bytes);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// The same numbers in both forms, so that both load to the same adapter.
fn gguf_tensors() -> (Vec<Tensor>, Folder) {
    let folder =
        Folder::plain().change("lora", |tensor| *tensor = random(&tensor.name.clone(), "F32", &tensor.shape));
    let mut tensors = Vec::new();
    for (site, module) in
        (0..LAYERS).flat_map(|layer| [Module::Q, Module::V].map(|m| (Site::Block(layer, m), m)))
    {
        let (out, input) = base().0.shape(site);
        let name = |matrix| format!("base_model.model.{site}.lora_{matrix}.weight");
        let (a, b) = (numbers(&name("A"), 2 * input), numbers(&name("B"), 2 * out));
        // llama.cpp's order of q: row 2 i + j of a head is row j d / 2 + i of Hugging Face's.
        let order = |row: usize| row / 4 * 4 + row % 2 * 2 + row % 4 / 2;
        let b: Vec<f32> = match module {
            Module::Q => (0..out).flat_map(|row| b[order(row) * 2..][..2].to_vec()).collect(),
            _ => b,
        };
        let gguf = site.gguf_name();
        tensors.push(tensor(&format!("{gguf}.weight.lora_a"), "F32", &[2, input], &a));
        tensors.push(tensor(&format!("{gguf}.weight.lora_b"), "F32", &[out, 2], &b));
    }
    (tensors, folder)
}

fn gguf_file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("adapter.gguf");
    fs::write(&path, bytes).expect("file");
    (folder, path)
}

#[test]
fn a_gguf_adapter_is_the_same_as_its_peft_form() {
    let (tensors, folder) = gguf_tensors();
    let (_kept, path) = gguf_file(&gguf_adapter(4.0, "llama", &tensors));
    let adapter = Adapter::load(&path, &base(), &Limits::default()).expect("loads");
    assert_eq!((adapter.kind(), adapter.sites().count()), ("gguf", 4));
    assert_eq!(adapter.generation(), folder.loaded().generation());
    assert!(dry_run(&path, &base().0, &Limits::default(), Room::ANY).fits);
}

#[test]
fn gguf_adapters_are_checked_too() {
    let (tensors, _) = gguf_tensors();
    let load = |alpha: f32, architecture: &str, tensors: &[Tensor]| {
        let (_kept, path) = gguf_file(&gguf_adapter(alpha, architecture, tensors));
        Adapter::load(&path, &base(), &Limits::default())
    };
    assert_eq!(load(0.0, "llama", &tensors).expect("loads").delta(Q0).expect("delta").scale, 1.0);
    let check = |result: Result<Adapter>, code: &str, word: &str| {
        let error = result.expect_err(word);
        assert!(error.code() == code && error.to_string().contains(word), "{error}");
    };
    check(load(f32::NAN, "llama", &tensors), "invalid_adapter", "alpha");
    check(load(4.0, "qwen2", &tensors), "incompatible_base", "qwen2");
    check(load(4.0, "llama", &tensors[1..]), "invalid_adapter", "no lora_a");
    check(load(4.0, "llama", &[]), "invalid_adapter", "changes nothing");
    let extra = [tensors.clone(), vec![random("blk.7.attn_q.weight.lora_a", "F32", &[2, 8])]].concat();
    check(load(4.0, "llama", &extra), "invalid_adapter", "blk.7.attn_q");
    let mut wrong = tensors.clone();
    wrong[1] = random(&wrong[1].name.clone(), "F32", &[9, 2]);
    check(load(4.0, "llama", &wrong), "incompatible_base", "[9, 2]");
    // A model is no adapter.
    let mut model = gguf_adapter(4.0, "llama", &tensors);
    let at = model.windows(7).position(|window| window == b"adapter").expect("type");
    model[at..at + 7].copy_from_slice(b"bdapter");
    let (_kept, path) = gguf_file(&model);
    check(Adapter::load(&path, &base(), &Limits::default()), "invalid_adapter", "general.type");
}

/// Python with the converter's two packages: `COLDFRAME_PYTHON` or `python3`.
fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("COLDFRAME_PYTHON").unwrap_or_else(|| "python3".into());
    let works = std::process::Command::new(&python).args(["-c", "import numpy, safetensors.numpy"]).output();
    works.is_ok_and(|output| output.status.success()).then_some(python)
}

fn convert(python: &std::ffi::OsStr, args: &[&std::ffi::OsStr]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/convert-adapter.py");
    let output = std::process::Command::new(python).arg(script).args(args).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_the_converter_writes_loads() {
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with numpy and safetensors (COLDFRAME_PYTHON names one)");
        return;
    };
    let out = tempfile::tempdir().expect("folder");
    let (adamix_out, mos_out) = (out.path().join("adamix"), out.path().join("mos"));
    // Three folders that share their B's.
    let folders: Vec<_> = (0..3)
        .map(|number: usize| {
            let folder = Folder::plain().change("lora_A", |tensor| {
                *tensor = self::tensor(
                    &tensor.name.clone(),
                    "F16",
                    &tensor.shape,
                    &vec![number as f32; tensor.shape.iter().product()],
                );
            });
            folder.write();
            folder
        })
        .collect();
    let paths = folders.iter().map(|folder| folder.path().as_os_str());
    convert(
        &python,
        &[&["adamix".as_ref(), adamix_out.as_os_str()], &paths.collect::<Vec<_>>()[..]].concat(),
    );
    let adapter = Adapter::load(&adamix_out, &base(), &Limits::default()).expect("loads");
    let delta = adapter.delta(V1).expect("delta");
    assert_eq!(values(delta.a), [1.0; 16]);
    assert_eq!(values(delta.b), transposed(&numbers(&format!("base_model.model.{V1}.lora_B.weight"), 8), 4));
    // Pools and indices under other names.
    let mut source = mos();
    source.tensors.iter_mut().filter(|tensor| tensor.name.starts_with("mos.")).for_each(|tensor| {
        tensor.name = tensor.name.replace("mos.", "pools.").replace("pool_", "");
    });
    source.write();
    let state = source.path().join("adapter_model.safetensors");
    let alpha = ["--alpha", "6"].map(AsRef::as_ref);
    convert(&python, &[&["mos".as_ref(), mos_out.as_os_str(), state.as_os_str()], &alpha[..]].concat());
    let (adapter, direct) =
        (Adapter::load(&mos_out, &base(), &Limits::default()).expect("loads"), mos().loaded());
    for site in direct.sites() {
        let (converted, direct) = (adapter.delta(site).expect("delta"), direct.delta(site).expect("delta"));
        assert_eq!((converted.rank, converted.scale), (direct.rank, direct.scale));
        assert_eq!((converted.a.rows, converted.b.columns), (direct.a.rows, direct.b.columns));
    }
    // The pools' values depend on their names in this test, so compare with the names that were written.
    let pool = numbers("mos.v_proj.pool_A", 24);
    assert_eq!(values(adapter.delta(V1).expect("delta").a)[..4], pool[..4]);
}
