#!/usr/bin/env python3
"""Makes N different adapters out of real ones, each as a PEFT folder and as a llama.cpp GGUF.

    adapters.py SOURCES OUT [N]

Number i is a copy of source i modulo their count with every tensor disturbed by a tenth of its deviation (seed i), so
that ranks, targets and sizes stay real and no two adapters are equal. SOURCES holds PEFT folders for a Llama model.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import load_file, save_file

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
HEAD_DIM = 64


def interleave(rows):
    """Hugging Face's row order of q and k into llama.cpp's: row h*d + j*d/2 + i becomes row h*d + 2*i + j."""
    heads = rows.reshape(-1, 2, HEAD_DIM // 2, rows.shape[-1])
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(rows.shape))


def gguf_name(path, part):
    _, layer, module = path.removeprefix("base_model.model.model.").split(".", 2)
    return f"blk.{layer}.{NAMES[module]}.weight.lora_{part.lower()}"


def write_gguf(path, tensors, config):
    writer = GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    for key, value in tensors.items():
        module, part = key.removesuffix(".weight").rsplit(".lora_", 1)
        if part == "B" and module.endswith(("q_proj", "k_proj")):
            value = interleave(value)
        writer.add_tensor(gguf_name(module, part), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def disturbed(tensors, seed):
    random = np.random.default_rng(seed)
    noise = lambda value: 0.1 * value.astype(np.float32).std() * random.standard_normal(value.shape)
    return {key: (value + noise(value)).astype(value.dtype) for key, value in sorted(tensors.items())}


def main(sources, out, count=16):
    sources = sorted(path.parent for path in Path(sources).glob("*/adapter_config.json"))
    out = Path(out)
    for number in range(int(count)):
        source = sources[number % len(sources)]
        folder = out / f"{number:02}-{source.name}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "adapter_config.json", folder / "adapter_config.json")
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = disturbed(load_file(source / "adapter_model.safetensors"), number)
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        write_gguf(out / f"{folder.name}.gguf", tensors, config)


if __name__ == "__main__":
    main(*sys.argv[1:])
