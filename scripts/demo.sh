#!/bin/sh
# The main job, from nothing: a server on one small model, three functions registered with curl (one with code), called
# with the official OpenAI clients for Python and JavaScript, what they cost; then a trace under five policies, with a
# table and a page with plots in out/demo.html. What cannot be had (the model, a client) is named and left out.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --bin coldframe
mkdir -p out
case "${CARGO_TARGET_DIR:-target}" in
    /*) coldframe="$CARGO_TARGET_DIR/release/coldframe" ;;
    *) coldframe="$(pwd)/${CARGO_TARGET_DIR:-target}/release/coldframe" ;;
esac
model=smollm2-135m-instruct
question="What do penguins eat?"

say() {
    printf '\n== %s\n' "$*"
}

# Waits until the server prints where it listens, then until it is ready.
wait_for_server() {
    for _ in $(seq 150); do
        address="$(sed -n 's/.*\(http:\/\/127\.0\.0\.1:[0-9]*\).*/\1/p' out/serve.log | head -n 1)"
        [ -z "$address" ] || ! curl -fs "$address/ready" >/dev/null 2>&1 || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.2
    done
    echo "the server did not start:"
    cat out/serve.log
    return 1
}

# put NAME [curl arguments]: registers a function.
put() {
    name="$1"
    shift
    curl -fsS -X PUT "$address/admin/v1/functions/$name" "$@" | python3 -c '
import json, sys
answer = json.load(sys.stdin)
print(answer.get("name") or answer.get("function") or "registered", json.dumps(answer)[:200])'
}

ask_python() {
    if python3 -m venv out/clients/venv >/dev/null 2>&1 && out/clients/venv/bin/pip install -q openai==3.57.0 >/dev/null 2>&1; then
        for function in pirate shout guardrail; do
            COLDFRAME_URL="$address/v1" out/clients/venv/bin/python scripts/clients/ask.py "$function" "$question"
        done
        say "the same client, everything else it can ask"
        COLDFRAME_URL="$address/v1" COLDFRAME_MODEL_NAME=pirate out/clients/venv/bin/python scripts/clients/smoke.py
    else
        echo "the openai client for Python could not be had: left out"
    fi
}

ask_javascript() {
    if command -v npm >/dev/null 2>&1 && npm install --silent --no-audit --no-fund --prefix out/clients openai@7 >/dev/null 2>&1; then
        COLDFRAME_URL="$address/v1" COLDFRAME_NODE_MODULES="$(pwd)/out/clients/node_modules" COLDFRAME_MODEL_NAME=shout \
            node scripts/clients/smoke.mjs
    else
        echo "the openai client for JavaScript could not be had: left out"
    fi
}

serve_and_ask() {
    rm -rf out/data out/serve.log
    "$coldframe" serve --backbone "$model" --port 0 --data-dir out/data --artifact-root functions >out/serve.log 2>&1 &
    server=$!
    trap 'kill $server 2>/dev/null || true' EXIT INT TERM
    wait_for_server || return 1
    say "a server on $address; register three functions with curl"
    put pirate -H 'content-type: application/json' \
        -d "{\"adapters\":[{\"uri\":\"file://$(pwd)/functions/adapters/pirate\"}]}"
    put shout -F "adapter=@functions/adapters/shout/adapter_config.json" \
        -F "adapter=@functions/adapters/shout/adapter_model.safetensors"
    put guardrail -F 'manifest={"settings":{"capabilities":["state"]}};type=application/json' \
        -F "adapter=@functions/adapters/pirate/adapter_config.json" \
        -F "adapter=@functions/adapters/pirate/adapter_model.safetensors" \
        -F "module=@functions/guardrail/guardrail.wasm"
    say "call them with the official OpenAI client for Python: $question"
    ask_python
    say "and with the one for JavaScript"
    ask_javascript
    say "what it took: usage by function"
    COLDFRAME_URL="$address" "$coldframe" usage
    say "the dashboard of this server, while it runs, is $address/"
    kill -TERM "$server"
    wait "$server" || true
    trap - EXIT INT TERM
}

if "$coldframe" backbone pull "$model"; then
    serve_and_ask
else
    echo "the model could not be had: the demo goes on with the replay"
fi

say "the same decisions, simulated: a trace under five policies"
"$coldframe" replay --trace traces/samples/demo-bursty.csv.gz \
    --policy vllm,serverlessllm,instainfer,serverlesslora,coldframe --gpu l40s --workers 8 \
    --html out/demo.html --out out/demo.json "$@"
echo "open $(pwd)/out/demo.html in a browser; the numbers are in out/demo.json"
