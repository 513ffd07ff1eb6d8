#!/usr/bin/env python3
"""Makes the golden data of coldframe-backbone with Hugging Face transformers and PEFT, in f32 on the CPU.

Tiny random models of every family, adapters of every variant, and the logits PEFT computes for them, all into
runtime/backbone/tests/fixtures/golden. Every logit is computed from the written files, so the files are the test.

    python3 -m venv target/golden
    target/golden/bin/pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors numpy
    OMP_NUM_THREADS=1 target/golden/bin/python scripts/make-golden.py

torch's wheel on PyPI is a CUDA build: the environment takes 5.6 GiB. No GPU is used.

With --real GGUF --adapters FOLDER it makes `real_adapters.json` instead: first-token logits of the real model
(dequantised to f32) under none and each of the real adapters.
"""

import argparse
import json
import os
import platform
import shutil
import zlib
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).resolve().parent.parent / "runtime/backbone/tests/fixtures"
VOCAB = 41
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def generator(name):
    """A random stream of its own for every name: adding a case changes no other."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def sizes(**changes):
    """The sizes that every base shares: odd on purpose (nothing is a multiple of 32 but by chance)."""
    return dict(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=2, pad_token_id=0, tie_word_embeddings=True,
    ) | changes


def bases():
    """Name, configuration, element type on disk, and bytes of a shard."""
    t = transformers
    rope3 = dict(
        rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32,
    )
    gemma_rope = dict(
        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=100000.0),
        sliding_attention=dict(rope_type="default", rope_theta=10000.0),
    )
    return {
        "llama": (t.LlamaConfig(**sizes(hidden_size=36, intermediate_size=28, num_attention_heads=3,
                                        tie_word_embeddings=False)), F32, None),
        "llama3": (t.LlamaConfig(**sizes(rope_parameters=rope3)), F16, 8_000),
        "mistral": (t.MistralConfig(**sizes(sliding_window=7, tie_word_embeddings=False)), BF16, None),
        "qwen2": (t.Qwen2Config(**{k: v for k, v in sizes(hidden_size=32).items() if k != "head_dim"}), F16, None),
        "qwen3": (t.Qwen3Config(**sizes(num_attention_heads=4, num_key_value_heads=2)), BF16, None),
        "gemma3": (t.Gemma3TextConfig(**sizes(num_hidden_layers=3, sliding_window=5, query_pre_attn_scalar=24,
                                              rope_parameters=gemma_rope,
                                              layer_types=["sliding_attention"] * 2 + ["full_attention"])), BF16, None),
    }


def randomise(model, name):
    """Weights that keep activations near one and make every part matter; norms and biases are not left at 1 and 0."""
    random = generator(name)
    for key, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=random)
        if value.dim() == 2 and "embed_tokens" not in key:
            value.data = noise * 1.2 / value.shape[1] ** 0.5
        elif value.dim() == 2:
            # Small, or a tied head would only ever give back the token that went in.
            value.data = 0.3 * noise
        elif "norm" in key:
            value.data = value.data + 0.3 * noise
        else:
            value.data = 0.5 * noise


def legacy(folder):
    """Rewrites a config.json as transformers 4 wrote it: most models in the world are like that."""
    path = folder / "config.json"
    before = transformers.AutoConfig.from_pretrained(folder)
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config.pop("_sliding_window_pattern", None)
    config["torch_dtype"] = config.pop("dtype")
    if "full_attention" in rope:
        config["rope_theta"] = rope["full_attention"].pop("rope_theta")
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["rope_scaling"] = rope["full_attention"]
        config["sliding_window_pattern"] = 3
        del config["layer_types"]
    else:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    after = transformers.AutoConfig.from_pretrained(folder)
    assert after.rope_parameters == before.rope_parameters, after.rope_parameters
    assert getattr(after, "layer_types", None) == getattr(before, "layer_types", None), after


def write_base(folder, name, config, dtype, shard):
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=F32)
    randomise(model, name)
    options = {"max_shard_size": shard} if shard else {}
    model.to(dtype).save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name in ("llama", "gemma3"):
        legacy(folder)


def load_base(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=F32, attn_implementation="eager").eval()


# Name: base, element type on disk, what LoraConfig gets.
ADAPTERS = {
    "lora": ("llama", F32, dict(r=2, lora_alpha=3, target_modules="all-linear")),
    "rslora": ("llama", F16, dict(r=5, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"])),
    "dora": ("llama", F16, dict(r=2, lora_alpha=4, use_dora=True, target_modules=LINEAR)),
    "patterns": ("llama", BF16, dict(
        r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "o_proj", "up_proj"],
        rank_pattern={"layers.0.self_attn.q_proj": 5, "q_proj": 3, r".*\.1\..*up_proj": 3, "k_proj": 1},
        alpha_pattern={"self_attn.q_proj": 7, "model.layers.1.mlp.up_proj": 2.5})),
    "patterns_rslora": ("llama", F16, dict(
        r=2, lora_alpha=4, use_rslora=True, target_modules=["v_proj", "gate_proj"],
        rank_pattern={"gate_proj": 7}, alpha_pattern={"layers.1.self_attn.v_proj": 9})),
    "regex": ("llama", F16, dict(r=3, lora_alpha=6, target_modules=r".*\.(self_attn|mlp)\.(q|o|gate)_proj",
                                 exclude_modules=r".*layers\.0\.self_attn\.o_proj")),
    "layers": ("llama", F16, dict(r=3, lora_alpha=6, target_modules=["k_proj", "mlp.down_proj"],
                                  exclude_modules=["0.self_attn.k_proj"], layers_to_transform=[1],
                                  layers_pattern="layers")),
    "lora_bias": ("llama", F16, dict(r=2, lora_alpha=5, lora_bias=True, target_modules=["v_proj", "o_proj", "up_proj"])),
    "embed": ("llama", F16, dict(r=3, lora_alpha=6, target_modules=["embed_tokens", "v_proj"])),
    "head": ("llama", F16, dict(r=3, lora_alpha=6, target_modules=["lm_head", "q_proj"])),
    "head_dora": ("llama", F16, dict(r=2, lora_alpha=6, use_dora=True, target_modules=["lm_head"])),
    "saved": ("llama", F16, dict(r=2, lora_alpha=4, target_modules=["v_proj"],
                                 modules_to_save=["lm_head", "embed_tokens"])),
    "rank1": ("llama", F16, dict(r=1, lora_alpha=2, target_modules=["q_proj"])),
    "rank16": ("llama", F16, dict(r=16, lora_alpha=16, target_modules=["down_proj"])),
    "rank64": ("llama", F16, dict(r=64, lora_alpha=16, target_modules=["k_proj"], layers_to_transform=[1])),
    "rank256": ("llama", F16, dict(r=256, lora_alpha=128, target_modules=["v_proj"], layers_to_transform=[0])),
    "tied_embed": ("llama3", F16, dict(r=2, lora_alpha=6, target_modules=["embed_tokens", "down_proj"])),
    "tied_saved": ("llama3", F16, dict(r=2, lora_alpha=4, target_modules=["v_proj"], modules_to_save=["embed_tokens"])),
    "mistral_lora": ("mistral", BF16, dict(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj"])),
    "qwen2_dora": ("qwen2", F16, dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "v_proj"])),
    "qwen3_lora": ("qwen3", BF16, dict(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj"])),
    "gemma3_lora": ("gemma3", BF16, dict(r=2, lora_alpha=4, target_modules=["q_proj", "gate_proj"])),
}


def randomise_adapter(model, name):
    """A and B of equal size, so that the delta is as large as the matrix it changes; PEFT starts B at zero."""
    random = generator(name)
    for key, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=random)
        if "lora_magnitude_vector" in key:
            value.data = value.data * (1 + 0.3 * noise)
        elif "modules_to_save" in key:
            value.data = value.data + 0.5 * value.data.std() * noise
        elif "lora_embedding" in key:
            value.data = noise * 0.5
        elif ".lora_" in key and key.endswith("bias"):
            value.data = noise * 0.3
        elif ".lora_" in key:
            # A keeps the size of its input, B leaves about a third of what the base layer gives.
            value.data = noise * (0.6 if "lora_A" in key else 0.5) / value.shape[1] ** 0.5


def write_adapter(folder, name, base, dtype, options):
    model = get_peft_model(load_base(FIXTURES / "golden" / base), LoraConfig(task_type="CAUSAL_LM", **options))
    randomise_adapter(model, name)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    weights = folder / "adapter_model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(weights).items()}, weights, metadata={"format": "pt"})
    config = folder / "adapter_config.json"
    fields = json.loads(config.read_text()) | {"base_model_name_or_path": f"coldframe/tiny-{base}"}
    config.write_text(json.dumps({k: sorted(v) if isinstance(v, list) else v for k, v in fields.items()}, indent=1) + "\n")


def prompt(name, length):
    return torch.randint(3, VOCAB, (length,), generator=generator(f"prompt {name}")).tolist()


@torch.inference_mode()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def greedy(model, ids, count):
    """Without a cache, so that the cache is not what is tested; stops short of a near tie, where rounding decides."""
    ids, new = list(ids), []
    while len(new) < count:
        last = logits_of(model, ids)[-1]
        best = last.topk(2)
        if best.values[0] - best.values[1] < 1e-3 * last.abs().max():
            break
        new.append(best.indices[0].item())
        ids.append(new[-1])
    return new


def case(name, base, adapter, length, tensors):
    model = load_base(FIXTURES / "golden" / base)
    ids = prompt(name, length)
    plain = logits_of(model, ids)
    if adapter:
        model = PeftModel.from_pretrained(model, FIXTURES / "golden" / adapter).eval()
    tensors[name] = logits_of(model, ids).contiguous()
    return {
        "name": name, "base": base, "adapter": adapter, "prompt": ids, "greedy": greedy(model, ids, 6),
        "change": round((tensors[name] - plain).abs().max().item(), 4),
    }


def versions():
    return {
        "torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
        "python": platform.python_version(), "dtype": "float32", "device": "cpu",
    }


def tiny():
    folder = FIXTURES / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    cases, tensors = [], {}
    for name, (config, dtype, shard) in bases().items():
        write_base(folder / name, name, config, dtype, shard)
        # More than one KV page of 16 and several windows.
        length = {"llama": 33, "mistral": 27, "gemma3": 27}.get(name, 11)
        cases.append(case(f"{name}_base", name, None, length, tensors))
    for number, (name, (base, dtype, options)) in enumerate(ADAPTERS.items()):
        write_adapter(folder / name, name, base, dtype, options)
        cases.append(case(name, base, name, 6 + number % 7, tensors))
    save_file(tensors, folder / "logits.safetensors")
    text = ",\n  ".join(json.dumps(case) for case in cases)
    (folder / "golden.json").write_text(
        f'{{\n "made_by": "scripts/make-golden.py",\n "versions": {json.dumps(versions())},\n "cases": [\n  {text}\n ]\n}}\n')
    for entry in cases:
        print(entry["name"], "change", entry["change"], "largest", round(tensors[entry["name"]].abs().max().item(), 2),
              "greedy", entry["greedy"])


def real(gguf, adapters):
    gguf = Path(gguf).resolve()
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=F32).eval()
    adapters = Path(adapters)
    names = sorted(path.parent.name for path in adapters.glob("*/adapter_config.json"))
    prompts = [sample["prompt_ids"] for sample in json.loads((adapters / "samples_base.json").read_text())]
    wrapped = None
    for name in names:
        if wrapped is None:
            wrapped = PeftModel.from_pretrained(model, adapters / name, adapter_name=name).eval()
        else:
            wrapped.load_adapter(adapters / name, adapter_name=name)
    lines = []
    for name in [None, *names]:
        if name:
            wrapped.set_adapter(name)
        for ids in prompts:
            if name:
                last = logits_of(wrapped, ids)[-1]
            else:
                with wrapped.disable_adapter():
                    last = logits_of(wrapped, ids)[-1]
            best = last.topk(20)
            lines.append(json.dumps({
                "adapter": name, "prompt": ids, "ids": best.indices.tolist(),
                "logits": [round(value, 4) for value in best.values.tolist()],
                "deviation": round(last.std().item(), 4),
            }))
    text = ",\n  ".join(lines)
    (FIXTURES / "real_adapters.json").write_text(
        f'{{\n "made_by": "scripts/make-golden.py --real",\n "model": "{gguf.name}",\n'
        f' "versions": {json.dumps(versions())},\n "cases": [\n  {text}\n ]\n}}\n')


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", metavar="GGUF")
    parser.add_argument("--adapters", metavar="FOLDER")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    if options.real:
        real(options.real, options.adapters)
    else:
        tiny()
