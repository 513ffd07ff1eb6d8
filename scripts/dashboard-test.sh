#!/bin/sh
# The dashboard against a real server in headless Chromium. COLDFRAME_MODEL names the model; an argument names a folder
# for pictures. Says so and passes where Chromium, Node or the model is missing.
set -eu
cd "$(dirname "$0")/.."

chromium="${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}"
[ -n "$chromium" ] || { echo "chromium is missing (Debian: chromium): the dashboard was not tested"; exit 0; }
command -v node >/dev/null 2>&1 || { echo "node is missing (Debian: nodejs): the dashboard was not tested"; exit 0; }
[ -n "${COLDFRAME_MODEL:-}" ] || { echo "COLDFRAME_MODEL is not set: the dashboard was not tested"; exit 0; }

binary="${COLDFRAME_BINARY:-target/debug/coldframe}"
[ -x "$binary" ] || cargo build --locked --bin coldframe
work="$(mktemp -d)"
key="dashboard-test-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')"
server=""
trap '[ -z "$server" ] || { kill "$server" && wait "$server" || true; }; rm -rf "$work"' EXIT INT TERM

adapters="$PWD/functions/adapters"
COLDFRAME_OPERATOR_KEY="$key" "$binary" serve --backbone "$COLDFRAME_MODEL" --served-model-name base --port 0 --data-dir "$work/data" \
    --artifact-root "$adapters" --device-mib 1024 --kv-mib 64 \
    --lora-modules "pirate=$adapters/pirate" "shout=$adapters/shout" "json=$adapters/json" >"$work/url" 2>"$work/log" &
server=$!
for _ in $(seq 600); do
    [ ! -s "$work/url" ] || break
    kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.2
done
url="$(cat "$work/url")"

# Something to see: each function is called cold, then warm.
for name in pirate shout json pirate pirate shout; do
    curl -sf "$url/v1/chat/completions" -H "authorization: Bearer $key" -H "content-type: application/json" -o /dev/null \
        -d "{\"model\":\"$name\",\"max_tokens\":12,\"messages\":[{\"role\":\"user\",\"content\":\"Say hello to $name.\"}]}"
done
COLDFRAME_URL="$url" COLDFRAME_API_KEY="$key" COLDFRAME_ADAPTER="$adapters/pirate" CHROMIUM="$chromium" \
    node scripts/clients/dashboard.mjs "$@"
