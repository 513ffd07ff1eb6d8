#!/bin/sh
# Generated requests against a host's own description: no 5xx, no undocumented status, every body as its schema says.
# Needs `pip install schemathesis`; COLDFRAME_URL (http://127.0.0.1:8000/v1) and COLDFRAME_API_KEY say where and who.
# Probes that answer 503 by design and the operator's routes for sleeping are left out. How long the tool takes to think of a
# request is no finding on a machine that serves a model meanwhile.
set -eu
# It leaves a cache where it runs.
cd "$(mktemp -d)"
url="${COLDFRAME_URL:-http://127.0.0.1:8000/v1}"
exec "${SCHEMATHESIS:-schemathesis}" run "${url%/v1}/api-doc/openapi.json" --url "${url%/v1}" \
    --header "Authorization: Bearer ${COLDFRAME_API_KEY:-none}" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --exclude-path /sleep --exclude-path /wake_up --exclude-path-regex '^/invoke/' \
    --suppress-health-check too_slow --max-examples "${EXAMPLES:-30}" --phases examples,coverage,fuzzing --no-color "$@"
