//! The `coldframe` binary: parse, resolve, run, print.

fn main() {}
