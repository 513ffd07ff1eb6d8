//! The compiling child: reads a limit of address space and a component on stdin, writes a verdict and code on stdout.
//!
//! It bounds its own address space before it reads anything of a tenant's; time is the parent's business, which kills it.

use crate::engine;
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// First byte of the answer: code follows.
pub(super) const COMPILED: u8 = b'C';
/// First byte of the answer: why the component is refused follows.
pub(super) const REFUSED: u8 = b'R';

/// The `main` of the compiling child. It does nothing else, and is of no use but to [`crate::Sandbox`].
///
/// Input: eight bytes, little-endian, of address space it may use, then the component. Output: `C` and the code, or `R` and the
/// reason. It exits with 0 in both cases; any other exit is the child's own failure.
pub fn compile_child_main() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox compiler: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut limit = [0; 8];
    input.read_exact(&mut limit)?;
    bound_address_space(u64::from_le_bytes(limit))?;
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let engine = engine::compiling().map_err(io::Error::other)?;
    let (verdict, text) = match engine.precompile_component(&bytes) {
        Ok(code) => (COMPILED, code),
        Err(error) => (REFUSED, format!("{error:#}").into_bytes()),
    };
    output.write_all(&[verdict])?;
    output.write_all(&text)?;
    output.flush()
}

/// More address space than this from now on is refused, so that a component which needs it ends this process only.
#[cfg(unix)]
#[expect(unsafe_code, reason = "setrlimit has no safe form in libc")]
fn bound_address_space(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // A crash of the compiler is reported by its exit; a core file of a tenant's component is nobody's business.
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read the structs they are given.
    let done =
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) | libc::setrlimit(libc::RLIMIT_CORE, &none) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(unix))]
fn bound_address_space(_bytes: u64) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "address space cannot be bounded on this system"))
}
