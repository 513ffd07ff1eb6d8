#!/bin/sh
# Builds the example functions whose code lies in this repository, and their digests.
#
#   scripts/build-functions.sh            build into target/functions and compare with what is committed
#   scripts/build-functions.sh --commit   build in place and write functions/SHA256SUMS
#
# Needs clang and lld (the digests in functions/SHA256SUMS are Debian's clang 14.0.6; another version makes other bytes
# that do the same). COLDFRAME names the program [default: target/debug/coldframe, built when missing].
set -eu
cd "$(dirname "$0")/.."

examples="json-extract guardrail router tool-loop budget-hog"
coldframe="${COLDFRAME:-target/debug/coldframe}"
[ -x "$coldframe" ] || cargo build --locked --bin coldframe

if ! command -v clang >/dev/null 2>&1 || ! command -v wasm-ld >/dev/null 2>&1; then
    echo "skipped: clang and wasm-ld are not here (Debian: apt-get install clang lld); the committed modules stay"
    exit 0
fi
if [ "${1:-}" = --commit ]; then
    for name in $examples; do
        "$coldframe" function build "functions/$name"
    done
    (cd functions && for name in $examples; do sha256sum "$name/$name.wasm"; done >SHA256SUMS)
    cat functions/SHA256SUMS
    exit 0
fi
mkdir -p target/functions
for name in $examples; do
    "$coldframe" function build "functions/$name" --output "target/functions/$name.wasm"
    if cmp -s "target/functions/$name.wasm" "functions/$name/$name.wasm"; then
        echo "$name: the committed bytes"
    else
        echo "$name: other bytes than the committed ones ($(clang --version | head -n 1))"
    fi
done
