//! The profile as a file: sections that `--gpu`, `--model`, `--step`, `--cold-start`, `--fleet` and `--tariff` read.
//!
//! Written by hand rather than by a serialiser, so that each number has its reason in a comment beside it.

use super::derive::Derived;
use super::measured::{Files, Measured};
use std::fmt::Write;

const MS: f64 = 1e6;

/// The file.
pub fn text(measured: &Measured, derived: &Derived) -> String {
    let mut out = format!(
        "# A hardware profile measured by `coldframe calibrate` on {}, {}: {}.\n\
         # `coldframe replay --profile THIS_FILE` takes all of it; `--gpu`, `--model`, `--step`, `--cold-start` and\n\
         # `--fleet` each take their section. The device is the CPU: \"gpu\" is the simulator's word for it.\n",
        measured.machine.device,
        measured.machine.date,
        measured.machine.how_often()
    );
    gpu(&mut out, measured);
    model(&mut out, measured, derived);
    step(&mut out, measured, derived);
    cold_start(&mut out, measured, derived);
    fleet(&mut out, measured);
    tariff(&mut out, measured);
    fits(&mut out, measured, derived);
    out
}

macro_rules! line {
    ($out:expr, $($part:tt)*) => { writeln!($out, $($part)*).expect("a string takes everything") };
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn head(out: &mut String, section: &str, name: &str, about: &str, measured: &Measured) {
    let source = format!("calibrated on {}, {}", measured.machine.device, measured.machine.date);
    line!(
        out,
        "\n[{section}]\nname = {}\nabout = {}\nsource = {}",
        quoted(name),
        quoted(about),
        quoted(&source)
    );
}

fn gpu(out: &mut String, measured: &Measured) {
    let (machine, bandwidths) = (&measured.machine, &measured.bandwidths);
    head(out, "gpu", &machine.name, &machine.device, measured);
    line!(out, "# What the device tier may hold: given, or the machine's memory.");
    line!(out, "memory_bytes = {}", machine.device_bytes);
    line!(
        out,
        "# {} threads reading at once; one alone reads {} bytes a second.",
        machine.threads,
        bandwidths.memory_alone
    );
    line!(out, "memory_bytes_per_s = {}", bandwidths.memory_contended.max(1));
    line!(out, "# {} threads copying at once: host and device memory are one memory here.", machine.threads);
    line!(out, "host_link_bytes_per_s = {}", bandwidths.copy_contended.max(1));
    line!(out, "# Not measured.\npower_w = 0");
}

fn model(out: &mut String, measured: &Measured, derived: &Derived) {
    let shape = &measured.shape;
    let source = format!("calibrated on {}, {}", measured.machine.device, measured.machine.date);
    line!(out, "\n[model]\nname = {}\nsource = {}", quoted(&shape.name), quoted(&source));
    line!(out, "layers = {}\nhidden = {}\nvocab = {}", shape.layers, shape.hidden, shape.vocab);
    line!(out, "# As the runtime holds them: packed weights, KV pages in the format given.");
    line!(out, "weight_bytes = {}\nkv_bytes_per_token = {}", shape.weight_bytes, shape.kv_bytes_per_token);
    line!(out, "# Adapters on q, k, v and o of {} ranks, loaded and measured.", measured.adapters.len());
    line!(out, "adapter_bytes_per_rank = {}", derived.adapter_bytes_per_rank.max(1));
}

fn step(out: &mut String, measured: &Measured, derived: &Derived) {
    let (machine, shape) = (&measured.machine, &measured.shape);
    let source = format!("calibrated on {}, {}", machine.device, machine.date);
    line!(out, "\n[step]\nsource = {}", quoted(&source));
    line!(
        out,
        "# Engine work outside the executor in a step of one sequence.\nhost_ps = {}",
        derived.host_ps
    );
    if !measured.serving.is_empty() {
        line!(
            out,
            "# Decode was measured behind a server, each stream under an adapter of its own: what that adds to rows is in its law."
        );
    }
    line!(out, "# What any adapter adds to a step, spread over the layers; and each token under one.");
    line!(
        out,
        "adapter_layer_ps = {}\nadapter_token_ps = {}",
        derived.adapter_layer_ps,
        derived.adapter_token_ps
    );
    if let Some(engine) = measured.engine {
        line!(
            out,
            "# One engine serves all functions; its rules are these, whatever the policy's engine has."
        );
        line!(
            out,
            "engine = {{ max_sequences = {}, max_batched_tokens = {}, prefill_quantum = {} }}",
            engine.max_sequences,
            engine.max_batched_tokens,
            engine.prefill_quantum
        );
    }
    if let Some(edge) = derived.edge {
        line!(
            out,
            "# A request's way in and its first token's way out, beside the steps; busy: where the engine has others."
        );
        line!(
            out,
            "edge = {{ request_ps = {}, busy_ps = {}, token_ps = {} }}",
            edge.request_ps,
            edge.busy_ps,
            edge.token_ps
        );
    }
    line!(out, "\n[[step.row]]\nname = {}", quoted(&format!("calibrated,{},{}", machine.name, shape.name)));
    line!(out, "gpu = {}\nmodel = {}", quoted(&machine.name), quoted(&shape.name));
    let ([pa, pb, pc], [da, db, dc]) = (derived.prefill_ps, derived.decode_ps);
    line!(out, "prefill_floor_ps = {}", derived.prefill_floor_ps);
    line!(out, "prefill_a_ps = {pa}\nprefill_b_ps = {pb}\nprefill_c_ps = {pc}");
    line!(out, "decode_a_ps = {da}\ndecode_b_ps = {db}\ndecode_c_ps = {dc}");
    let knots = derived.decode_rows_ps.0.iter().map(|[rows, ps]| format!("[{rows}, {ps}]"));
    let knots: Vec<String> = knots.collect();
    if !knots.is_empty() {
        line!(
            out,
            "# By sequences, as measured, in place of a and b; straight between, b goes on behind the last."
        );
        line!(out, "decode_rows_ps = [{}]", knots.join(", "));
    }
}

fn cold_start(out: &mut String, measured: &Measured, derived: &Derived) {
    let (backbone, bandwidths) = (&measured.backbone, &measured.bandwidths);
    head(out, "cold-start", &measured.machine.name, "what starting costs in this runtime", measured);
    match measured.sandbox {
        Some(sandbox) => {
            line!(out, "# One instance of a function's module.\ncontainer_ns = {}", sandbox.instantiate_ns);
            line!(
                out,
                "# Reading its compiled module; compiling it takes {:.1} ms, once.",
                sandbox.compile_ns as f64 / MS
            );
            line!(out, "runtime_ns = {}", sandbox.load_ns);
        }
        None => {
            line!(out, "# No module was measured: functions run in the built-in handler, in one process.");
            line!(out, "container_ns = 0\nruntime_ns = 0");
        }
    }
    line!(out, "# Functions share the process.\nruntime_bytes = 0");
    line!(out, "# Files mapped and checked, tokenizer read, everything in the page cache: nothing is moved.");
    line!(out, "# What the first step after it takes longer is part of it.");
    line!(out, "backbone_fixed_ns = {}\nbackbone_mapped = true", backbone.map_ns + derived.first_step_ns);
    if let Some(ns) = backbone.disk_ns {
        line!(out, "# (With nothing in the page cache, every page read: {:.1} ms.)", ns as f64 / MS);
    }
    adapter(out, measured, derived);
    line!(out, "# A function has no kernels of its own: the engine is there already.");
    line!(out, "kernel_ns = 0\nkernel_restore_ns = 0\nkernel_bytes = 0");
    line!(
        out,
        "# (The engine's buffers beside weights and KV: {} bytes, once.)",
        measured.shape.context_bytes
    );
    let disk = bandwidths.disk_contended.or(bandwidths.disk_alone).unwrap_or(bandwidths.copy_alone).max(1);
    if bandwidths.disk_alone.is_none() {
        line!(
            out,
            "# The page cache could not be dropped, so no disk was measured: memory's speed stands here."
        );
    }
    line!(out, "# Not measured and not used by a replay: the disk's.\nremote_bytes_per_s = {disk}");
    line!(out, "# Several readers at once, in all.\ndisk_bytes_per_s = {disk}");
    line!(
        out,
        "# One reader.\ndefault_loader_bytes_per_s = {}",
        bandwidths.disk_alone.unwrap_or(disk).max(1)
    );
    line!(out, "fast_loader_bytes_per_s = {disk}");
    line!(out, "# One thread copying memory.\nhost_bytes_per_s = {}", bandwidths.copy_alone.max(1));
}

fn adapter(out: &mut String, measured: &Measured, derived: &Derived) {
    let load = &derived.adapter;
    let about = match measured.files {
        Files::Cached => "files in the page cache",
        Files::Dropped => "files not in the page cache",
    };
    line!(out, "# From disk, {about}: a constant, and the bytes that are read, checked and packed.");
    let [constant, per_byte] = derived.adapter_disk;
    let rate = if per_byte > 0.0 { (1e9 / per_byte) as u64 } else { u64::MAX >> 1 };
    line!(out, "adapter_disk_ns = {}\nadapter_disk_bytes_per_s = {}", constant as u64, rate.max(1));
    for load in &measured.served_loads {
        let ms = load.load_ns as f64 / MS;
        line!(out, "# (Behind a server beside {} streams, {} bytes: {ms:.1} ms.)", load.rows, load.bytes);
    }
    if derived.adapter_busy > 1.0 {
        line!(out, "# Beside streams over idle.");
        line!(out, "adapter_busy_permille = {}", (derived.adapter_busy * 1000.0).round() as u64);
    }
    let other = match measured.files {
        Files::Cached => load.disk_ns,
        Files::Dropped => Some(load.memory_ns),
    };
    let not = if measured.files == Files::Cached { "not " } else { "" };
    match other {
        Some(ns) => line!(out, "# (Rank {} {not}in it: {:.1} ms.)", load.rank, ns as f64 / MS),
        None => line!(out, "# (The page cache could not be dropped: no load from disk was measured.)"),
    }
    line!(out, "# A copy kept in host memory is the one that is used: nothing is moved.");
    line!(out, "adapter_activate_ns = 0");
    let whole = (constant + per_byte * load.bytes as f64) as u64;
    line!(out, "# Policies of isolated processes: rank {}, {} bytes.", load.rank, load.bytes);
    line!(out, "adapter_fixed_ns = {whole}\nadapter_fast_ns = {whole}");
}

fn fleet(out: &mut String, measured: &Measured) {
    let machine = &measured.machine;
    head(out, "fleet", &machine.name, "this machine alone", measured);
    line!(out, "workers = 1\ngpus_per_worker = 1\ngpu = {}", quoted(&machine.name));
    line!(out, "host_memory_bytes = {}\nvcpus = {}", machine.host_bytes, machine.threads);
}

fn tariff(out: &mut String, measured: &Measured) {
    let Some(price) = measured.machine.price_nano_usd_per_s else { return };
    let name = quoted(&measured.machine.name);
    line!(out, "\n[tariff]\nname = {name}\nabout = \"the machine's price for every reserved second\"");
    line!(out, "source = \"given to coldframe calibrate\"\nseen = {}", quoted(&measured.machine.date));
    line!(out, "gpu_basis = \"reserved\"\nbill_startup = true\nbill_idle = true\nlife = \"exact\"");
    line!(out, "vcpu_nano_usd_per_s = 0\nmemory_nano_usd_per_gb_s = 0\nrequest_nano_usd = 0");
    line!(out, "\n[tariff.gpu_nano_usd_per_s]\n{name} = {price}");
}

fn fits(out: &mut String, measured: &Measured, derived: &Derived) {
    line!(out, "\n# How well the formulas fit; errors are shares. Nothing below is read by a replay.");
    for note in &derived.fits {
        line!(out, "\n[[fit]]\nwhat = {}\nformula = {}", quoted(note.what), quoted(note.formula));
        let errors = note.errors;
        line!(
            out,
            "points = {}\nmean_error = {:.4}\nworst_error = {:.4}",
            errors.points,
            errors.mean,
            errors.worst
        );
    }
    for load in &measured.adapters {
        line!(
            out,
            "\n[[adapter_load]]\nrank = {}\nbytes = {}\nfile_bytes = {}",
            load.rank,
            load.bytes,
            load.file_bytes
        );
        if let Some(ns) = load.disk_ns {
            line!(out, "disk_ns = {ns}");
        }
        line!(out, "memory_ns = {}", load.memory_ns);
    }
    line!(out, "\n[notes]");
    for (key, value) in &measured.notes {
        line!(out, "{} = {}", quoted(key), quoted(value));
    }
}
