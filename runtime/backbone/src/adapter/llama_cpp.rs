//! Plans for llama.cpp's adapters: one GGUF file with `general.type` = `adapter`.
//!
//! llama.cpp stores the rows of `attn_q` and `attn_k` of its `llama` architecture interleaved for its RoPE; the plan
//! undoes that, so that everything behind it knows one order. Its scale is alpha / r with the tensor's own rank, or 1
//! where alpha is 0 (`llama_adapter_lora_weight::get_scale`).

use super::config::name;
use super::limits::{Findings, Limits};
use super::names::sites;
use super::plan::{Fill, Plan, SitePlan, rank_in_bounds, some_of, stored_shapes, weight};
use super::tensors::Tensor;
use crate::gguf::Gguf;
use crate::model::{Family, ModelConfig};
use crate::site::{Module, Site};
use std::collections::HashMap;

/// What the metadata says.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    alpha: f64,
    interleaved: bool,
    /// Name of the base, where the file has one.
    pub base: Option<String>,
}

/// Reads the metadata; `None` where the file is no adapter for this family.
pub(crate) fn metadata(
    gguf: &Gguf,
    model: &ModelConfig,
    limits: &Limits,
    findings: &mut Findings,
) -> Option<Metadata> {
    let mut expect = |key: &str, wanted: &str| {
        let found = gguf.text(key).unwrap_or("nothing");
        if found != wanted {
            findings.invalid(key, format!("is {}, expected {wanted}", name(found)));
        }
        found == wanted
    };
    let (typed, lora) = (expect("general.type", "adapter"), expect("adapter.type", "lora"));
    if !typed || !lora {
        return None;
    }
    if gguf.get("adapter.alora.invocation_tokens").is_some() {
        findings
            .invalid("adapter.alora.invocation_tokens", "activated LoRA is not served; train a plain LoRA");
    }
    let architecture = gguf.text("general.architecture").unwrap_or("nothing");
    if architecture != architecture_of(model.family) {
        let problem = format!("is {}, the base is {}", name(architecture), architecture_of(model.family));
        findings.incompatible("general.architecture", problem);
    }
    let alpha =
        gguf.float("adapter.lora.alpha").filter(|alpha| alpha.is_finite() && alpha.abs() <= limits.alpha_max);
    if alpha.is_none() {
        findings.invalid("adapter.lora.alpha", format!("expected a number of at most {}", limits.alpha_max));
    }
    let base = gguf.text("general.base_model.0.name").map(str::to_owned);
    Some(Metadata { alpha: alpha?, interleaved: architecture == "llama", base })
}

fn architecture_of(family: Family) -> &'static str {
    match family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::Gemma3 => "gemma3",
    }
}

/// Makes the plan; what stands in the way goes to `findings`.
pub(crate) fn plan(
    metadata: &Metadata,
    model: &ModelConfig,
    tensors: &[Tensor],
    limits: &Limits,
    findings: &mut Findings,
) -> Plan {
    let mut by_name: HashMap<&str, usize> =
        tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
    let mut plan = Plan { kind: "gguf", ..Plan::default() };
    for site in sites(model) {
        let full = format!("{}.weight", site.gguf_name());
        let mut take = |suffix: &str| by_name.remove(format!("{full}.{suffix}").as_str());
        match (take("lora_a"), take("lora_b")) {
            (None, None) => {}
            (Some(a), Some(b)) => pair(metadata, model, tensors, limits, findings, &mut plan, site, (a, b)),
            (a, _) => {
                let lacks = if a.is_some() { "lora_b" } else { "lora_a" };
                findings.invalid(full, format!("has no {lacks}; the file is not whole, convert it again"));
            }
        }
    }
    let mut left: Vec<String> = by_name.into_keys().map(str::to_owned).collect();
    left.sort();
    if !left.is_empty() {
        let problem =
            format!("{} left over: {}; nothing of this backbone takes them", left.len(), some_of(&left));
        findings.invalid("tensors", problem);
    }
    plan
}

#[expect(clippy::too_many_arguments, reason = "one call, all of the plan's state")]
fn pair(
    metadata: &Metadata,
    model: &ModelConfig,
    tensors: &[Tensor],
    limits: &Limits,
    findings: &mut Findings,
    plan: &mut Plan,
    site: Site,
    (a, b): (usize, usize),
) {
    let (tensor_a, tensor_b) = (&tensors[a], &tensors[b]);
    let (out, input) = model.shape(site);
    // For the embedding A comes transposed, so that a token's row is contiguous: as it is stored here too.
    let rank = match (site, tensor_a.shape.as_slice()) {
        (Site::Embed, &[_, rank]) | (_, &[rank, _]) => rank,
        _ => 0,
    };
    if !rank_in_bounds(rank, &name(&tensor_a.name), limits, findings) {
        return;
    }
    let (shape_a, shape_b) = match site {
        Site::Embed => ([out, rank], [input, rank]),
        _ => ([rank, input], [out, rank]),
    };
    for (tensor, shape) in [(tensor_a, shape_a), (tensor_b, shape_b)] {
        if tensor.shape != shape {
            let problem = format!("has shape {:?}, expected {shape:?} for this base", tensor.shape);
            return findings.incompatible(name(&tensor.name), problem);
        }
    }
    let (Some(dtype_a), Some(dtype_b)) = (weight(tensor_a, findings), weight(tensor_b, findings)) else {
        return;
    };
    let rotated = metadata.interleaved && matches!(site, Site::Block(_, Module::Q | Module::K));
    let interleaved = rotated.then_some(model.head_dim);
    let (stored_a, stored_b) = stored_shapes(model, site, rank);
    let a = plan.matrix(dtype_a, stored_a, Fill::Rows(a));
    let b = plan.matrix(dtype_b, stored_b, Fill::Columns { tensor: b, interleaved });
    // The factor is stored as f32, as kernels use it.
    let scale = if metadata.alpha == 0.0 { 1.0 } else { (metadata.alpha / rank as f64) as f32 };
    plan.sites.push(SitePlan { site, rank, scale, a, b, magnitude: None, bias: None });
}
