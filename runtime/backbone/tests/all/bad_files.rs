//! Bad files: each gives a typed error that names the place, in bounded time and memory.

use crate::tiny::{Float, Tiny, safetensors_file};
use candle_core::quantized::GgmlDType;
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::error::Error;
use coldframe_backbone::gguf::Gguf;
use coldframe_backbone::safetensors::{Limits, Safetensors};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far above what any of these files takes (most take well under a millisecond), so that a busy machine passes.
const TIME_MAX: Duration = Duration::from_secs(2);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The error is of the kind, and says the word.
fn check<T>(case: &str, result: Result<T, Error>, code: &str, word: &str) {
    let Err(error) = result else { panic!("{case}: accepted") };
    let text = error.to_string();
    assert_eq!(error.code(), code, "{case}: {text}");
    assert!(text.contains(word), "{case}: {text:?} does not say {word:?}");
    assert!(text.len() < 2_000, "{case}: a message of {} bytes", text.len());
}

fn timed<T>(case: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = work();
    assert!(begin.elapsed() < TIME_MAX, "{case}: took {:?}", begin.elapsed());
    result
}

/// A GGUF file written value by value, right or wrong.
#[derive(Clone)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A tensor entry.
    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let raw = self.text(name).u32(dims.len() as u32);
        dims.iter().fold(raw, |raw, &dim| raw.u64(dim)).u32(kind).u64(offset)
    }

    /// Ends the header and adds `count` bytes of data.
    fn data(mut self, count: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + count, 0);
        self.0
    }
}

