#!/bin/sh
# Measures a promise of docs/spec.md: scripts/bench.sh NAME. The last line on stdout is one JSON object.
set -eu
cd "$(dirname "$0")/.."

usage() {
    echo "usage: scripts/bench.sh NAME [ARGUMENTS]"
    echo "  replay    simulator speed, memory and accuracy"
    echo "  peers     tokens a second beside llama.cpp, torch + PEFT and mistral.rs (installs them into target/peers)"
    echo "  backbone  the backbone's promises, measured beside the peers that are installed"
    echo "  sandbox   the sandbox's promises, beside bare wasmtime in the same run"
    echo "  sandbox-peers  a component of wasi:http under our server and under wasmtime serve (built from crates.io); needs wrk"
    echo "  host      the host's promises, on servers of its own (--minutes 10 --kill-rounds 500 for the full ones)"
    echo "  fidelity  the simulator beside the host: calibration, three classes of traces, two policies, six live runs each"
    echo "            (POLICIES, CLASSES, FUNCTIONS, RUNS, SPAN, RATE, KV_MIB, PROFILE, and KEEP=1 to go on after an interruption: see the script;"
    echo "            results in target/fidelity)"
    echo "  host-peers  first tokens on an adapter from disk in llama.cpp (installs it into target/peers), in one process"
    echo "peers and backbone: COLDFRAME_ADAPTERS names the folder of PEFT adapters to make 16 of (default:"
    echo "  functions/adapters), COLDFRAME_PEERS the peers to install (default: llamacpp torch mistralrs),"
    echo "  COLDFRAME_MODEL a GGUF other than SmolLM2-135M-Instruct; arguments go to scripts/peers/compare.py"
}

# Our binary beside the peers: $@ are further arguments of compare.py.
compare() {
    cargo build --release --locked --bin coldframe >&2
    adapters="${COLDFRAME_ADAPTERS:-functions/adapters}"
    home="${COLDFRAME_PEERS_DIR:-target/peers}"
    exec "$home/venv/bin/python" scripts/peers/compare.py --home "$home" --sources "$adapters" \
        --coldframe "${CARGO_TARGET_DIR:-target}/release/coldframe" "$@"
}

