//! The compiling child and the folder of what it made.

use crate::bed::{Bed, call, code, grants, limits, small};
use crate::guests::{Script, bare, script};
use coldframe_sandbox::{CacheCounts, CompileLimits, Compiler, Error, Sandbox, SandboxOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn compiler() -> Compiler {
    Compiler { program: PathBuf::from(env!("CARGO_BIN_EXE_coldframe-sandbox-compile")), args: Vec::new() }
}

fn options(cache: Option<&Path>) -> SandboxOptions {
    // The child is built without optimising, and the machine may be busy.
    let compile = CompileLimits { wall: Duration::from_secs(120), ..CompileLimits::default() };
    SandboxOptions {
        compiler: Some(compiler()),
        compile,
        cache: cache.map(Path::to_owned),
        ..SandboxOptions::default()
    }
}

async fn says_hello(sandbox: &Sandbox) {
    let function = sandbox.load(script(), limits(), grants()).await.expect("it loads");
    let (end, got) = call(&function, &Script::new().say("hello").0, &Bed::new()).await;
    assert_eq!((code(&end), got.text().as_str()), ("ok", "hello"));
}

#[tokio::test]
async fn the_childs_code_is_kept_and_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = small(options(Some(folder.path())));
    says_hello(&first).await;
    assert_eq!(first.cache_counts(), CacheCounts { hits: 0, misses: 1, forged: 0 });
    // A second function of the same component shares what is loaded.
    says_hello(&first).await;
    // After a restart it is read; a compiler that cannot run shows that none was needed.
    let compiler = Compiler { program: PathBuf::from("/nonexistent"), args: Vec::new() };
    let second = small(SandboxOptions { compiler: Some(compiler), ..options(Some(folder.path())) });
    says_hello(&second).await;
    assert_eq!(second.cache_counts(), CacheCounts { hits: 1, misses: 0, forged: 0 });
    assert_eq!(second.load(bare(), limits(), grants()).await.expect_err("no compiler").code(), "unavailable");
}

fn compiled(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "cwasm"))
        .expect("a compiled file")
}

#[tokio::test]
async fn a_forged_file_is_not_run_but_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    says_hello(&small(SandboxOptions { cache: Some(folder.path().to_owned()), ..SandboxOptions::default() }))
        .await;
    let path = compiled(folder.path());
    let genuine = std::fs::read(&path).expect("readable");
    let flips = [0, 31, 32, 100, genuine.len() / 2, genuine.len() - 1];
    let mut forgeries: Vec<Vec<u8>> = flips
        .iter()
        .map(|&place| {
            let mut bytes = genuine.clone();
            bytes[place] ^= 1;
            bytes
        })
        .collect();
    forgeries.extend([Vec::new(), genuine[..20].to_vec(), genuine[..genuine.len() - 1].to_vec()]);
    for forged in forgeries {
        std::fs::write(&path, &forged).expect("written");
        let sandbox =
            small(SandboxOptions { cache: Some(folder.path().to_owned()), ..SandboxOptions::default() });
        says_hello(&sandbox).await;
        assert_eq!(sandbox.cache_counts(), CacheCounts { hits: 0, misses: 0, forged: 1 });
        assert_eq!(std::fs::read(&path).expect("readable"), genuine, "made anew, and the same");
    }
}

#[tokio::test]
async fn code_of_another_component_or_key_does_not_count() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let at =
        |folder: &Path| small(SandboxOptions { cache: Some(folder.to_owned()), ..SandboxOptions::default() });
    says_hello(&at(folder.path())).await;
    let ours = compiled(folder.path());
    // The genuine code of `bare` under the name of `script`: its MAC names another digest.
    at(other.path()).load(bare(), limits(), grants()).await.expect("it loads");
    std::fs::copy(other.path().join("key"), folder.path().join("key")).expect("the same key");
    std::fs::copy(compiled(other.path()), &ours).expect("copied");
    let sandbox = at(folder.path());
    says_hello(&sandbox).await;
    assert_eq!(sandbox.cache_counts().forged, 1);
}

#[cfg(unix)]
#[tokio::test]
async fn the_key_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    says_hello(&small(SandboxOptions { cache: Some(folder.path().to_owned()), ..SandboxOptions::default() }))
        .await;
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("key")), 0o600);
    assert_eq!(mode(&compiled(folder.path())), 0o600);
}

#[tokio::test]
async fn a_compiler_over_its_bounds_is_ended() {
    let tight = |compile: CompileLimits| small(SandboxOptions { compile, ..options(None) });
    let no_time =
        CompileLimits { wall: Duration::ZERO, wall_per_mib: Duration::ZERO, ..CompileLimits::default() };
    let error = tight(no_time).load(script(), limits(), grants()).await.expect_err("no time");
    assert!(matches!(error, Error::CompileTimeout { .. }), "{error}");
    let no_memory =
        CompileLimits { memory_bytes: 24 << 20, wall: Duration::from_secs(60), ..CompileLimits::default() };
    let error = tight(no_memory).load(script(), limits(), grants()).await.expect_err("no memory");
    assert!(matches!(error, Error::CompileMemory { .. } | Error::Compiler(_)), "{error}");
}

#[tokio::test]
async fn a_bomb_that_passes_the_check_is_ended_by_the_clock() {
    // Functions enough to keep a compiler busy, each small: no bound of the check is near.
    let functions = "(func (param i64) (result i64) local.get 0 local.get 0 i64.mul local.get 0 i64.div_u)"
        .repeat(60_000);
    let text = format!("(component (core module {functions}))");
    let bomb = wat::parse_str(&text).expect("text");
    let child = tokio::process::Command::new(compiler().program)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut child = child;
    let mut stdin = child.stdin.take().expect("a pipe");
    use tokio::io::AsyncWriteExt;
    stdin.write_all(&(2u64 << 30).to_le_bytes()).await.expect("written");
    stdin.write_all(&bomb).await.expect("written");
    drop(stdin);
    let patience = tokio::time::timeout(Duration::from_millis(200), child.wait()).await;
    assert!(patience.is_err(), "it should still be compiling");
    child.kill().await.expect("killed");
}

#[tokio::test]
async fn a_program_that_is_no_compiler_is_told() {
    for program in ["/bin/true", "/bin/cat", "/nonexistent"] {
        let compiler = Compiler { program: PathBuf::from(program), args: Vec::new() };
        let sandbox = small(SandboxOptions { compiler: Some(compiler), ..options(None) });
        let error = sandbox.load(script(), limits(), grants()).await.expect_err("no compiler");
        assert!(matches!(error, Error::Compiler(_)), "{program}: {error}");
    }
}
