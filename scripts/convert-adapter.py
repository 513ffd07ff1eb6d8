#!/usr/bin/env python3
"""Converts adapters of the parameter-sharing kinds to the folders that Coldframe loads (docs/adapters.md).

  convert-adapter.py adamix OUT DIR DIR [DIR ...]     PEFT LoRA folders, one per adaptation, to one AdaMix folder
  convert-adapter.py mos OUT STATE [options]          a state dict of pools and indices to a MoS folder
  convert-adapter.py chunkwise OUT DIR [options]      the chunk-wise shared LoRA of the MoS authors to plain LoRA

Needs numpy and safetensors (pip install numpy safetensors). Pickles are not opened: save state dicts with safetensors.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

TENSORS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
BESIDE = ["chat_template.jinja", "tokenizer_config.json"]


def fail(message):
    sys.exit(f"convert-adapter: {message}")


def read_tensors(path):
    """All tensors as numpy arrays; bfloat16, which numpy has not, becomes float32 with the same values."""
    if not path.exists():
        fail(f"{path} is missing")
    with safe_open(str(path), framework="np") as file:
        types = {name: file.get_slice(name).get_dtype() for name in file.keys()}
    if "BF16" not in types.values():
        return load_file(str(path))
    return read_bfloat16(path, types)


def read_bfloat16(path, types):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "I64": "<i8"}
    tensors = {}
    for name, kind in types.items():
        if kind not in kinds:
            fail(f"{path}: {name} is {kind}, expected one of {', '.join(kinds)}")
        first, last = header[name]["data_offsets"]
        flat = numpy.frombuffer(data[start + first : start + last], kinds[kind])
        if kind == "BF16":
            flat = (flat.astype("<u4") << 16).view("<f4")
        tensors[name] = flat.reshape(header[name]["shape"])
    return tensors


def read_config(folder):
    path = folder / CONFIG
    if not path.exists():
        fail(f"{path} is missing")
    return json.loads(path.read_text())


def write(out, config, tensors, beside=None):
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: numpy.ascontiguousarray(tensor) for name, tensor in tensors.items()}, str(out / TENSORS))
    for name in BESIDE:
        if beside and (beside / name).exists():
            shutil.copyfile(beside / name, out / name)
    print(f"{out}: {len(tensors)} tensors, {(out / TENSORS).stat().st_size} bytes", file=sys.stderr)


def adamix(args):
    """Numbers the matrices of the folders; what is bit-identical in all of them (a shared half) is kept once."""
    folders = [Path(folder) for folder in args.folders]
    configs = [read_config(folder) for folder in folders]
    same = ["r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"]
    for folder, config in zip(folders, configs):
        if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("lora_bias"):
            fail(f"{folder}: only plain LoRA can be averaged")
        for key in same:
            if config.get(key) != configs[0].get(key):
                fail(f"{folder}: {key} is {config.get(key)!r}, the first folder has {configs[0].get(key)!r}")
    states = [read_tensors(folder / TENSORS) for folder in folders]
    names = set(states[0])
    for folder, state in zip(folders, states):
        if set(state) != names:
            fail(f"{folder}: has other tensors than the first folder, {sorted(set(state) ^ names)[:5]}")
    tensors = {}
    for name in sorted(names):
        found = re.fullmatch(r"(.*\.lora_[AB])(?:\.default)?\.weight", name)
        if not found:
            fail(f"{name} is no matrix of a linear layer's LoRA")
        versions = [state[name] for state in states]
        if all(numpy.array_equal(versions[0], version) for version in versions[1:]):
            versions = versions[:1]
        for number, version in enumerate(versions):
            tensors[f"{found[1]}.{number}.weight"] = version
    config = dict(configs[0], peft_type="ADAMIX", adaptations=len(folders))
    write(Path(args.out), config, tensors, folders[0])


def mos(args):
    """Renames pools and indices, and checks that the indices lie in the pools."""
    state = read_tensors(Path(args.state))
    kinds, tensors, shards = set(), {}, None
    patterns = {
        role: re.compile(template.replace(".", r"\.").replace("{kind}", r"(?P<kind>\w+_proj)").replace("{path}", r"(?P<path>.+)"))
        for role, template in [
            ("pool_A", args.pool_a), ("pool_B", args.pool_b), ("index_A", args.index_a), ("index_B", args.index_b),
        ]
    }
    for name, tensor in state.items():
        role, found = next(((role, m) for role, p in patterns.items() if (m := p.fullmatch(name))), (None, None))
        if role is None:
            fail(f"{name} fits none of --pool-a, --pool-b, --index-a, --index-b")
        if role.startswith("pool"):
            kinds.add(found["kind"])
            tensors[f"mos.{found['kind']}.{role}"] = tensor
            continue
        if tensor.ndim != 2:
            fail(f"{name} has shape {tensor.shape}, expected [rank, shards per vector]")
        if not numpy.equal(tensor, numpy.floor(tensor)).all():
            fail(f"{name} holds numbers that are no indices")
        if (shards := shards or tensor.shape[1]) != tensor.shape[1]:
            fail(f"{name} has {tensor.shape[1]} shards a vector, others {shards}")
        path = found["path"].removeprefix(PREFIX)
        tensors[f"{path}.{role}"] = tensor.astype(numpy.int32)
    indices = [name for name in tensors if ".index_" in name]
    if not indices:
        fail("no tensor fits --index-a or --index-b")
    for name in indices:
        path, side = name.rsplit(".index_", 1)
        pool = tensors.get(f"mos.{path.rsplit('.', 1)[-1]}.pool_{side}")
        if pool is None:
            fail(f"{name} has no pool of its kind")
        if tensors[name].min() < 0 or tensors[name].max() >= len(pool):
            fail(f"{name} picks shards outside its pool of {len(pool)}")
    ranks = {len(tensors[name]) for name in indices}
    if len(ranks) != 1:
        fail(f"ranks differ: {sorted(ranks)}")
    config = {
        "peft_type": "MOS",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": args.base,
        "r": ranks.pop(),
        "lora_alpha": args.alpha,
        "shards_per_vector": shards,
        "target_modules": sorted(kinds),
    }
    write(Path(args.out), config, tensors)


def widen(chunk, scales, rotate, size):
    """Rows of the full matrix from their chunk: copy j of row i is row i (i + j if rotated) times scales[i, j]."""
    rows, copies = len(chunk), scales.shape[1]
    parts = []
    for copy in range(copies):
        picked = chunk[(numpy.arange(rows) + copy) % rows] if rotate else chunk
        parts.append(picked * scales[:, copy : copy + 1])
    return numpy.concatenate(parts, axis=1)[:, :size]


def chunkwise(args):
    """Widens `lora_A`, `lora_B` by `lora_A_vec`, `lora_B_vec` to plain LoRA, in float32."""
    folder = Path(args.folder)
    config, state = read_config(folder), read_tensors(folder / TENSORS)
    rotate = bool(config.get("enable_lora_rotation"))
    sizes = dict(pair.split("=") for pair in args.size)
    tensors = {}
    for name, tensor in state.items():
        if re.search(r"\.lora_[AB]_vec$", name):
            continue
        found = re.fullmatch(r"(.*\.(\w+)\.lora_([AB]))\.weight", name)
        if not found or f"{found[1]}_vec" not in state:
            fail(f"{name} has no _vec beside it")
        side = found[3]
        chunk = tensor.astype(numpy.float32) if side == "A" else tensor.astype(numpy.float32).T
        scales = state[f"{found[1]}_vec"].astype(numpy.float32)
        if scales.ndim != 2 or len(scales) != len(chunk):
            fail(f"{found[1]}_vec has shape {scales.shape}, expected [{len(chunk)}, copies]")
        size = int(sizes.get(f"{found[2]}.{side}", chunk.shape[1] * scales.shape[1]))
        full = widen(chunk, scales, rotate, size)
        tensors[name] = full if side == "A" else full.T
    own = re.compile(r"enable_lora_(vec|bias|rotation)|reduce_lora_[AB]_x|init2zero_via_vec")
    config = {key: value for key, value in config.items() if not own.fullmatch(key)}
    write(Path(args.out), config, tensors, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("adamix", help="PEFT LoRA folders, one per adaptation")
    one.add_argument("out")
    one.add_argument("folders", nargs="+")
    one.set_defaults(run=adamix)
    two = kinds.add_parser("mos", help="a safetensors file of pools and indices")
    two.add_argument("out")
    two.add_argument("state")
    two.add_argument("--alpha", type=float, required=True, help="lora_alpha of the training")
    two.add_argument("--base", help="name of the base model")
    two.add_argument("--pool-a", default="pools.{kind}.A", help="name of A's pool (default: %(default)s)")
    two.add_argument("--pool-b", default="pools.{kind}.B", help="name of B's pool (default: %(default)s)")
    two.add_argument("--index-a", default="{path}.index_A", help="name of a module's A index (default: %(default)s)")
    two.add_argument("--index-b", default="{path}.index_B", help="name of a module's B index (default: %(default)s)")
    two.set_defaults(run=mos)
    three = kinds.add_parser("chunkwise", help="chunk-wise shared LoRA")
    three.add_argument("out")
    three.add_argument("folder")
    three.add_argument(
        "--size", action="append", default=[], metavar="MODULE.SIDE=N",
        help="true size of a dimension that the chunks overshoot, e.g. down_proj.A=11008",
    )
    three.set_defaults(run=chunkwise)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
