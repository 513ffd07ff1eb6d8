#!/usr/bin/env python3
"""transformers and PEFT on torch as a worker: torch_peer.py MODEL THREADS ADAPTERS [bf16|f32] (see worker.py).

The same GGUF, dequantised; bf16 is torch's best on CPUs that have bf16 units. Adapters stay unmerged; different ones in
one batch go through PEFT's `adapter_names`. Only the last position's logits are asked for.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from worker import serve, timed, tokens, total

PROMPT = 64


def load(model, dtype):
    """A plain model: transformers keeps a GGUF's marked as quantised, and saves and casts it with more care."""
    model = Path(model)
    loaded = AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32)
    plain = LlamaForCausalLM(loaded.config)
    plain.load_state_dict(loaded.state_dict())
    return plain.to(dtype).eval()


def with_adapters(model, folders, dtype):
    names = [folder.name.replace("-", "_") for folder in folders]
    wrapped = None
    for name, folder in zip(names, folders):
        if wrapped is None:
            wrapped = PeftModel.from_pretrained(model, folder, adapter_name=name, autocast_adapter_dtype=False)
        else:
            wrapped.load_adapter(folder, adapter_name=name, autocast_adapter_dtype=False)
    return wrapped.to(dtype).eval(), names


@torch.inference_mode()
def main(model, threads, adapters, dtype="bf16"):
    torch.set_num_threads(int(threads))
    kind = {"bf16": torch.bfloat16, "f32": torch.float32}[dtype]
    plain = load(model, kind)
    folders = sorted(path.parent for path in Path(adapters).glob("*/adapter_config.json"))
    lazily = {}

    def wrapped():
        # PEFT puts its layers into the model it is given, so it gets one of its own.
        if not lazily:
            lazily["model"], lazily["names"] = with_adapters(load(model, kind), folders, kind)
        return lazily["model"], lazily["names"]

    def prefill(n):
        ids = torch.tensor([tokens(n, n)])
        return timed(lambda: plain(ids, use_cache=True, logits_to_keep=1), n)

    def decode(model, sequences, steps, **extra):
        ids = torch.tensor([tokens(PROMPT, sequence) for sequence in range(sequences)])
        cache = model(ids, use_cache=True, logits_to_keep=1, **extra).past_key_values
        new = torch.tensor(tokens(steps, 7))

        def run():
            for at in range(steps):
                model(new[at].expand(sequences, 1), past_key_values=cache, use_cache=True, **extra)

        return timed(run, sequences * steps)

    def one(steps):
        model, names = wrapped()

        def under(name):
            model.set_adapter(name)
            return decode(model, 16, steps // 3)

        return total(under(name) for name in names[:3])

    def mixed(steps):
        model, names = wrapped()
        return decode(model, 16, steps, adapter_names=names[:16])

    serve({
        "prefill": prefill, "decode_1": lambda steps: decode(plain, 1, steps),
        "decode_16_none": lambda steps: decode(plain, 16, steps), "decode_16_one": one, "decode_16_mixed": mixed,
    }, f"transformers + peft on torch {torch.__version__}, {dtype} ({threads} threads)")


if __name__ == "__main__":
    main(*sys.argv[1:])
