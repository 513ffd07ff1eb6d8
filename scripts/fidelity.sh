#!/bin/sh
# The simulator beside the host: scripts/fidelity.sh PROFILE.toml TRACE FOLDER. Starts the host anew for each run, sends
# it the trace, then compares each run with its simulation. The last line on stdout is one JSON object.
#   COLDFRAME_MODEL   the model (default: smollm2-135m-instruct)
#   POLICY            the host's policy (default: coldframe)
#   FUNCTIONS         functions to register, each with an adapter of its own (default: 30)
#   ROOM              adapters that memory has room for, beside KV_MIB MiB of KV pages (default: 8 and 192)
#   RUNS              live runs (default: 3)
#   KEEP              1: live runs that lie in FOLDER already are not made again
#   RUN_PROFILES      a profile for each live run, of about its time, in place of PROFILE.toml
#   ONLY              live: the runs alone, no profile needed yet; compare: the comparison of the runs that lie in FOLDER
set -eu
here="$(cd "$(dirname "$0")/.." && pwd)"
[ "$#" -eq 3 ] || { echo "usage: scripts/fidelity.sh PROFILE.toml TRACE FOLDER" >&2; exit 2; }
profile="$1"; trace="$2"; folder="$3"
bin="${COLDFRAME:-$here/target/release/coldframe}"
policy="${POLICY:-coldframe}"
functions="${FUNCTIONS:-30}"
kv_mib="${KV_MIB:-192}"
model="${COLDFRAME_MODEL:-smollm2-135m-instruct}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

# Adapters: the three trained ones in turn, told apart by their alpha, so that no two functions share one.
adapters="$folder/adapters"
if [ ! -d "$adapters" ]; then
    n=0
    while [ "$n" -lt "$functions" ]; do
        for name in pirate json shout; do
            [ "$n" -lt "$functions" ] || break
            into="$adapters/$(printf 'f%02d' "$n")"
            mkdir -p "$into"
            cp "$here/functions/adapters/$name/adapter_model.safetensors" "$into/"
            sed "s/\"lora_alpha\": *[0-9.]*/\"lora_alpha\": $((16 + n))/" \
                "$here/functions/adapters/$name/adapter_config.json" > "$into/adapter_config.json"
            n=$((n + 1))
        done
    done
fi
modules() { for path in "$adapters"/*; do printf '%s=%s\n' "$(basename "$path")" "$path"; done; }

# Memory: the weights, so many adapters of the mean size, the KV pages.
weights="$("$bin" --json backbone info "$model" | sed -n 's/.*"mapped_bytes": *\([0-9]*\).*/\1/p' | head -n 1)"
mean="$(cat "$adapters"/*/adapter_model.safetensors | wc -c | awk -v n="$functions" '{ print int($1 / n) }')"
device_mib="${DEVICE_MIB:-$(awk "BEGIN { print int(($weights + ${ROOM:-8} * $mean) / 1048576) + 1 + $kv_mib }")}"
# The engine's pool is as large as what the budget leaves beside the weights: the core promises KV memory out of all of it.
pool_mib="$(awk "BEGIN { print $device_mib - int($weights / 1048576) }")"

run=1
while [ "${ONLY:-}" != compare ] && [ "$run" -le "${RUNS:-3}" ]; do
    if [ -n "${KEEP:-}" ] && [ -s "$folder/live-$run.json" ]; then
        run=$((run + 1))
        continue
    fi
    rm -rf "$folder/data-$run" "$folder/decisions-$run.jsonl" "$folder/address-$run"
    # shellcheck disable=SC2046 # one module a word
    "$bin" serve --backbone "$model" --port 0 --policy "$policy" \
        --data-dir "$folder/data-$run" --event-log "$folder/decisions-$run.jsonl" \
        --device-mib "$device_mib" --kv-mib "$pool_mib" \
        --artifact-root "$adapters" --lora-modules $(modules) \
        > "$folder/address-$run" 2> "$folder/host-$run.txt" &
    host=$!
    trap 'kill "$host" 2>/dev/null || true' EXIT
    while [ ! -s "$folder/address-$run" ]; do
        kill -0 "$host" 2>/dev/null || { cat "$folder/host-$run.txt" >&2; exit 1; }
        sleep 0.1
    done
    "$bin" --quiet replay --trace "$trace" --live "$(head -n 1 "$folder/address-$run")" --seed "$run" ${LIVE_ARGS:-} \
        --sent "$folder/sent.csv" --out "$folder/live-$run.json" --requests "$folder/live-$run.csv" > /dev/null
    kill "$host"
    wait "$host" || true
    rm -rf "$folder/data-$run"
    run=$((run + 1))
done
[ "${ONLY:-}" != live ] || exit 0
reports=""; logs=""; profiles=""; run=1
while [ "$run" -le "${RUNS:-3}" ]; do
    reports="$reports --live-report $folder/live-$run.json"; logs="$logs --host-log $folder/decisions-$run.jsonl"
    run=$((run + 1))
done
for own in ${RUN_PROFILES:-}; do profiles="$profiles --run-profile $own"; done
# shellcheck disable=SC2086 # words
"$bin" --quiet fidelity --trace "$folder/sent.csv" --profile "$profile" --policy "$policy" \
    $reports $logs $profiles --sim-log "$folder/simulated.jsonl" \
    --html "$folder/fidelity.html" --out "$folder/fidelity.json"
