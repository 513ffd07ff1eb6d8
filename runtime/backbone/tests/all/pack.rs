//! Packs: what is in them, how they are made and found again, what damage does, and merged copies.

use crate::tiny::{Float, Tiny, real_model};
use candle_core::quantized::GgmlDType;
use coldframe_backbone::adapter::{Adapter, BaseWeights, Limits};
use coldframe_backbone::checkpoint::{Checkpoint, Part, Weight};
use coldframe_backbone::pack::{Format, Pack};
use coldframe_backbone::{Error, Module, Site};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

fn sites(layers: usize) -> impl Iterator<Item = Site> {
    let blocks = (0..layers as u32).flat_map(|layer| Module::ALL.map(|module| Site::Block(layer, module)));
    blocks.chain([Site::Embed, Site::Head])
}

fn rows_of(pack: &Pack, site: Site) -> Vec<f32> {
    let (rows, columns) = pack.config().shape(site);
    let mut values = vec![0.0; rows * columns];
    values.chunks_exact_mut(columns).enumerate().for_each(|(row, values)| pack.row(site, row, values));
    values
}

/// The pack files of a folder.
fn packs(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pack")).collect()
}

#[test]
fn a_gguf_and_a_folder_of_the_same_numbers_give_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::default();
    tiny.write_hf(&folder.path().join("hf"), Float::F32);
    tiny.write_gguf(&folder.path().join("m.gguf"), GgmlDType::F32);
    let hf = Pack::in_memory(&Checkpoint::open(&folder.path().join("hf")).unwrap()).unwrap();
    let gguf = Pack::in_memory(&Checkpoint::open(&folder.path().join("m.gguf")).unwrap()).unwrap();
    // The GGUF has the rows of q and k interleaved; the pack has undone it.
    for site in sites(2) {
        assert_eq!(rows_of(&hf, site), rows_of(&gguf, site), "{site}");
    }
    for part in [Part::AttnNorm, Part::FfnNorm] {
        let weight = Weight::Block(1, part);
        assert_eq!(hf.vector(weight).unwrap(), gguf.vector(weight).unwrap());
    }
    assert!(hf.vector(Weight::Block(0, Part::QNorm)).is_none());
}

#[test]
fn rows_are_the_checkpoints_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let wide = [GgmlDType::Q2K, GgmlDType::Q3K, GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K];
    let any =
        [GgmlDType::F16, GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_0, GgmlDType::Q5_1, GgmlDType::Q8_0];
    for dtype in wide.into_iter().chain(any) {
        let tiny = if wide.contains(&dtype) { Tiny::wide() } else { Tiny::default() };
        let path = folder.path().join("m.gguf");
        tiny.write_gguf(&path, dtype);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let pack = Pack::in_memory(&checkpoint).unwrap();
        for (site, part) in [(Module::V, Part::Linear(Module::V)), (Module::Down, Part::Linear(Module::Down))]
        {
            let view = checkpoint.weight(Weight::Block(0, part)).unwrap().unwrap();
            let mut expected = vec![0.0; view.rows * view.columns];
            view.dequantise(0..view.rows, &mut expected);
            assert_eq!(pack.linear(Site::Block(0, site)).format, Format::of(view.dtype).unwrap());
            let found = rows_of(&pack, Site::Block(0, site));
            let worst = expected.iter().zip(&found).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst <= 1e-6, "{dtype:?} {site:?}: {worst}");
        }
    }
}

#[test]
fn gemmas_norms_have_their_offset_folded_in() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny { family: coldframe_backbone::model::Family::Gemma3, tied: true, ..Tiny::default() };
    tiny.write_hf(folder.path(), Float::F32);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let pack = Pack::in_memory(&checkpoint).unwrap();
    let view = checkpoint.weight(Weight::FinalNorm).unwrap().unwrap();
    let mut stored = vec![0.0; view.columns * view.rows];
    view.dequantise(0..view.rows, &mut stored);
    let expected: Vec<f32> = stored.iter().map(|value| value + 1.0).collect();
    assert_eq!(pack.vector(Weight::FinalNorm).unwrap(), expected);
}

