#!/bin/sh
# Replays the sample trace under four policies, prints the table and writes a page with plots to out/demo.html.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --bin coldframe
mkdir -p out
"${CARGO_TARGET_DIR:-target}/release/coldframe" replay --trace traces/samples/demo-bursty.csv.gz \
    --policy vllm,serverlessllm,instainfer,serverlesslora --gpu l40s --workers 8 \
    --html out/demo.html --out out/demo.json "$@"
echo "open $(pwd)/out/demo.html in a browser; the numbers are in out/demo.json"
