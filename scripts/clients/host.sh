#!/bin/sh
# A whole host on a real model, asked by programs that are not ours: generated requests (contract.sh), vLLM's load and
# unload (adapters.py), a strict reader of metrics. COLDFRAME is the program, COLDFRAME_MODEL a model file,
# COLDFRAME_ADAPTER a folder in PEFT's form; needs `pip install schemathesis prometheus-client` (PYTHON, SCHEMATHESIS).
# EXAMPLES bounds the generated requests of each route.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
export COLDFRAME_API_KEY=a-key-of-the-contract-run COLDFRAME_OPERATOR_KEY=a-key-of-the-contract-run
VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 "${COLDFRAME:-coldframe}" serve --backbone "${COLDFRAME_MODEL:?a model file}" \
    --served-model-name base --port 0 --data-dir "$work/data" --artifact-root "${COLDFRAME_ADAPTER:?an adapter}" \
    > "$work/address" 2> "$work/log" &
server=$!
trap 'kill $server 2> /dev/null; wait $server 2> /dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 600); do
    [ -s "$work/address" ] && break
    kill -0 $server || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
url=$(cat "$work/address")
export COLDFRAME_URL="$url/v1"
"${PYTHON:-python3}" "$here/adapters.py" "$COLDFRAME_ADAPTER"
# Draining ends the server, as it should.
"$here/contract.sh" --exclude-path /admin/v1/drain --request-timeout 60 "$@"
"${PYTHON:-python3}" "$here/metrics.py"
if grep -E 'panicked|ERROR' "$work/log" >&2; then
    echo "the server's own log has errors" >&2
    exit 1
fi
echo "the contract holds"
