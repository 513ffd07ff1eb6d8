#!/bin/sh
# The simulator beside the host: scripts/fidelity.sh PROFILE.toml TRACE FOLDER. Starts the host anew for each run, sends
# it the trace, then compares all runs with one simulation. The last line on stdout is one JSON object.
#   COLDFRAME_MODEL   the model (default: smollm2-135m-instruct)
#   POLICY            the host's policy (default: coldframe)
#   FUNCTIONS         functions to register, in turn from functions/adapters (default: 30)
#   DEVICE_MIB        memory of the device tier, and KV_MIB of it for KV pages
#   RUNS              live runs (default: 3)
set -eu
here="$(cd "$(dirname "$0")/.." && pwd)"
[ "$#" -eq 3 ] || { echo "usage: scripts/fidelity.sh PROFILE.toml TRACE FOLDER" >&2; exit 2; }
profile="$1"; trace="$2"; folder="$3"
bin="${COLDFRAME:-$here/target/release/coldframe}"
policy="${POLICY:-coldframe}"
mkdir -p "$folder"

modules() {
    n=0
    while [ "$n" -lt "${FUNCTIONS:-30}" ]; do
        for name in pirate json shout; do
            [ "$n" -lt "${FUNCTIONS:-30}" ] && printf 'f%02d=%s\n' "$n" "$here/functions/adapters/$name"
            n=$((n + 1))
        done
    done
}

reports=""; logs=""; run=1
while [ "$run" -le "${RUNS:-3}" ]; do
    rm -rf "$folder/data-$run" "$folder/decisions-$run.jsonl" "$folder/address-$run"
    # shellcheck disable=SC2046 # one module a word
    "${COLDFRAME_SERVE:-$bin}" serve --backbone "${COLDFRAME_MODEL:-smollm2-135m-instruct}" --port 0 --policy "$policy" \
        --data-dir "$folder/data-$run" --event-log "$folder/decisions-$run.jsonl" \
        ${DEVICE_MIB:+--device-mib "$DEVICE_MIB"} ${KV_MIB:+--kv-mib "$KV_MIB"} \
        --artifact-root "$here/functions/adapters" --lora-modules $(modules) \
        > "$folder/address-$run" 2> "$folder/host-$run.txt" &
    host=$!
    trap 'kill "$host" 2>/dev/null || true' EXIT
    while [ ! -s "$folder/address-$run" ]; do
        kill -0 "$host" 2>/dev/null || { cat "$folder/host-$run.txt" >&2; exit 1; }
        sleep 0.1
    done
    "$bin" --quiet replay --trace "$trace" --live "$(head -n 1 "$folder/address-$run")" --seed "$run" \
        --sent "$folder/sent.csv" --out "$folder/live-$run.json" --requests "$folder/live-$run.csv" > /dev/null
    kill "$host"
    wait "$host" || true
    reports="$reports --live-report $folder/live-$run.json"; logs="$logs --host-log $folder/decisions-$run.jsonl"
    run=$((run + 1))
done
# shellcheck disable=SC2086 # words
"$bin" --quiet fidelity --trace "$folder/sent.csv" --profile "$profile" --policy "$policy" \
    ${DEVICE_MIB:+--gpu-memory-gb "$(awk "BEGIN { print $DEVICE_MIB * 1048576 / 1e9 }")"} \
    $reports $logs --html "$folder/fidelity.html" --out "$folder/fidelity.json"