#[test]
fn the_file_is_made_once_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (model, cache) = (folder.path().join("m.gguf"), folder.path().join("cache"));
    Tiny::default().write_gguf(&model, GgmlDType::Q4_1);
    let checkpoint = Checkpoint::open(&model).unwrap();
    let mut told = Vec::new();
    let first = Pack::open_with(&checkpoint, &cache, &mut |done, all| told.push((done, all))).unwrap();
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert!(told.last().is_some_and(|(done, all)| done == all));
    first.verify().unwrap();
    let again = Pack::open_with(&checkpoint, &cache, &mut |_, _| panic!("it is there")).unwrap();
    assert_eq!(first.path(), again.path());
    assert_eq!(again.path().unwrap(), Pack::path_for(&checkpoint, &cache));
    assert_eq!(again.private_bytes(), 0);
    assert_eq!(again.mapped_bytes(), fs::metadata(again.path().unwrap()).unwrap().len());
    assert_eq!(fs::metadata(again.path().unwrap()).unwrap().permissions().mode() & 0o222, 0);
    let memory = Pack::in_memory(&checkpoint).unwrap();
    sites(2).for_each(|site| assert_eq!(rows_of(&memory, site), rows_of(&again, site), "{site}"));
    // The pack does not need the checkpoint any more, and still watches its file.
    drop(checkpoint);
    again.fence().unwrap();
    fs::remove_file(&model).unwrap();
    assert!(matches!(again.fence(), Err(Error::Changed { .. })));
}

#[test]
fn two_that_want_it_at_once_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let (model, cache) = (folder.path().join("m.gguf"), folder.path().join("cache"));
    Tiny::default().write_gguf(&model, GgmlDType::Q8_0);
    let inodes: Vec<u64> = std::thread::scope(|scope| {
        let open = || {
            let pack = Pack::open(&Checkpoint::open(&model).unwrap(), &cache).unwrap();
            fs::metadata(pack.path().unwrap()).unwrap().ino()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
    assert_eq!(packs(&cache).len(), 1);
    let rest = fs::read_dir(&cache).unwrap().count();
    assert_eq!(rest, 2, "a pack and its lock, nothing half made");
}

#[test]
fn damage_is_found_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (model, cache) = (folder.path().join("m.gguf"), folder.path().join("cache"));
    Tiny::default().write_gguf(&model, GgmlDType::Q4_0);
    let checkpoint = Checkpoint::open(&model).unwrap();
    let path = Pack::open(&checkpoint, &cache).unwrap().path().unwrap().to_owned();
    let good = fs::read(&path).unwrap();
    let header = u32::from_le_bytes(good[12..16].try_into().unwrap()) as usize;
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let text = |from: &str, to: &str| {
        let index = String::from_utf8(good[16..16 + header].to_vec()).unwrap();
        assert!(index.contains(from) && from.len() == to.len());
        let mut bytes = good.clone();
        bytes[16..16 + header].copy_from_slice(index.replacen(from, to, 1).as_bytes());
        bytes
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("short", good[..10].to_vec()),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("magic", changed(0, b'X')),
        ("version", changed(8, 99)),
        ("index length", changed(15, 0xff)),
        ("index", changed(16, b'[')),
        ("format", text("\"q4_0\"", "\"q4_1\"")),
        ("offset", text("\"offset\":4096", "\"offset\":4097")),
    ];
    for (what, bytes) in cases {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let pack = Pack::open(&checkpoint, &cache).unwrap_or_else(|error| panic!("{what}: {error}"));
        pack.verify().unwrap();
        assert_eq!(fs::read(&path).unwrap(), good, "{what}");
    }
    // A changed weight is not looked for at each start; `verify` finds it and names the section.
    fs::remove_file(&path).unwrap();
    fs::write(&path, changed(good.len() - 5, good[good.len() - 5] ^ 1)).unwrap();
    let error = Pack::open(&checkpoint, &cache).unwrap().verify().unwrap_err();
    assert!(matches!(&error, Error::Digest { what, .. } if what.contains("section blk.1.")), "{error}");
}

#[test]
fn a_link_in_its_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, cache) = (folder.path().join("m.gguf"), folder.path().join("cache"));
    Tiny::default().write_gguf(&model, GgmlDType::F16);
    let checkpoint = Checkpoint::open(&model).unwrap();
    fs::create_dir(&cache).unwrap();
    std::os::unix::fs::symlink(&model, Pack::path_for(&checkpoint, &cache)).unwrap();
    assert!(matches!(Pack::open(&checkpoint, &cache), Err(Error::Forbidden { .. })));
}

