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
step cargo test --workspace --locked
RUSTDOCFLAGS="-D warnings"
export RUSTDOCFLAGS
step cargo doc --workspace --no-deps --locked
echo "all checks passed: formatting, lints, tests, documentation"
