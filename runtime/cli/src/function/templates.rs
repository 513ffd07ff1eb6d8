//! What `coldframe function new` writes and `build` needs, carried in the program: templates, the guest's interface, the
//! C header, the Rust SDK.

use super::manifest::Lang;

/// The guest's interface.
pub const WIT: &str = include_str!("../../../../functions/wit/function.wit");

/// The C header.
pub const HEADER: &str = include_str!("../../../../functions/c/coldframe.h");

/// A file of a new function: its path, and its text with `{{name}}` where the function's name goes.
pub type File = (&'static str, &'static str);

/// The Rust SDK, as it lies in a new function's folder.
const SDK: [File; 7] = [
    ("wit/function.wit", WIT),
    ("sdk/Cargo.toml", include_str!("../../../../functions/sdk/Cargo.toml")),
    ("sdk/src/lib.rs", include_str!("../../../../functions/sdk/src/lib.rs")),
    ("sdk/src/bindings.rs", include_str!("../../../../functions/sdk/src/bindings.rs")),
    ("sdk/src/hook.rs", include_str!("../../../../functions/sdk/src/hook.rs")),
    ("sdk/src/stream.rs", include_str!("../../../../functions/sdk/src/stream.rs")),
    ("sdk/src/task.rs", include_str!("../../../../functions/sdk/src/task.rs")),
];

const RUST: [File; 2] = [
    ("Cargo.toml", include_str!("../../../../functions/templates/rust/Cargo.toml")),
    ("src/lib.rs", include_str!("../../../../functions/templates/rust/src/lib.rs")),
];

const C: [File; 2] =
    [("handler.c", include_str!("../../../../functions/templates/c/handler.c")), ("coldframe.h", HEADER)];

const JS: [File; 1] = [("handler.js", include_str!("../../../../functions/templates/js/handler.js"))];

const PY: [File; 1] = [("handler.py", include_str!("../../../../functions/templates/py/handler.py"))];

/// Files of a new function in a language, beside its manifest and README.
pub fn files(lang: Lang) -> Vec<File> {
    match lang {
        Lang::Rust => RUST.iter().chain(&SDK).copied().collect(),
        Lang::C => C.to_vec(),
        Lang::Js => JS.to_vec(),
        Lang::Py => PY.to_vec(),
    }
}

/// What `sources` of a new function's manifest names.
pub fn sources(lang: Lang) -> &'static str {
    match lang {
        Lang::Rust => ".",
        Lang::C => "handler.c",
        Lang::Js => "handler.js",
        Lang::Py => "handler.py",
    }
}

/// Files that git should not keep.
pub const IGNORED: &str = "target/\n";