#[test]
fn gguf_headers() {
    let one = |kind: u32| Raw::new(0, 1).text("key").u32(kind);
    let array = |kind: u32, length: u64| one(9).u32(kind).u64(length);
    let tensor = |dims: &[u64], kind| Raw::new(1, 0).tensor("t", dims, kind, 0).data(64);
    let pair = |first: &str, second: &str, offset| {
        Raw::new(2, 0).tensor(first, &[8], 0, 0).tensor(second, &[8], 0, offset).data(64)
    };
    let magic = |version: [u8; 4]| [b"GGUF".as_slice(), &version, &[0; 32]].concat();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("empty", vec![], "corrupt_file", "empty"),
        ("magic alone", b"GGUF".to_vec(), "corrupt_file", "version"),
        ("version 1", magic([1, 0, 0, 0]), "unsupported", "version 1"),
        ("version 9", magic([9, 0, 0, 0]), "unsupported", "version 9"),
        ("big endian", magic([0, 0, 0, 3]), "unsupported", "big-endian"),
        ("2^60 tensors", Raw::new(1 << 60, 0).0, "corrupt_file", "tensor count"),
        ("2^60 entries", Raw::new(0, 1 << 60).0, "corrupt_file", "metadata count"),
        ("an entry that is not there", Raw::new(0, 1).data(64), "corrupt_file", "metadata key"),
        ("key of 2^63 bytes", Raw::new(0, 1).u64(1 << 63).data(64), "corrupt_file", "length"),
        ("key of control characters", Raw::new(0, 1).text("a\nb").data(64), "corrupt_file", "printable"),
        ("key of 1 MB", Raw::new(0, 1).text(&"k".repeat(1 << 20)).data(64), "corrupt_file", "1048576"),
        ("key that is no UTF-8", Raw::new(0, 1).u64(2).bytes(b"\xff\xfe").data(64), "corrupt_file", "UTF-8"),
        ("text that is no UTF-8", one(8).u64(2).bytes(b"\xff\xfe").data(64), "corrupt_file", "UTF-8"),
        ("text of 2^63 bytes", one(8).u64(1 << 63).data(64), "corrupt_file", "key"),
        ("unknown value type", one(13).data(64), "corrupt_file", "type 13"),
        ("bool of 2", one(7).bytes(&[2]).data(64), "corrupt_file", "neither true nor false"),
        (
            "key twice",
            Raw::new(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).data(64),
            "corrupt_file",
            "twice",
        ),
        ("array of 2^62 strings", array(8, 1 << 62).data(64), "corrupt_file", "length"),
        ("array of 2^62 bytes", array(0, 1 << 62).data(64), "corrupt_file", "length"),
        ("array of 2^61 doubles", array(12, 1 << 61).data(64), "corrupt_file", "length"),
        ("array of arrays", array(9, 1).data(64), "unsupported", "array of arrays"),
        ("array of an unknown type", array(77, 1).data(64), "corrupt_file", "type 77"),
        ("array with a large integer", array(10, 1).u64(u64::MAX).data(64), "corrupt_file", "63 bits"),
        (
            "alignment 24",
            Raw::new(0, 1).text("general.alignment").u32(4).u32(24).data(64),
            "corrupt_file",
            "alignment",
        ),
        (
            "alignment 0",
            Raw::new(0, 1).text("general.alignment").u32(4).u32(0).data(64),
            "corrupt_file",
            "alignment",
        ),
        (
            "alignment 2^31",
            Raw::new(0, 1).text("general.alignment").u32(4).u32(1 << 31).data(64),
            "corrupt_file",
            "alignment",
        ),
        (
            "alignment in words",
            Raw::new(0, 1).text("general.alignment").u32(8).text("32").data(64),
            "corrupt_file",
            "alignment",
        ),
        ("five dimensions", tensor(&[1, 1, 1, 1, 1], 0), "corrupt_file", "5 dimensions"),
        ("2^32 dimensions", Raw::new(1, 0).text("t").u32(u32::MAX).data(64), "corrupt_file", "dimensions"),
        ("dimension 0", tensor(&[8, 0], 0), "corrupt_file", "dimension of 0"),
        ("shape that overflows", tensor(&[1 << 40, 1 << 40], 0), "corrupt_file", "overflows"),
        ("bytes that overflow", tensor(&[1 << 62], 0), "corrupt_file", "overflows"),
        ("unknown tensor type", tensor(&[8], 99), "corrupt_file", "type 99"),
        ("removed tensor type", tensor(&[32], 4), "corrupt_file", "type 4"),
        ("rows of 33 in blocks of 32", tensor(&[33], 2), "corrupt_file", "blocks of 32"),
        ("data past the end", tensor(&[17], 0), "corrupt_file", "end past"),
        (
            "offset past the end",
            Raw::new(1, 0).tensor("t", &[8], 0, 1 << 40).data(64),
            "corrupt_file",
            "end past",
        ),
        (
            "offset that overflows",
            Raw::new(1, 0).tensor("t", &[8], 0, u64::MAX - 31).data(64),
            "corrupt_file",
            "end past",
        ),
        (
            "offset not aligned",
            Raw::new(1, 0).tensor("t", &[8], 0, 4).data(64),
            "corrupt_file",
            "multiple of 32",
        ),
        ("tensors over each other", pair("a", "b", 0), "corrupt_file", "overlap"),
        ("tensor twice", pair("a", "a", 32), "corrupt_file", "two tensors"),
        ("tensor without a name", pair("", "b", 32), "corrupt_file", "name"),
        ("no architecture", Raw::new(0, 0).data(64), "unsupported", "architecture"),
        (
            "adapter as a model",
            Raw::new(0, 1).text("general.type").u32(8).text("adapter").data(64),
            "unsupported",
            "adapter",
        ),
    ];
    let folder = folder();
    let path = folder.path().join("bad.gguf");
    for (case, bytes, code, word) in cases {
        fs::write(&path, &bytes).expect("written");
        check(case, timed(case, || Checkpoint::open(&path)), code, word);
    }
}

