#!/bin/sh
# Measures a promise of docs/spec.md: scripts/bench.sh NAME. The last line on stdout is one JSON object.
set -eu
cd "$(dirname "$0")/.."

usage() {
    echo "usage: scripts/bench.sh NAME [ARGUMENTS]"
    echo "  replay   simulator speed, memory and accuracy"
}

[ "$#" -gt 0 ] || { usage >&2; exit 2; }
name="$1"
shift
case "$name" in
    replay)
        cargo build --release --locked --bin coldframe >&2
        exec "${CARGO_TARGET_DIR:-target}/release/coldframe" bench-replay "$@"
        ;;
    -h | --help)
        usage
        ;;
    *)
        echo "bench.sh: no benchmark named '$name'" >&2
        usage >&2
        exit 2
        ;;
esac
