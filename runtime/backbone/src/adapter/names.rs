//! Names of tensors and modules in PEFT's files.
//!
//! A path is compared as a whole: comparing its last component only is how adapters of other models slip in.

use super::pattern::ends_with_component;
use crate::model::ModelConfig;
use crate::site::{Module, Site};
use std::collections::HashMap;

/// What PEFT puts before a module's path when it saves.
const PREFIX: &str = "base_model.model.";

/// What a tensor is for at its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// `lora_A`, `[r, in]`.
    A,
    /// `lora_B`, `[out, r]`.
    B,
    /// `lora_B.bias`, `[out]`.
    Bias,
    /// `lora_embedding_A`, `[r, vocab]`.
    EmbeddingA,
    /// `lora_embedding_B`, `[width, r]`.
    EmbeddingB,
    /// `lora_magnitude_vector`, `[out]`.
    Magnitude,
    /// A full matrix in the module's place.
    Full,
    /// A full matrix under an adapted module: the base's own, saved along.
    Base,
}

/// A tensor's module path and part, or `None` for names that PEFT does not write. `adapter` is the name that the
/// adapter was saved under, beside `default`.
pub(crate) fn parse<'a>(name: &'a str, adapter: Option<&str>) -> Option<(&'a str, Part)> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    for (marker, is_full) in [
        (".lora_A", false),
        (".lora_B", false),
        (".lora_embedding_A", false),
        (".lora_embedding_B", false),
        (".lora_magnitude_vector", false),
        (".modules_to_save", true),
        (".base_layer", true),
    ] {
        let Some((path, tail)) = name.split_once(marker) else { continue };
        let tail = without_adapter(tail, adapter);
        let part = match (marker, tail) {
            (".lora_A", ".weight") => Part::A,
            (".lora_B", ".weight") => Part::B,
            (".lora_B", ".bias") => Part::Bias,
            (".lora_embedding_A", "") => Part::EmbeddingA,
            (".lora_embedding_B", "") => Part::EmbeddingB,
            (".lora_magnitude_vector", "" | ".weight") => Part::Magnitude,
            (".modules_to_save", ".weight") if is_full => Part::Full,
            (".base_layer", ".weight") if is_full => Part::Base,
            _ => return None,
        };
        return Some((path, part));
    }
    name.strip_suffix(".weight").map(|path| (path, Part::Full))
}

/// `.default.weight` is `.weight`.
fn without_adapter<'a>(tail: &'a str, adapter: Option<&str>) -> &'a str {
    let names = [Some("default"), adapter];
    let stripped = |name: &str| {
        tail.strip_prefix('.')?.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    names.into_iter().flatten().find_map(stripped).unwrap_or(tail)
}

/// An AdaMix tensor's module path, part and number of its adaptation: `<path>.lora_A.<i>.weight`.
pub(crate) fn parse_adamix(name: &str) -> Option<(&str, Part, usize)> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name).strip_suffix(".weight")?;
    let (rest, number) = name.rsplit_once('.')?;
    let part = if rest.ends_with(".lora_A") { Part::A } else { Part::B };
    let path = rest.strip_suffix(".lora_A").or_else(|| rest.strip_suffix(".lora_B"))?;
    // Leading zeros and signs would give one number two names.
    let plain =
        number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    plain.then(|| number.parse().ok().map(|number| (path, part, number))).flatten()
}

/// The site that `modules_to_save` may name.
pub(crate) fn saved_site(module: &str) -> Option<Site> {
    [Site::Embed, Site::Head]
        .into_iter()
        .find(|site| !module.is_empty() && ends_with_component(&site.hf_path(), module))
}

/// Paths of all sites of a model.
#[derive(Debug)]
pub(crate) struct Paths {
    by_path: HashMap<String, Site>,
    headless: bool,
}

impl Paths {
    /// `headless` drops the leading `model.`, as PEFT sees a bare `AutoModel`.
    pub fn new(model: &ModelConfig, headless: bool) -> Self {
        let mut paths = Self { by_path: HashMap::new(), headless };
        for site in sites(model) {
            paths.by_path.insert(paths.of(site), site);
        }
        paths
    }

    /// The path of a site.
    pub fn of(&self, site: Site) -> String {
        let path = site.hf_path();
        match path.strip_prefix("model.") {
            Some(rest) if self.headless => rest.to_owned(),
            _ => path,
        }
    }

    /// The site at a path.
    pub fn site(&self, path: &str) -> Option<Site> {
        self.by_path.get(path).copied()
    }

    /// The layer that a path means where the model has not that many.
    pub fn layer_beyond(&self, path: &str, layers: usize) -> Option<usize> {
        let start = if self.headless { "layers." } else { "model.layers." };
        let (layer, module) = path.strip_prefix(start)?.split_once('.')?;
        let known = Module::ALL.iter().any(|known| known.hf_path() == module);
        layer.parse().ok().filter(|&layer| known && layer >= layers)
    }
}

/// All sites of a model, in the order of [`Site`].
pub(crate) fn sites(model: &ModelConfig) -> impl Iterator<Item = Site> {
    let layers = u32::try_from(model.layers).unwrap_or(u32::MAX);
    (0..layers)
        .flat_map(|layer| Module::ALL.into_iter().map(move |module| Site::Block(layer, module)))
        .chain([Site::Embed, Site::Head])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_prefix_and_adapter() {
        let q = "model.layers.0.self_attn.q_proj";
        for (tail, part) in [
            (".lora_A.weight", Part::A),
            (".lora_A.default.weight", Part::A),
            (".lora_B.mine.weight", Part::B),
            (".lora_B.bias", Part::Bias),
            (".lora_magnitude_vector", Part::Magnitude),
            (".lora_magnitude_vector.default.weight", Part::Magnitude),
            (".lora_embedding_A.default", Part::EmbeddingA),
            (".base_layer.weight", Part::Base),
            (".modules_to_save.default.weight", Part::Full),
            (".weight", Part::Full),
        ] {
            for prefix in ["", PREFIX] {
                assert_eq!(
                    parse(&format!("{prefix}{q}{tail}"), Some("mine")),
                    Some((q, part)),
                    "{prefix}{tail}"
                );
            }
        }
        for bad in
            [".lora_A.bias", ".lora_A.other.weight", ".lora_A.weight.weight", ".lora_C.bias", ".lora_Aweight"]
        {
            assert_eq!(parse(&format!("{q}{bad}"), Some("mine")), None, "{bad}");
        }
    }

    #[test]
    fn adamix_numbers_are_plain() {
        assert_eq!(parse_adamix("base_model.model.lm_head.lora_B.3.weight"), Some(("lm_head", Part::B, 3)));
        for bad in ["x.lora_A.weight", "x.lora_A.01.weight", "x.lora_A.+1.weight", "x.lora_C.1.weight"] {
            assert_eq!(parse_adamix(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_embedding_and_head_are_saved() {
        assert_eq!(saved_site("lm_head"), Some(Site::Head));
        assert_eq!(saved_site("model.embed_tokens"), Some(Site::Embed));
        assert_eq!(saved_site("tokens"), None);
        assert_eq!(saved_site("norm"), None);
        assert_eq!(saved_site(""), None);
    }
}