#[test]
fn gguf_models() {
    let folder = folder();
    let path = folder.path().join("tiny.gguf");
    Tiny::default().write_gguf(&path, GgmlDType::Q8_0);
    let good = fs::read(&path).expect("read");
    Checkpoint::open(&path).expect("good");
    for part in 0..64 {
        fs::write(&path, &good[..good.len() * part / 64]).expect("written");
        check("truncated", timed("truncated", || Checkpoint::open(&path)), "corrupt_file", "tiny.gguf");
    }
    // The same length in bytes keeps every offset, so that one field at a time is wrong.
    let patched = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|window| window == from).expect("the field is there");
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        fs::write(&path, bytes).expect("written");
        timed("patched", || Checkpoint::open(&path))
    };
    let count = |name: &str, n: u32| [name.as_bytes(), &4_u32.to_le_bytes(), &n.to_le_bytes()].concat();
    let heads = |n| count("llama.attention.head_count", n);
    check("no heads", patched(&heads(4), &heads(0)), "corrupt_file", "head");
    check("heads that do not divide", patched(&heads(4), &heads(3)), "corrupt_file", "head");
    check("2^32 heads", patched(&heads(4), &heads(u32::MAX)), "corrupt_file", "heads");
    let blocks = |n| count("llama.block_count", n);
    check("a layer too few", patched(&blocks(2), &blocks(3)), "corrupt_file", "blk.2.");
    check("a layer too many", patched(&blocks(2), &blocks(1)), "unsupported", "blk.1.");
    check("2^32 layers", patched(&blocks(2), &blocks(u32::MAX)), "corrupt_file", "layers");
    check(
        "another family",
        patched(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"),
        "unsupported",
        "mamba",
    );
    check("a tensor renamed", patched(b"blk.1.ffn_up.", b"blk.1.ffn_xx."), "corrupt_file", "blk.1.ffn_up");
    // An F32 norm of 64 said to be I64 of 32, and so on: known types that no model of these families has.
    let norm = [b"output_norm.weight".as_slice(), &1_u32.to_le_bytes(), &64_u64.to_le_bytes()].concat();
    let kind = |id: u32| [norm.as_slice(), &id.to_le_bytes()].concat();
    check("a norm of integers", patched(&kind(0), &kind(26)), "unsupported", "I32");
    let short = [b"output_norm.weight".as_slice(), &1_u32.to_le_bytes(), &32_u64.to_le_bytes()].concat();
    check("a short norm", patched(&norm, &short), "corrupt_file", "expected [64]");
}

/// One tensor's JSON.
fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn named(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> =
        entries.iter().map(|(name, entry)| format!("{}:{entry}", json!(name))).collect();
    format!("{{{}}}", entries.join(","))
}

