//! The parent of the compiling child: starts it, feeds it, bounds its time, and reads its verdict.

use super::Compiler;
use super::child::{COMPILED, REFUSED};
use crate::error::Error;
use crate::options::CompileLimits;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Longest stderr that is looked at.
const STDERR_MAX: u64 = 4 << 10;

/// Largest answer for each byte of component, and a base: more is not the output of our compiler.
const ANSWER_PER_BYTE: u64 = 64;
const ANSWER_BASE: u64 = 16 << 20;

pub(super) async fn compile(
    compiler: &Compiler,
    bytes: Vec<u8>,
    limits: &CompileLimits,
) -> Result<Vec<u8>, Error> {
    let (wall, memory) = limits.for_bytes(bytes.len());
    let mut child = start(compiler)?;
    let most = ANSWER_BASE + ANSWER_PER_BYTE * bytes.len() as u64;
    // On time-out the future and with it the child go: `kill_on_drop` ends the process.
    let talk = tokio::time::timeout(wall, converse(&mut child, &bytes, memory, most)).await;
    let Ok(said) = talk else {
        let _already_gone = child.kill().await;
        return Err(Error::CompileTimeout { limit: wall });
    };
    let said = said.map_err(|error| Error::Compiler(error.to_string()))?;
    verdict(said, memory)
}

struct Said {
    answer: Vec<u8>,
    stderr: String,
    status: ExitStatus,
}

fn start(compiler: &Compiler) -> Result<Child, Error> {
    let mut command = Command::new(&compiler.program);
    command.args(&compiler.args).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|error| Error::Compiler(format!("{}: {error}", compiler.program.display())))
}

async fn converse(child: &mut Child, bytes: &[u8], memory: u64, most: u64) -> std::io::Result<Said> {
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let stderr = child.stderr.take().expect("stderr is a pipe");
    let write = async {
        // A child that died early closes the pipe; its exit says why.
        let _closed = stdin.write_all(&memory.to_le_bytes()).await;
        let _closed = stdin.write_all(bytes).await;
        drop(stdin);
    };
    let (mut answer, mut errors) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (stdout.take(most), stderr.take(STDERR_MAX));
    let (_, read, read_errors) =
        tokio::join!(write, stdout.read_to_end(&mut answer), stderr.read_to_end(&mut errors));
    read?;
    read_errors?;
    let status = child.wait().await?;
    Ok(Said { answer, stderr: String::from_utf8_lossy(&errors).into_owned(), status })
}

fn verdict(said: Said, memory: u64) -> Result<Vec<u8>, Error> {
    if !said.status.success() {
        let out_of_memory =
            said.stderr.contains("memory allocation") || said.stderr.contains("Cannot allocate memory");
        return Err(match out_of_memory {
            true => Error::CompileMemory { limit: memory },
            false => Error::Compiler(format!("{}: {}", said.status, said.stderr.trim())),
        });
    }
    match said.answer.split_first() {
        Some((&COMPILED, _)) => {
            let mut code = said.answer;
            code.remove(0);
            Ok(code)
        }
        Some((&REFUSED, why)) => Err(Error::Invalid(String::from_utf8_lossy(why).into_owned())),
        _ => Err(Error::Compiler("it gave no answer; is the program coldframe's?".to_owned())),
    }
}
