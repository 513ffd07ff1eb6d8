//! Plans for PEFT folders, and for AdaMix folders, which differ in having each matrix several times.

use super::Dtype;
use super::config::{Config, Method, name};
use super::limits::{Findings, Limits};
use super::names::{Part, Paths, parse, parse_adamix, saved_site, sites};
use super::plan::{Fill, FullPlan, Plan, SitePlan, outputs, rank_in_bounds, some_of, stored_shapes, weight};
use super::tensors::Tensor;
use crate::model::ModelConfig;
use crate::site::Site;
use std::collections::BTreeMap;

/// Tensors of one site, by part; several of one part in AdaMix.
type Parts = BTreeMap<Part, BTreeMap<usize, usize>>;

/// Makes the plan; what stands in the way goes to `findings`.
pub(crate) fn plan(
    config: &Config,
    model: &ModelConfig,
    tensors: &[Tensor],
    adapter: Option<&str>,
    limits: &Limits,
    findings: &mut Findings,
) -> Plan {
    let paths = Paths::new(model, config.headless());
    let kind = match (config.method, config.dora, config.rslora) {
        (Method::AdaMix, ..) => "adamix",
        (_, true, _) => "dora",
        (_, _, true) => "rslora",
        _ => "lora",
    };
    let plan = Plan { kind, ..Plan::default() };
    let mut planner =
        Planner { config, model, tensors, limits, findings, paths, plan, leftovers: Vec::new() };
    let mut groups = planner.group(adapter);
    let (mut missing, mut stray) = (Vec::new(), Vec::new());
    for site in sites(model) {
        let parts = groups.remove(&site).unwrap_or_default();
        planner.full(site, &parts, &mut missing);
        let path = planner.paths.of(site);
        let targeted = config.targets.contain(&path, matches!(site, Site::Block(..)));
        let low_rank = parts.keys().any(|part| !matches!(part, Part::Full | Part::Base));
        match (targeted, low_rank) {
            (true, true) => planner.site(site, &path, parts),
            (true, false) => missing.push(path),
            (false, true) => stray.push(path),
            (false, false) => {}
        }
    }
    planner.report(&missing, &stray);
    planner.plan
}

struct Planner<'a> {
    config: &'a Config,
    model: &'a ModelConfig,
    tensors: &'a [Tensor],
    limits: &'a Limits,
    findings: &'a mut Findings,
    paths: Paths,
    plan: Plan,
    leftovers: Vec<String>,
}