#[test]
fn safetensors_headers() {
    let good = entry("F32", "[2]", "[0,8]");
    let single = |entry: &str| safetensors_file(&named(&[("t", entry)]), &[0; 8]);
    let two = |first: &str, second: &str| safetensors_file(&named(&[("a", first), ("b", second)]), &[0; 16]);
    let length = |n: u64| [n.to_le_bytes().as_slice(), b"{}"].concat();
    let long = "n".repeat(600);
    let rank = format!("[{}]", vec!["1"; 5_000].join(","));
    let deep = "[".repeat(100_000);
    let many: Vec<String> =
        (0..4_097).map(|i| format!(r#""{i}":{}"#, entry("F32", "[0]", "[0,0]"))).collect();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("empty", vec![], "corrupt_file", "empty"),
        ("seven bytes", vec![0; 7], "corrupt_file", "header length"),
        ("length 0", vec![0; 8], "corrupt_file", "brace"),
        ("length 2^64-1", length(u64::MAX), "corrupt_file", "header length"),
        ("length past the end", length(3), "corrupt_file", "header length"),
        ("no JSON", safetensors_file("{nonsense}", &[]), "corrupt_file", "header"),
        ("no UTF-8", [&8_u64.to_le_bytes()[..], b"{\"\xff\xfe\":1}"].concat(), "corrupt_file", "header"),
        ("a list", safetensors_file("[]", &[]), "corrupt_file", "brace"),
        ("leading blank", safetensors_file(" {}", &[]), "corrupt_file", "brace"),
        ("two values", safetensors_file("{}{}", &[]), "corrupt_file", "trailing"),
        ("deep JSON", safetensors_file(&format!(r#"{{"t":{deep}"#), &[]), "corrupt_file", "header"),
        (
            "deep in the shape",
            safetensors_file(&named(&[("t", &entry("F32", &deep, "[0,8]"))]), &[]),
            "corrupt_file",
            "header",
        ),
        ("data missing", safetensors_file(&named(&[("t", &good)]), &[0; 7]), "corrupt_file", "offsets"),
        ("data left over", safetensors_file(&named(&[("t", &good)]), &[0; 9]), "corrupt_file", "no tensor"),
        ("data without tensors", safetensors_file("{}", &[0; 9]), "corrupt_file", "no tensor"),
        (
            "shape that overflows",
            single(&entry("F32", "[4294967296,4294967296]", "[0,8]")),
            "corrupt_file",
            "overflows",
        ),
        ("shape of another size", single(&entry("F32", "[3]", "[0,8]")), "corrupt_file", "needs 12"),
        ("negative shape", single(&entry("F32", "[-2]", "[0,8]")), "corrupt_file", "header"),
        ("fractional shape", single(&entry("F32", "[2.0]", "[0,8]")), "corrupt_file", "header"),
        ("shape of 2^64", single(&entry("F32", "[18446744073709551616]", "[0,8]")), "corrupt_file", "header"),
        ("rank 3", single(&entry("F32", "[1,1,2]", "[0,8]")), "too_large", "rank"),
        ("rank 5,000", single(&entry("F32", &rank, "[0,4]")), "too_large", "5000"),
        ("reversed offsets", single(&entry("F32", "[2]", "[8,0]")), "corrupt_file", "offsets"),
        (
            "offset of 2^64",
            single(&entry("F32", "[2]", "[0,18446744073709551616]")),
            "corrupt_file",
            "header",
        ),
        ("offsets past the end", single(&entry("F32", "[2]", "[8,16]")), "corrupt_file", "offsets"),
        ("three offsets", single(&entry("F32", "[2]", "[0,8,8]")), "corrupt_file", "header"),
        ("overlap", two(&good, &entry("F32", "[3]", "[4,16]")), "corrupt_file", "overlaps"),
        ("hole", two(&good, &entry("F32", "[1]", "[12,16]")), "corrupt_file", "hole"),
        ("unknown type", single(&entry("F128", "[2]", "[0,8]")), "corrupt_file", "F128"),
        ("type within a byte", single(&entry("F4", "[3]", "[0,1]")), "corrupt_file", "within a byte"),
        (
            "unknown field",
            single(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}"#),
            "corrupt_file",
            "more",
        ),
        (
            "field twice",
            single(r#"{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}"#),
            "corrupt_file",
            "dtype",
        ),
        ("field missing", single(r#"{"dtype":"F32","shape":[2]}"#), "corrupt_file", "data_offsets"),
        (
            "name twice",
            safetensors_file(&named(&[("same", &good), ("same", &good)]), &[0; 8]),
            "corrupt_file",
            "same",
        ),
        ("no name", safetensors_file(&named(&[("", &good)]), &[0; 8]), "corrupt_file", "name"),
        ("name with NUL", safetensors_file(&named(&[("a\0b", &good)]), &[0; 8]), "corrupt_file", "name"),
        (
            "name of 600 bytes",
            safetensors_file(&named(&[(&long, &good)]), &[0; 8]),
            "corrupt_file",
            "600 bytes",
        ),
        (
            "metadata of numbers",
            safetensors_file(r#"{"__metadata__":{"a":1}}"#, &[]),
            "corrupt_file",
            "header",
        ),
        (
            "metadata twice",
            safetensors_file(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]),
            "corrupt_file",
            "__metadata__",
        ),
        (
            "metadata key twice",
            safetensors_file(r#"{"__metadata__":{"a":"b","a":"c"}}"#, &[]),
            "corrupt_file",
            "twice",
        ),
        (
            "4,097 tensors",
            safetensors_file(&format!("{{{}}}", many.join(",")), &[]),
            "too_large",
            "number of tensors",
        ),
        (
            "header over 1 MiB",
            safetensors_file(&format!("{{{}}}", " ".repeat(1 << 20)), &[]),
            "too_large",
            "header",
        ),
        ("pickle", b"\x80\x02}q\x00(X\x04\x00\x00\x00".to_vec(), "forbidden_file", "pickle"),
        ("zip", b"PK\x03\x04\x14\x00\x00\x00\x08\x00archive/data.pkl".to_vec(), "forbidden_file", "zip"),
        ("GGUF", Raw::new(0, 0).data(64), "forbidden_file", "GGUF"),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00".to_vec(), "forbidden_file", "gzip"),
        (
            "LFS pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec(),
            "forbidden_file",
            "LFS",
        ),
    ];
    let folder = folder();
    let path = folder.path().join("adapter_model.safetensors");
    for (case, bytes, code, word) in cases {
        fs::write(&path, &bytes).expect("written");
        check(case, timed(case, || Safetensors::open(&path, &Limits::ADAPTER)), code, word);
    }
}

#[test]
fn paths() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("real"), safetensors_file("{}", &[])).expect("written");
    symlink(at("real"), at("link")).expect("a link");
    let fifo = Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo");
    assert!(fifo.success());
    let strict = |path: &Path| timed("path", || Safetensors::open(path, &Limits::ADAPTER));
    strict(&at("real")).expect("good");
    check("link", strict(&at("link")), "forbidden_file", "symbolic link");
    check("pipe", strict(&at("pipe")), "forbidden_file", "pipe");
    check("folder", strict(folder.path()), "forbidden_file", "folder");
    check("device", strict(Path::new("/dev/zero")), "forbidden_file", "device");
    check("own memory", strict(Path::new("/proc/self/mem")), "corrupt_file", "empty");
    check("nothing", strict(&at("none")), "io", "none");
    check("GGUF link", timed("path", || Gguf::open_strict(&at("link"), 1 << 20)), "forbidden_file", "link");
    // A model's path may be a link (a person gave it); a pipe may not hang the program.
    check("model pipe", timed("path", || Checkpoint::open(&at("pipe"))), "forbidden_file", "pipe");
    check(
        "model device",
        timed("path", || Checkpoint::open(Path::new("/dev/zero"))),
        "forbidden_file",
        "device",
    );
    check("no model", Checkpoint::open(&at("real")), "unsupported", "config.json");
    Tiny::default().write_gguf(&at("tiny.gguf"), GgmlDType::F16);
    symlink(at("tiny.gguf"), at("model-link")).expect("a link");
    Checkpoint::open(&at("model-link")).expect("a person's link");
}

/// Files that claim far more than they are: nothing is read or allocated for the claim.
#[test]
fn claimed_sizes() {
    let folder = folder();
    let path = folder.path().join("huge");
    File::create(&path).and_then(|file| file.set_len(200 << 30)).expect("a sparse file of 200 GiB");
    check("adapter", timed("sparse", || Safetensors::open(&path, &Limits::ADAPTER)), "too_large", "file");
    check("GGUF adapter", timed("sparse", || Gguf::open_strict(&path, 512 << 20)), "too_large", "huge");
    check("model", timed("sparse", || Checkpoint::open(&path)), "unsupported", "config.json");
}

#[test]
fn folders() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let fresh = || {
        let _ = fs::remove_dir_all(at("m"));
        Tiny::default().write_hf_sharded(&at("m"), Float::F32, 2);
        at("m")
    };
    let open = |path: &PathBuf| timed("folder", || Checkpoint::open(path));
    let index = |model: &Path, change: &dyn Fn(&mut serde_json::Value)| {
        let path = model.join("model.safetensors.index.json");
        let mut index = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        change(&mut index);
        fs::write(&path, index.to_string()).expect("written");
    };
    open(&fresh()).expect("good");

    let model = fresh();
    fs::remove_file(model.join("config.json")).expect("removed");
    check("no config", open(&model), "not_found", "config.json");
    fs::write(model.join("config.json"), "[".repeat(100_000)).expect("written");
    check("deep config", open(&model), "corrupt_file", "config.json");
    fs::write(model.join("config.json"), vec![b' '; 2 << 20]).expect("written");
    check("config of 2 MiB", open(&model), "too_large", "config.json");
    fs::remove_file(model.join("config.json")).expect("removed");
    symlink("/etc/passwd", model.join("config.json")).expect("a link");
    check("config out of the root", open(&model), "forbidden_file", "outside");

    let model = fresh();
    fs::rename(model.join("model-00001-of-00002.safetensors"), at("outside")).expect("moved");
    check("shard missing", open(&model), "io", "model-00001");
    symlink(at("outside"), model.join("model-00001-of-00002.safetensors")).expect("a link");
    check("shard out of the root", open(&model), "forbidden_file", "outside the model's folder");

    for name in ["../outside", "/etc/passwd", "..", "", "sub/file", "a\0b"] {
        let model = fresh();
        index(&model, &|index| index["weight_map"]["lm_head.weight"] = json!(name));
        check("index out of the root", open(&model), "forbidden_file", "plain file name");
    }
    let model = fresh();
    index(&model, &|index| index["weight_map"]["of.nothing"] = json!("model-00001-of-00002.safetensors"));
    check("index of nothing", open(&model), "corrupt_file", "of.nothing");
    let model = fresh();
    let map: serde_json::Map<_, _> =
        (0..1_025).map(|i| (i.to_string(), json!(format!("{i}.safetensors")))).collect();
    index(&model, &|index| index["weight_map"] = json!(map));
    check("1,025 shards", open(&model), "too_large", "files");
    let model = fresh();
    fs::copy(model.join("model-00001-of-00002.safetensors"), model.join("more.safetensors")).expect("copied");
    index(&model, &|index| index["weight_map"]["model.norm.weight"] = json!("more.safetensors"));
    let twice = open(&model);
    assert!(matches!(&twice, Err(Error::Corrupt { .. })), "{twice:?}");

    let model = fresh();
    fs::remove_file(model.join("model.safetensors.index.json")).expect("removed");
    check("no weights", open(&model), "not_found", "model.safetensors");
    fs::write(model.join("pytorch_model.bin"), b"\x80\x02").expect("written");
    check("pickled weights", open(&model), "forbidden_file", "pickle");
    fs::write(model.join("model.safetensors"), b"PK\x03\x04\x14\x00\x00\x00\x08\x00").expect("written");
    check("zipped weights", open(&model), "forbidden_file", "zip");
}

#[test]
fn left_over_and_unreadable_tensors() {
    let folder = folder();
    let tiny = Tiny::default();
    tiny.write_hf(folder.path(), Float::F32);
    let path = folder.path().join("model.safetensors");
    let good = fs::read(&path).expect("read");
    let length = u64::from_le_bytes(good[..8].try_into().expect("eight"));
    let (header, data) = good[8..].split_at(length as usize);
    let header = String::from_utf8(header.to_vec()).expect("JSON");
    let with = |header: &str| {
        fs::write(&path, safetensors_file(header, data)).expect("written");
        Checkpoint::open(folder.path())
    };
    let renamed = header.replace("model.norm.weight", "../../norm.weight");
    check("no norm", with(&renamed), "corrupt_file", "model.norm.weight");
    let added = header.replacen('{', &format!("{{{}:{},", json!("../../x"), entry("F32", "[0]", "[0,0]")), 1);
    check("left over", with(&added), "unsupported", "../../x");
    let integers = header.replace(r#""F32""#, r#""I32""#);
    check("integers", with(&integers), "unsupported", "I32");
    let transposed = header.replace("[96,64]", "[64,96]");
    check("transposed", with(&transposed), "corrupt_file", "expected [96, 64]");
}

/// Files that swap under the opener: every opening gives one whole model or a typed error.
#[test]
fn a_file_that_is_replaced_while_it_is_opened() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    Tiny::default().write_gguf(&at("a"), GgmlDType::Q8_0);
    let whole = fs::read(at("a")).expect("read");
    fs::write(at("b"), &whole[..whole.len() / 2]).expect("written");
    let swaps = |from: &str| {
        fs::copy(at(from), at("next")).and_then(|_| fs::rename(at("next"), at("model"))).expect("swapped");
    };
    swaps("a");
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|round| swaps(if round % 2 == 0 { "b" } else { "a" })));
        for _ in 0..300 {
            match Checkpoint::open(&at("model")) {
                Ok(checkpoint) => {
                    opened += 1;
                    let size = checkpoint.mappings().next().map(|mapping| mapping.identity().size);
                    assert_eq!(size, Some(whole.len() as u64));
                }
                Err(Error::Corrupt { .. } | Error::Io { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(opened + refused, 300);
}

/// Peak memory of this process so far, bytes.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kib << 10
}

const BOMB: &str = "COLDFRAME_TEST_BOMB";

/// Runs in a process of its own, started by [`bombs`], so that the peak is its alone.
#[test]
fn bomb_child() {
    let Ok(bomb) = std::env::var(BOMB) else { return };
    let (kind, path) = bomb.split_once(':').expect("kind:path");
    let (before, begin) = (peak_bytes(), Instant::now());
    let code = match kind {
        "adapter" => Safetensors::open(Path::new(path), &Limits::ADAPTER).expect_err("refused").code(),
        "model" => Safetensors::open(Path::new(path), &Limits::MODEL).expect_err("refused").code(),
        _ => Gguf::open(Path::new(path)).expect_err("refused").code(),
    };
    println!("bomb {code} {} {}", peak_bytes() - before, begin.elapsed().as_millis());
}

/// Runs [`bomb_child`] over a file: the error's code, its peak memory in bytes, its time in ms.
fn explode(kind: &str, path: &Path) -> (String, u64, u64) {
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "bad_files::bomb_child", "--nocapture"])
        .env(BOMB, format!("{kind}:{}", path.display()))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("bomb ")).unwrap_or_else(|| panic!("{text}")).1;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words[at].parse().expect("a number");
    (words[0].to_owned(), number(1), number(2))
}

#[test]
fn bombs() {
    let folder = folder();
    let path = folder.path().join("bomb");
    let case = |kind: &str, peak_max: u64| {
        let (code, peak, ms) = explode(kind, &path);
        println!("{kind}: {code}, {peak} bytes, {ms} ms");
        assert_eq!(code, "too_large");
        assert!(peak < peak_max, "{kind}: {peak} bytes");
        assert!(ms < 5_000, "{kind}: {ms} ms");
    };
    // A header of a million empty tensors: the safetensors crate takes 1 GB for it.
    let entries: Vec<String> =
        (0..1_000_000).map(|i| format!(r#""t{i}":{}"#, entry("F32", "[0]", "[0,0]"))).collect();
    fs::write(&path, safetensors_file(&format!("{{{}}}", entries.join(",")), &[])).expect("written");
    case("adapter", 8 << 20);
    case("model", 64 << 20);

    // An array of 2^27 empty strings in a sparse file of 1 GiB: as objects they would take 3 GiB.
    let head = Raw::new(0, 1).text("bomb").u32(9).u32(8).u64(1 << 27).0;
    fs::write(&path, &head).expect("written");
    File::options().write(true).open(&path).and_then(|file| file.set_len((1 << 30) + 4_096)).expect("sparse");
    case("gguf", 8 << 20);
    // Many arrays, each just within the budget: the budget is for all of them.
    let mut many = Raw::new(0, 64);
    for i in 0..64 {
        many = many.text(&format!("k{i}")).u32(9).u32(0).u64(1 << 20);
        many.0.resize(many.0.len() + (1 << 20), 0);
    }
    fs::write(&path, many.data(64)).expect("written");
    case("gguf", 160 << 20);
}
