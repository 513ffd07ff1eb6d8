#!/bin/sh
# Every check of the repository: formatting, lints, tests, documentation. Works on a stock Debian or Ubuntu.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null 2>&1; then
    PATH="$HOME/.cargo/bin:$PATH"
    export PATH
fi
if ! command -v cargo >/dev/null 2>&1; then
    if ! command -v curl >/dev/null 2>&1 || ! command -v cc >/dev/null 2>&1; then
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo"
        $as_root apt-get update
        $as_root apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev
    fi
    echo "cargo is missing: installing Rust with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
fi

step() {
    echo "== $*"
    "$@"
}

step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step cargo test --workspace --locked
RUSTDOCFLAGS="-D warnings"
export RUSTDOCFLAGS
step cargo doc --workspace --no-deps --locked
echo "all checks passed: formatting, lints, tests, documentation"