/// A PEFT folder with a rank-2 change of some modules of layer 0, and of the head.
fn adapter(folder: &Path, tiny: &Tiny, base: &Pack) -> Adapter {
    use crate::tiny::Numbers;
    fs::create_dir_all(folder).unwrap();
    let config = serde_json::json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 3,
        "target_modules": ["q_proj", "down_proj", "lm_head"], "layers_to_transform": null,
    });
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let mut tensors = std::collections::BTreeMap::new();
    let mut put = |path: String, rows: usize, columns: usize, seed: usize| {
        let number = |at: usize| (((at + seed) * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.3;
        let values = (0..rows * columns).map(number).collect();
        tensors.insert(format!("base_model.model.{path}"), Numbers { shape: vec![rows, columns], values });
    };
    let blocks =
        (0..tiny.layers as u32).flat_map(|layer| [Module::Q, Module::Down].map(|m| Site::Block(layer, m)));
    for (at, site) in blocks.chain([Site::Head]).enumerate() {
        let (out, inside) = base.config().shape(site);
        put(format!("{}.lora_A.weight", site.hf_path()), 2, inside, at);
        put(format!("{}.lora_B.weight", site.hf_path()), out, 2, at + 50);
    }
    let bytes = crate::tiny::safetensors(&tensors, Float::F32);
    fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
    Adapter::load(folder, base, &Limits::default()).unwrap()
}

/// `W + scale * B A` of a site, from the adapter's own views.
fn expected(base: &Pack, adapter: &Adapter, site: Site) -> Vec<f32> {
    let mut values = rows_of(base, site);
    let Some(delta) = adapter.delta(site) else { return values };
    let (out, inside) = base.config().shape(site);
    let number = |bytes: &[u8], at: usize| f32::from_le_bytes(bytes[at * 4..at * 4 + 4].try_into().unwrap());
    for row in 0..out {
        for rank in 0..delta.rank {
            let factor = delta.scale * number(delta.b.bytes, rank * out + row);
            for column in 0..inside {
                values[row * inside + column] += factor * number(delta.a.bytes, rank * inside + column);
            }
        }
    }
    values
}

#[test]
fn a_merged_pack_has_the_change_and_shares_the_rest() {
    for (dtype, bound) in [(GgmlDType::F32, 1e-6), (GgmlDType::Q4_1, 0.005)] {
        let folder = tempfile::tempdir().unwrap();
        let (model, cache) = (folder.path().join("m.gguf"), folder.path().join("cache"));
        let tiny = Tiny { tied: true, ..Tiny::default() };
        tiny.write_gguf(&model, dtype);
        let base = Pack::open(&Checkpoint::open(&model).unwrap(), &cache).unwrap();
        let adapter = adapter(&folder.path().join("adapter"), &tiny, &base);
        let before = fs::read(base.path().unwrap()).unwrap();
        let merged = base.merged(&adapter).unwrap();
        for site in sites(2) {
            let (expected, found) = (expected(&base, &adapter, site), rows_of(&merged, site));
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let worst = expected.iter().zip(&found).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst <= bound * largest, "{dtype:?} {site}: {worst} of {largest}");
            let shared = merged.linear(site).bytes.as_ptr() == base.linear(site).bytes.as_ptr();
            assert_eq!(shared, adapter.delta(site).is_none(), "{site}");
        }
        // Tied: the head is a matrix of its own now, the embedding is the model's.
        assert_ne!(rows_of(&merged, Site::Head), rows_of(&merged, Site::Embed));
        assert!(merged.private_bytes() > 0);
        assert_eq!(merged.mapped_bytes(), base.mapped_bytes());
        assert_eq!(fs::read(base.path().unwrap()).unwrap(), before);
    }
}

#[test]
fn the_real_model_is_packed_quickly() {
    let Some(model) = real_model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&model).unwrap();
    let start = Instant::now();
    let pack = Pack::open(&checkpoint, folder.path()).unwrap();
    let made = start.elapsed();
    let start = Instant::now();
    let again = Pack::open(&checkpoint, folder.path()).unwrap();
    println!(
        "made in {made:?}, opened in {:?}, {} bytes, {:?}",
        start.elapsed(),
        pack.mapped_bytes(),
        pack.formats()
    );
    again.verify().unwrap();
    let file = fs::metadata(&model).unwrap().len();
    assert!(pack.mapped_bytes() < file + (2 << 20), "nothing grows: {} of {file}", pack.mapped_bytes());
    let mut row = vec![0.0; 576];
    pack.row(Site::Embed, 1000, &mut row);
    let view = checkpoint.weight(Weight::Embed).unwrap().unwrap();
    let mut expected = vec![0.0; 576];
    view.dequantise(1000..1001, &mut expected);
    assert_eq!(row, expected);
}