impl Planner<'_> {
    /// Sorts the tensors by site and part.
    fn group(&mut self, adapter: Option<&str>) -> BTreeMap<Site, Parts> {
        let mut groups: BTreeMap<Site, Parts> = BTreeMap::new();
        let mut deepest = None;
        for (index, tensor) in self.tensors.iter().enumerate() {
            let numbered = parse_adamix(&tensor.name).filter(|_| self.config.method == Method::AdaMix);
            let parsed = match (self.config.method, parse(&tensor.name, adapter)) {
                (Method::AdaMix, Some((path, part @ (Part::Full | Part::Base)))) if numbered.is_none() => {
                    Some((path, part, 0))
                }
                (Method::AdaMix, _) => numbered,
                (_, parsed) => parsed.map(|(path, part)| (path, part, 0)),
            };
            let Some((path, part, number)) = parsed else {
                self.leftovers.push(tensor.name.clone());
                continue;
            };
            let Some(site) = self.paths.site(path) else {
                match self.paths.layer_beyond(path, self.model.layers) {
                    Some(layer) => deepest = deepest.max(Some((layer, tensor.name.clone()))),
                    None => self.leftovers.push(tensor.name.clone()),
                }
                continue;
            };
            if groups.entry(site).or_default().entry(part).or_default().insert(number, index).is_some() {
                self.findings.invalid(name(&tensor.name), "is there under two names of the same tensor");
            }
        }
        if let Some((layer, tensor)) = deepest {
            let problem = format!("is for layer {layer}, the base has {} layers", self.model.layers);
            self.findings.incompatible(name(&tensor), problem);
        }
        groups
    }

    /// A replacement of the embedding or the head.
    fn full(&mut self, site: Site, parts: &Parts, missing: &mut Vec<String>) {
        let saved = self.config.targets.saved.iter().any(|module| saved_site(module) == Some(site));
        let found = [Part::Full, Part::Base].iter().find_map(|part| parts.get(part)?.get(&0));
        let Some(&index) = found else {
            if saved {
                missing.push(self.paths.of(site));
            }
            return;
        };
        let tensor = &self.tensors[index];
        if matches!(site, Site::Block(..)) {
            return self.leftovers.push(tensor.name.clone());
        }
        let (rows, columns) = self.model.shape(site);
        if tensor.shape != [rows, columns] {
            let problem = format!(
                "has shape {:?}, the base [{rows}, {columns}]; a resized vocabulary needs a base of that size",
                tensor.shape
            );
            return self.findings.incompatible(name(&tensor.name), problem);
        }
        let Some(dtype) = weight(tensor, self.findings) else { return };
        let matrix = self.plan.matrix(dtype, (rows, columns), Fill::Rows(index));
        let with_head = site == Site::Embed && self.model.tied && !saved;
        self.plan.full.push(FullPlan { site, matrix, with_head });
    }

    /// A low-rank change.
    fn site(&mut self, site: Site, path: &str, mut parts: Parts) {
        parts.remove(&Part::Full);
        parts.remove(&Part::Base);
        let (part_a, part_b) = match (site, self.config.method) {
            (Site::Embed, Method::Lora) => (Part::EmbeddingA, Part::EmbeddingB),
            _ => (Part::A, Part::B),
        };
        let rank = self.config.rank_of(path);
        let a = self.matrix(site, rank, true, parts.remove(&part_a), path);
        let b = self.matrix(site, rank, false, parts.remove(&part_b), path);
        let magnitude =
            self.vector(site, self.config.dora, parts.remove(&Part::Magnitude), path, "magnitude vector");
        // PEFT's embedding layers have no bias on B.
        let biased = self.config.bias && site != Site::Embed;
        let bias = self.vector(site, biased, parts.remove(&Part::Bias), path, "lora_B.bias");
        for index in parts.values().flat_map(BTreeMap::values) {
            self.leftovers.push(self.tensors[*index].name.clone());
        }
        // The factor is stored as f32, as kernels use it.
        let scale = self.config.scale_of(path) as f32;
        if let (Some(a), Some(b), Some(magnitude), Some(bias)) = (a, b, magnitude, bias) {
            let (shape_a, shape_b) = stored_shapes(self.model, site, rank);
            let a = self.plan.matrix(a.0, shape_a, a.1);
            let b = self.plan.matrix(b.0, shape_b, b.1);
            let count = outputs(self.model, site);
            let magnitude = magnitude.map(|index| (index, self.plan.vector(count)));
            let bias = bias.map(|index| (index, self.plan.vector(count)));
            self.plan.sites.push(SitePlan { site, rank, scale, a, b, magnitude, bias });
        }
    }

    /// Type and source of A (`first`) or B; `None` after a finding.
    fn matrix(
        &mut self,
        site: Site,
        rank: usize,
        first: bool,
        found: Option<BTreeMap<usize, usize>>,
        path: &str,
    ) -> Option<(Dtype, Fill)> {
        let which = if first { "lora_A" } else { "lora_B" };
        let Some(found) = found else {
            self.findings.invalid(path, format!("has no {which}; the file is not whole, save it again"));
            return None;
        };
        let (out, input) = self.model.shape(site);
        let expected = match (site, first) {
            (Site::Embed, true) => [rank, out],
            (Site::Embed, false) => [input, rank],
            (_, true) => [rank, input],
            (_, false) => [out, rank],
        };
        for &index in found.values() {
            self.shape(&self.tensors[index], expected, first)?;
        }
        let dtypes: Option<Vec<_>> =
            found.values().map(|&index| weight(&self.tensors[index], self.findings)).collect();
        let transposed = !first || site == Site::Embed;
        if self.config.method == Method::AdaMix {
            return self.mean(found, which, path, transposed);
        }
        let tensor = *found.values().next()?;
        let fill = if transposed { Fill::Columns { tensor, interleaved: None } } else { Fill::Rows(tensor) };
        Some((*dtypes?.first()?, fill))
    }

    /// All adaptations of a matrix, or the one that is shared.
    fn mean(
        &mut self,
        found: BTreeMap<usize, usize>,
        which: &str,
        path: &str,
        transposed: bool,
    ) -> Option<(Dtype, Fill)> {
        let wanted = self.config.adaptations;
        let whole = found.len() == wanted && found.keys().eq((0..wanted).collect::<Vec<_>>().iter());
        let shared = found.len() == 1 && found.contains_key(&0);
        if !whole && !shared {
            let numbers: Vec<_> = found.keys().take(20).collect();
            let problem = format!("has {which} number {numbers:?}; expected 0 to {} or 0 alone", wanted - 1);
            self.findings.invalid(path, problem);
            return None;
        }
        let fill = Fill::Mean { tensors: found.into_values().collect(), transposed };
        // The mean of 16-bit numbers is none: kept as f32, so that merging adds no rounding.
        Some((Dtype::F32, fill))
    }

    /// Checks a matrix: the rank against the configuration, the other dimension against the base.
    fn shape(&mut self, tensor: &Tensor, expected: [usize; 2], first: bool) -> Option<()> {
        let place = name(&tensor.name);
        let &[rows, columns] = tensor.shape.as_slice() else {
            let problem = format!("has shape {:?}, expected a matrix", tensor.shape);
            self.findings.invalid(place, problem);
            return None;
        };
        let ((rank, size), (rank_expected, size_expected)) = match first {
            true => ((rows, columns), (expected[0], expected[1])),
            false => ((columns, rows), (expected[1], expected[0])),
        };
        if !rank_in_bounds(rank, &place, self.limits, self.findings) {
            return None;
        }
        if size != size_expected {
            let problem = format!("has dimension {size} where the base has {size_expected}");
            self.findings.incompatible(place, problem);
            return None;
        }
        if rank != rank_expected {
            let problem = format!("has rank {rank}, the configuration says {rank_expected}");
            self.findings.invalid(place, problem);
            return None;
        }
        Some(())
    }

    /// A vector over the outputs that must be there or must not; `None` after a finding.
    fn vector(
        &mut self,
        site: Site,
        wanted: bool,
        found: Option<BTreeMap<usize, usize>>,
        path: &str,
        what: &str,
    ) -> Option<Option<usize>> {
        let Some(&index) = found.as_ref().and_then(|found| found.get(&0)) else {
            if wanted {
                self.findings.invalid(path, format!("has no {what}; the file is not whole, save it again"));
            }
            return (!wanted).then_some(None);
        };
        let tensor = &self.tensors[index];
        let count = outputs(self.model, site);
        if !wanted {
            let problem = format!("is a {what}, which the configuration does not have");
            self.findings.invalid(name(&tensor.name), problem);
            return None;
        }
        if tensor.shape.len() > 2 || tensor.len() != count || !tensor.shape.contains(&count) {
            let problem = format!("has shape {:?}, the base {count} outputs", tensor.shape);
            self.findings.incompatible(name(&tensor.name), problem);
            return None;
        }
        weight(tensor, self.findings).map(|_| Some(index))
    }

    /// Tensors and targets that have no counterpart.
    fn report(&mut self, missing: &[String], stray: &[String]) {
        if !self.leftovers.is_empty() {
            let problem = format!(
                "{} left over: {}; nothing of this backbone takes them",
                self.leftovers.len(),
                some_of(&self.leftovers)
            );
            self.findings.invalid("tensors", problem);
        }
        if !stray.is_empty() {
            let problem =
                format!("{} adapted by tensors, not by the configuration: {}", stray.len(), some_of(stray));
            self.findings.invalid("target_modules", problem);
        }
        if !missing.is_empty() {
            let problem =
                format!("{} named by the configuration have no tensors: {}", missing.len(), some_of(missing));
            self.findings.invalid("target_modules", problem);
        }
    }
}
