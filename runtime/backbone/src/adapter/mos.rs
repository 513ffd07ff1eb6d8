//! Plans for MoS folders (mixture of shards, arXiv 2410.00938): pools of shards per module type, shared by all layers.
//!
//! A layer's index matrix `[r, l]` picks, for each of its r vectors, l shards of the pool that are put one after the
//! other; A and B have pools and indices of their own (pair dissociation), and a shard that one layer alone picks is a
//! private one. The matrices are gathered at load, so a MoS adapter costs the memory of a LoRA of its rank here: kernels
//! read contiguous vectors. The saving of MoS is in the file.

use super::Dtype;
use super::config::{Config, name};
use super::limits::{Findings, Limits};
use super::names::{Paths, sites};
use super::plan::{Fill, Plan, SitePlan, rank_in_bounds, some_of, stored_shapes, weight};
use super::tensors::{Element, Tensor};
use crate::model::ModelConfig;
use crate::site::Site;
use std::collections::{HashMap, HashSet};

/// Makes the plan; what stands in the way goes to `findings`.
pub(crate) fn plan(
    config: &Config,
    model: &ModelConfig,
    tensors: &[Tensor],
    limits: &Limits,
    findings: &mut Findings,
) -> Plan {
    let by_name = tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
    let plan = Plan { kind: "mos", ..Plan::default() };
    let mut planner = Planner { config, tensors, by_name, used: HashSet::new(), limits, findings };
    let paths = Paths::new(model, config.headless());
    let mut out = plan;
    for site in sites(model) {
        let path = paths.of(site);
        if config.targets.contain(&path, matches!(site, Site::Block(..))) {
            planner.site(model, site, &path, &mut out);
        }
    }
    let mut left: Vec<String> = (0..tensors.len())
        .filter(|index| !planner.used.contains(index))
        .map(|index| tensors[index].name.clone())
        .collect();
    left.sort();
    if !left.is_empty() {
        let problem = format!("{} left over: {}; no targeted module takes them", left.len(), some_of(&left));
        planner.findings.invalid("tensors", problem);
    }
    out
}

struct Planner<'a> {
    config: &'a Config,
    tensors: &'a [Tensor],
    by_name: HashMap<&'a str, usize>,
    used: HashSet<usize>,
    limits: &'a Limits,
    findings: &'a mut Findings,
}

impl Planner<'_> {
    fn site(&mut self, model: &ModelConfig, site: Site, path: &str, plan: &mut Plan) {
        let Site::Block(_, module) = site else {
            return self
                .findings
                .invalid(path, "has no pool: MoS shares shards between the layers' linear modules");
        };
        let rank = self.config.rank_of(path);
        if !rank_in_bounds(rank, path, self.limits, self.findings) {
            return;
        }
        let (stored_a, stored_b) = stored_shapes(model, site, rank);
        let kind = module.hf_path().rsplit('.').next().unwrap_or_default();
        let a = self.side(kind, path, "A", stored_a);
        let b = self.side(kind, path, "B", stored_b);
        if let (Some(a), Some(b)) = (a, b) {
            let a = plan.matrix(a.0, stored_a, a.1);
            let b = plan.matrix(b.0, stored_b, b.1);
            // The factor is stored as f32, as kernels use it.
            let scale = self.config.scale_of(path) as f32;
            plan.sites.push(SitePlan { site, rank, scale, a, b, magnitude: None, bias: None });
        }
    }

    /// Pool and index of A or B.
    fn side(
        &mut self,
        kind: &str,
        path: &str,
        side: &str,
        (rank, size): (usize, usize),
    ) -> Option<(Dtype, Fill)> {
        let pool = self.take(format!("mos.{kind}.pool_{side}"))?;
        let index = self.take(format!("{path}.index_{side}"))?;
        let shards = self.config.shards_per_vector;
        let (pool_tensor, index_tensor) = (&self.tensors[pool], &self.tensors[index]);
        if !size.is_multiple_of(shards)
            || !matches!(pool_tensor.shape[..], [count, width] if count > 0 && width * shards == size)
        {
            let problem = format!(
                "has shape {:?}; {shards} shards of a row make the base's {size} only where a row has a {shards}th of it",
                pool_tensor.shape
            );
            self.findings.incompatible(name(&pool_tensor.name), problem);
            return None;
        }
        if index_tensor.shape != [rank, shards]
            || !matches!(index_tensor.element, Element::I32 | Element::I64)
        {
            let problem =
                format!("has shape {:?}, expected I32 or I64 of [{rank}, {shards}]", index_tensor.shape);
            self.findings.invalid(name(&index_tensor.name), problem);
            return None;
        }
        let dtype = weight(pool_tensor, self.findings)?;
        Some((dtype, Fill::Shards { pool, index }))
    }

    fn take(&mut self, wanted: String) -> Option<usize> {
        let found = self.by_name.get(wanted.as_str()).copied();
        match found {
            Some(index) => {
                self.used.insert(index);
            }
            None => self.findings.invalid(wanted, "is missing"),
        }
        found
    }
}