[ "$#" -gt 0 ] || { usage >&2; exit 2; }
name="$1"
shift
case "$name" in
    replay)
        cargo build --release --locked --bin coldframe >&2
        exec "${CARGO_TARGET_DIR:-target}/release/coldframe" bench-replay "$@"
        ;;
    peers)
        # shellcheck disable=SC2086 # a list of names
        scripts/peers/install.sh ${COLDFRAME_PEERS:-}
        compare "$@"
        ;;
    backbone)
        # Without any peer the model and the small tools are still needed.
        [ -e "${COLDFRAME_PEERS_DIR:-target/peers}/model.gguf" ] || scripts/peers/install.sh llamacpp
        compare --promises "$@"
        ;;
    sandbox)
        cargo build --release --locked --bin coldframe >&2
        coldframe="${CARGO_TARGET_DIR:-target}/release/coldframe"
        model="${COLDFRAME_MODEL:-smollm2-135m-instruct}"
        [ -e "$model" ] || "$coldframe" backbone pull "$model" >&2
        exec "$coldframe" bench-sandbox --backbone "$model" "$@"
        ;;
    host)
        cargo build --release --locked --bin coldframe >&2
        coldframe="${CARGO_TARGET_DIR:-target}/release/coldframe"
        model="${COLDFRAME_MODEL:-smollm2-135m-instruct}"
        [ -e "$model" ] || "$coldframe" backbone pull "$model" >&2
        exec "$coldframe" bench-host --backbone "$model" "$@"
        ;;
    fidelity)
        cargo build --release --locked --bin coldframe >&2
        coldframe="${CARGO_TARGET_DIR:-target}/release/coldframe"
        model="${COLDFRAME_MODEL:-smollm2-135m-instruct}"
        [ -e "$model" ] || "$coldframe" backbone pull "$model" >&2
        home="${FIDELITY_HOME:-${CARGO_TARGET_DIR:-target}/fidelity}"
        mkdir -p "$home"
        export COLDFRAME="$coldframe" COLDFRAME_MODEL="$model"
        # A machine that is shared with others has fast and slow minutes, and hours: all of it goes in rounds of one live run of
        # each pair and a short calibration before every second one, and a round's runs are simulated from its own calibrations.
        # The profile's price only scales the bill; its error is the same for any.
        export RUNS="${RUNS:-6}"
        # Little KV memory beside the eight adapters, so that adapters have to go: more would hold all that are called.
        export KV_MIB="${KV_MIB:-32}"
        profile="${PROFILE:-$home/profile.toml}"
        [ -n "${KEEP:-}" ] || rm -f "$home"/points*.jsonl "$home"/*/live-*.json
        pairs=""
        for class in ${CLASSES:-predictable normal bursty}; do
            # CoV of each function's gaps; calls a second; for how long. A burst of 20 calls takes what two calls a second do.
            case "$class" in
                predictable) cov=0.5; rate=2; span=90s ;;
                normal) cov=2; rate=2; span=90s ;;
                bursty) cov=5; rate=1; span=2m ;;
                *) echo "bench.sh: CLASSES are predictable, normal and bursty, not $class" >&2; exit 2 ;;
            esac
            "$coldframe" --quiet trace generate zipf --functions "${FUNCTIONS:-30}" --rate "${RATE:-$rate}" --cov "$cov" \
                --span "${SPAN:-$span}" --lengths gsm8k -o "$home/$class.csv" >&2
            for policy in ${POLICIES:-coldframe serverlesslora}; do pairs="$pairs $class-$policy"; done
        done
        round=1
        while [ "$round" -le "$RUNS" ]; do
            run=0
            points="$home/points-$round.jsonl"
            for pair in $pairs; do
                [ -n "${PROFILE:-}" ] || [ "$(cat "$points" 2>/dev/null | wc -l)" -gt $((run / 2)) ] ||
                    "$coldframe" calibrate --backbone "$model" --price-per-hour 0.10 --quick --rounds 1 \
                        --points "$points" --out "$home/profile-$round.toml" >&2
                run=$((run + 1))
                ONLY=live KEEP=1 RUNS="$round" POLICY="${pair#*-}" \
                    scripts/fidelity.sh "$profile" "$home/${pair%%-*}.csv" "$home/$pair" >&2
            done
            round=$((round + 1))
        done
        # Again, of all calibrations there are, for a KEEP=1 with a newer build.
        own=""
        if [ -z "${PROFILE:-}" ]; then
            refit() {
                "$coldframe" --quiet calibrate --backbone "$model" --points "$1" --refit --out "$2" --html "$home/profile.html" >&2
            }
            rm -f "$home/points.jsonl"
            round=1
            while [ "$round" -le "$RUNS" ]; do
                refit "$home/points-$round.jsonl" "$home/profile-$round.toml"
                own="$own $home/profile-$round.toml"
                cat "$home/points-$round.jsonl" >> "$home/points.jsonl"
                round=$((round + 1))
            done
            refit "$home/points.jsonl" "$profile"
        fi
        results=""
        for pair in $pairs; do
            ONLY=compare POLICY="${pair#*-}" RUN_PROFILES="$own" \
                scripts/fidelity.sh "$profile" "$home/${pair%%-*}.csv" "$home/$pair" >&2
            results="$results $home/$pair/fidelity.json"
        done
        # shellcheck disable=SC2086 # a list of files
        exec "$coldframe" fidelity-table $results
        ;;
    sandbox-peers)
        cargo build --release --locked --bin coldframe >&2
        coldframe="${CARGO_TARGET_DIR:-target}/release/coldframe"
        model="${COLDFRAME_MODEL:-smollm2-135m-instruct}"
        [ -e "$model" ] || "$coldframe" backbone pull "$model" >&2
        home="${COLDFRAME_PEERS_DIR:-target/peers}"
        command -v wrk >/dev/null 2>&1 || { echo "bench.sh: wrk makes the load: apt-get install wrk" >&2; exit 1; }
        [ -x "$home/wasmtime/bin/wasmtime" ] ||
            cargo install wasmtime-cli --version 48.0.8 --root "$home/wasmtime" --target-dir "$home/wasmtime/target" \
                --no-default-features --features serve,run,cranelift,parallel-compilation,pooling-allocator,component-model,component-model-async >&2
        exec python3 scripts/peers/invoke.py "$coldframe" "$model" "$home/wasmtime/bin/wasmtime" wrk "$@"
        ;;
    host-peers)
        scripts/peers/install.sh llamacpp
        home="${COLDFRAME_PEERS_DIR:-target/peers}"
        python="$home/venv/bin/python"
        [ -d "$home/adapters" ] ||
            "$python" scripts/peers/adapters.py "${COLDFRAME_ADAPTERS:-functions/adapters}" "$home/adapters" >&2
        libraries="$home/npm/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
        exec "$python" scripts/peers/cold.py "$libraries" "$home/model.gguf" "${COLDFRAME_THREADS:-2}" "$home/adapters"
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
