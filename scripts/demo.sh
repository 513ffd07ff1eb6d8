#!/bin/sh
# Three LoRA functions answer on one mapped backbone; then the sample trace is replayed under four policies, with a
# table and a page with plots in out/demo.html. Without a network only the replay runs.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --bin coldframe
mkdir -p out
coldframe="${CARGO_TARGET_DIR:-target}/release/coldframe"
if "$coldframe" backbone pull smollm2-135m-instruct; then
    question="What do penguins eat?"
    for adapter in "" pirate json shout; do
        echo
        echo "== ${adapter:-no adapter}: $question"
        "$coldframe" generate --backbone smollm2-135m-instruct --max-tokens 40 --prompt "$question" \
            ${adapter:+--adapter "functions/adapters/$adapter"}
    done
    echo
else
    echo "the model could not be had: the demo goes on with the replay"
fi
"$coldframe" replay --trace traces/samples/demo-bursty.csv.gz \
    --policy vllm,serverlessllm,instainfer,serverlesslora --gpu l40s --workers 8 \
    --html out/demo.html --out out/demo.json "$@"
echo "open $(pwd)/out/demo.html in a browser; the numbers are in out/demo.json"
