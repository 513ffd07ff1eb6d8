//! The compiling child alone, for tests and for programs that do not carry it themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    coldframe_sandbox::compile_child_main()
}
