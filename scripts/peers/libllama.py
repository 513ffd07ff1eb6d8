"""llama.cpp's C interface through ctypes: just enough to time it and to read its logits.

The layouts are those of llama.cpp v0.5.0 (include/llama.h), which npm's @node-llama-cpp/linux-x64 3.22.1 carries built
for a dozen CPUs; ggml picks the best at run time. A thread pool is attached, as llama-bench does.
"""

import ctypes as c
import re
from pathlib import Path

POINTER = c.c_void_p


class ModelParams(c.Structure):
    _fields_ = [
        ("devices", POINTER), ("tensor_buft_overrides", POINTER), ("n_gpu_layers", c.c_int32), ("split_mode", c.c_int),
        ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32), ("tensor_split", POINTER),
        ("progress_callback", POINTER), ("progress_callback_user_data", POINTER), ("kv_overrides", POINTER),
        ("vocab_only", c.c_bool), ("check_tensors", c.c_bool), ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool),
        ("no_alloc", c.c_bool), ("load_mtp", c.c_bool),
    ]


class ContextParams(c.Structure):
    _fields_ = (
        [(name, c.c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max",
                                         "n_outputs_max_per_seq")]
        + [(name, c.c_int32) for name in ("n_threads", "n_threads_batch")]
        + [(name, c.c_int) for name in ("ctx_type", "rope_scaling_type", "pooling_type", "attention_type",
                                        "flash_attn_type")]
        + [(name, c.c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor",
                                          "yarn_beta_fast", "yarn_beta_slow")]
        + [("yarn_orig_ctx", c.c_uint32), ("defrag_thold", c.c_float), ("cb_eval", POINTER),
           ("cb_eval_user_data", POINTER), ("type_k", c.c_int), ("type_v", c.c_int), ("abort_callback", POINTER),
           ("abort_callback_data", POINTER)]
        + [(name, c.c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")]
        + [("samplers", POINTER), ("n_samplers", c.c_size_t), ("ctx_other", POINTER)]
    )


class Batch(c.Structure):
    _fields_ = [
        ("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", POINTER), ("pos", c.POINTER(c.c_int32)),
        ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8)),
    ]


SILENT = c.CFUNCTYPE(None, c.c_int, c.c_char_p, POINTER)(lambda level, text, data: None)
RESULTS = {
    "llama_model_default_params": ModelParams, "llama_context_default_params": ContextParams,
    "llama_model_load_from_file": POINTER, "llama_init_from_model": POINTER, "llama_get_memory": POINTER,
    "llama_batch_init": Batch, "llama_get_logits_ith": c.POINTER(c.c_float), "llama_adapter_lora_init": POINTER,
    "llama_model_get_vocab": POINTER, "llama_decode": c.c_int32, "llama_memory_clear": None, "llama_free": None,
    "llama_log_set": None, "llama_attach_threadpool": None, "llama_set_adapters_lora": c.c_int32,
    "llama_vocab_n_tokens": c.c_int32, "llama_synchronize": None,
}


class Llama:
    """A model on `threads` threads."""

    def __init__(self, folder, model, threads):
        folder = Path(folder)
        load = lambda pattern: c.CDLL(str(next(folder.glob(pattern))), mode=c.RTLD_GLOBAL)
        self.base, self.ggml, self.lib = load("libggml-base.so"), load("libggml.v*.so"), load("libllama.v*.so")
        for name, result in RESULTS.items():
            getattr(self.lib, name).restype = result
        self.lib.llama_log_set(SILENT, None)
        self.base.ggml_log_set(SILENT, None)
        self.ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.lib.llama_backend_init()
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = self.lib.llama_model_load_from_file(str(model).encode(), params)
        assert self.model, f"llama.cpp does not load {model}"
        self.model = POINTER(self.model)
        self.vocab = self.lib.llama_vocab_n_tokens(POINTER(self.lib.llama_model_get_vocab(self.model)))
        self.threads = threads
        self.variant = re.search(r"libggml-cpu-(\w+)\.so", Path("/proc/self/maps").read_text()).group(1)
        self.pool = self._pool(folder)

    def _pool(self, folder):
        cpu = c.CDLL(str(folder / f"libggml-cpu-{self.variant}.so"))
        params = (c.c_char * 1024)()
        self.base.ggml_threadpool_params_init(params, self.threads)
        cpu.ggml_threadpool_new.restype = POINTER
        return POINTER(cpu.ggml_threadpool_new(params))

    def adapter(self, path):
        adapter = self.lib.llama_adapter_lora_init(self.model, str(path).encode())
        assert adapter, f"llama.cpp does not load {path}"
        return adapter

    def context(self, sequences=1, length=1024, batch=512, exact_kv=False):
        return Context(self, sequences, length, batch, exact_kv)


class Context:
    """A KV cache for some sequences; `length` tokens in all; f16 as llama.cpp has it unless told, or exact (f32)."""

    def __init__(self, llama, sequences, length, batch, exact_kv):
        self.llama, self.lib = llama, llama.lib
        params = self.lib.llama_context_default_params()
        assert params.n_batch == 2048 and params.n_ubatch == 512, "another llama.h than v0.5.0's"
        params.n_ctx, params.n_batch, params.n_ubatch = length, max(batch, 512), max(batch, 512)
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = llama.threads
        params.no_perf = True
        if exact_kv:
            # Type 0 is f32; flash attention rounds to f16 on its way.
            params.type_k = params.type_v = params.flash_attn_type = 0
        self.handle = POINTER(self.lib.llama_init_from_model(llama.model, params))
        assert self.handle, "llama.cpp makes no context"
        self.lib.llama_attach_threadpool(self.handle, llama.pool, llama.pool)
        self.memory = POINTER(self.lib.llama_get_memory(self.handle))
        self.batch = self.lib.llama_batch_init(max(batch, sequences), 0, 1)

    def clear(self):
        self.lib.llama_memory_clear(self.memory, c.c_bool(False))

    def use(self, adapter):
        """Puts the whole context under one adapter, or none."""
        handles, scales = (POINTER * 1)(adapter), (c.c_float * 1)(1.0)
        count = c.c_size_t(0 if adapter is None else 1)
        assert self.lib.llama_set_adapters_lora(self.handle, handles, count, scales) == 0

    def decode(self, rows):
        """Advances by `rows` of (token, position, sequence, whether logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.logits[index] = 1, wanted
            batch.seq_id[index][0] = sequence
        assert self.lib.llama_decode(self.handle, batch) == 0, "llama_decode failed"
        self.lib.llama_synchronize(self.handle)

    def prompt(self, ids, sequence=0, every=False):
        last = len(ids) - 1
        self.decode([(token, at, sequence, every or at == last) for at, token in enumerate(ids)])

    def logits(self, row):
        import numpy

        values = self.lib.llama_get_logits_ith(self.handle, c.c_int32(row))
        return numpy.ctypeslib.as_array(values, (self.llama.vocab,)).copy()

    def free(self):
        self.lib.llama_free(self.handle)
