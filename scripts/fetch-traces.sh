#!/usr/bin/env bash
# Fetches public trace originals, resuming what was cut. Lists them with --list; see docs/traces.md for licences.
# Usage: scripts/fetch-traces.sh [--list] [--to DIR] NAME...
set -euo pipefail

blob=https://azurepublicdatasettraces.blob.core.windows.net/azurepublicdatasetv2
raw=https://raw.githubusercontent.com
azure=$raw/Azure/AzurePublicDataset/master/data
burst=https://github.com/HPMLL/BurstGPT/releases/download/v1.1
burst2=https://github.com/HPMLL/BurstGPT/releases/download/v1.2
mooncake=$raw/kvcache-ai/Mooncake/main/FAST25-release
bailian=$raw/alibaba-edu/qwen-bailian-usagetraces-anon/main

# name | licence | sha256 or - | address
traces="
azure-functions-2019|CC-BY-4.0|-|$blob/azurefunctions_dataset2019/azurefunctions-dataset2019.tar.xz
azure-functions-2021|CC-BY-4.0|-|$azure/AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar
azure-llm-2023-code|CC-BY-4.0|54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6|$azure/AzureLLMInferenceTrace_code.csv
azure-llm-2023-conv|CC-BY-4.0|2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8|$azure/AzureLLMInferenceTrace_conv.csv
azure-llm-2024-code|CC-BY-4.0|-|$blob/azurellminfererencetrace/AzureLLMInferenceTrace_code_1week.csv
azure-llm-2024-conv|CC-BY-4.0|-|$blob/azurellminfererencetrace/AzureLLMInferenceTrace_conv_1week.csv
burstgpt-1|CC-BY-4.0|-|$burst/BurstGPT_1.csv
burstgpt-2|CC-BY-4.0|-|$burst/BurstGPT_2.csv
burstgpt-3|CC-BY-4.0|-|$burst2/BurstGPT_3.csv
mooncake-conversation|Apache-2.0|-|$mooncake/traces/conversation_trace.jsonl
mooncake-toolagent|Apache-2.0|-|$mooncake/traces/toolagent_trace.jsonl
mooncake-arxiv|Apache-2.0|-|$mooncake/arxiv-trace/mooncake_trace.jsonl
qwen-consumer|Apache-2.0|-|$bailian/qwen_traceA_blksz_16.jsonl
qwen-business|Apache-2.0|-|$bailian/qwen_traceB_blksz_16.jsonl
qwen-coder|Apache-2.0|-|$bailian/qwen_coder_blksz_16.jsonl
qwen-thinking|Apache-2.0|-|$bailian/qwen_thinking_blksz_16.jsonl
"

list() {
  printf '%s\n' "$traces" | while IFS='|' read -r name licence _ address; do
    [ -z "$name" ] || printf '%-22s %-10s %s\n' "$name" "$licence" "$address"
  done
}

fetch() {
  local row licence sum address file
  row=$(printf '%s\n' "$traces" | grep "^$1|") || { echo "no trace is called $1; --list shows all" >&2; return 1; }
  IFS='|' read -r _ licence sum address <<<"$row"
  file=$to/${address##*/}
  mkdir -p "$to"
  echo "$1 ($licence) -> $file" >&2
  # A partial file keeps its own name until it is whole, so that -C - never resumes a finished one.
  [ -f "$file" ] || { curl --fail --location --retry 3 -C - -o "$file.partial" "$address" && mv "$file.partial" "$file"; }
  if [ "$sum" = - ]; then
    echo "  no published checksum; have $(sha256sum "$file" | cut -d' ' -f1)" >&2
  else
    echo "$sum  $file" | sha256sum --check --quiet || { echo "  checksum differs: delete $file and fetch again" >&2; return 1; }
  fi
}

to=traces-data
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) list; exit ;;
    --to) to=${2:?--to needs a folder}; shift ;;
    -h | --help) sed -n '2,3s/^# //p' "$0"; exit ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
for name in "${names[@]}"; do fetch "$name"; done
