//! The real binary, run as a user runs it: exit codes, what it says, what it prints, which files it leaves.
//!
//! Nothing here needs the public data; the variable that names it is taken away from every run.

mod backbone;
mod calibrated;
mod compare_errors;
mod function;
mod generate;
mod replay_errors;
mod replay_good;
mod signals;
mod trace_errors;
mod trace_good;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Columns of a trace of our own.
const HEAD: &str = "arrival_s,function,adapter,base_model,prompt_tokens,output_tokens";

/// The bursty sample of the repository.
fn sample() -> String {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = cli.ancestors().nth(2).expect("the crate lies two folders below the root");
    root.join("traces/samples/demo-bursty.csv.gz").display().to_string()
}

/// A folder of one test, in which the command runs.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, named relative to the folder.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    /// A trace of our own with these rows.
    fn trace(&self, name: &str, rows: &str) {
        self.file(name, format!("{HEAD}\n{rows}"));
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.folder.path()).expect("listed");
        let mut names: Vec<String> =
            all.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coldframe"));
        command.current_dir(self.folder.path()).env_remove("COLDFRAME_DATA").stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        let out = self.command().args(args).output().expect("the program starts");
        Ran::new(args, &out)
    }

    /// Runs, expects success, gives stdout.
    fn good(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{}: {}", ran.what, ran.stderr);
        ran.stdout
    }

    /// Runs, expects `code`, no stdout, every text of `says` on stderr, and no new file.
    fn bad(&self, code: i32, args: &[&str], says: &[&str]) {
        let before = self.names();
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{}: {}", ran.what, ran.stderr);
        assert_eq!(ran.stdout, "", "{} printed data", ran.what);
        for text in says {
            assert!(ran.stderr.contains(text), "{} should say {text:?}, says:\n{}", ran.what, ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked"), "{}: {}", ran.what, ran.stderr);
        assert_eq!(self.names(), before, "{} left a file behind", ran.what);
    }

    /// A replay that must fail with 1; the report it was to write must not be there.
    fn bad_replay(&self, args: &[&str], says: &[&str]) {
        let mut all = vec!["replay", "--out", "report.json", "--html", "page.html"];
        all.extend(args);
        self.bad(1, &all, says);
    }
}

/// What a run left.
struct Ran {
    what: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn new(args: &[&str], out: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self {
            what: format!("coldframe {}", args.join(" ")),
            code: out.status.code(),
            stdout: text(&out.stdout),
            stderr: text(&out.stderr),
        }
    }
}
