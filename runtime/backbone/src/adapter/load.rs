//! Carries out a plan: the numbers of each site into their place in the block, and over all of them the name.
//!
//! A second thread fills site after site while this one hashes what is filled, since a cold call waits for both. Nothing
//! is visible to anyone before every check has passed.

use super::Generation;
use super::block::Draft;
use super::fill::{FilledSite, Replaced, Source, extent};
use super::generation::Canon;
use super::plan::{MatrixPlan, Plan, SitePlan};
use crate::error::{Error, Result};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// A filled block and the adapter's identity.
pub(crate) struct Filled {
    pub draft: Draft,
    pub generation: Generation,
    pub warnings: Vec<String>,
}

/// Fills a block.
pub(crate) fn fill(plan: &Plan, source: Source<'_>, template: Option<&str>) -> Result<Filled> {
    let mut draft = Draft::new(plan.layout, source.adapter)?;
    let mut canon = Canon::new(template);
    let (full_places, site_places) =
        (plan.full.iter().map(|full| full.matrix.at.clone()), plan.sites.iter().map(extent));
    let mut parts = draft.split(full_places.chain(site_places).collect()).into_iter();
    let mut fulls = Vec::with_capacity(plan.full.len());
    for full in &plan.full {
        let part = parts.next().expect("a part for each replacement");
        source.matrix(&full.matrix, part)?;
        let matrix = full.matrix.view(part);
        canon.full(full.site, full.with_head);
        canon.matrix(matrix);
        fulls.push(Replaced { site: full.site, with_head: full.with_head, matrix });
    }
    let idle = thread::scope(|scope| {
        let (sender, filled) = channel();
        let work = Work { plan, source, fulls: &fulls };
        scope.spawn(move || work.run(parts, &sender));
        let mut idle = Vec::new();
        for site in &plan.sites {
            // A thread that panicked says nothing more; the scope passes its panic on.
            let Ok(filled) = filled.recv() else { break };
            let filled: FilledSite<'_> = filled?;
            tell(&mut canon, site, &filled);
            idle.extend(filled.idle.then_some(site.site));
        }
        Ok::<_, Error>(idle)
    })?;
    source.file.fence()?;
    let zero = !plan.sites.is_empty() && idle.len() == plan.sites.len() && plan.full.is_empty();
    if zero && !source.limits.allow_zero {
        let problem = "every delta is zero (an untrained adapter?): it would answer as the base does";
        return Err(Error::adapter(source.adapter, "tensors", problem));
    }
    let mut warnings = Vec::new();
    if let Some(first) = idle.first() {
        warnings.push(format!("{} modules have a delta of zero, the first is {first}", idle.len()));
    }
    Ok(Filled { draft, generation: canon.finish(), warnings })
}

/// What the filling thread does.
struct Work<'a> {
    plan: &'a Plan,
    source: Source<'a>,
    fulls: &'a [Replaced<'a>],
}

impl Work<'_> {
    /// Fills the sites in order, until one fails or nobody listens.
    fn run<'b>(&self, parts: impl Iterator<Item = &'b mut [u8]>, filled: &Sender<Result<FilledSite<'b>>>) {
        for (site, part) in self.plan.sites.iter().zip(parts) {
            let done = self.source.site(site, part, self.fulls);
            let failed = done.is_err();
            if filled.send(done).is_err() || failed {
                return;
            }
        }
    }
}

/// A site's part of the canonical form.
fn tell(canon: &mut Canon, site: &SitePlan, filled: &FilledSite<'_>) {
    canon.site(site.site, site.rank, site.scale);
    canon.matrix(filled.a);
    canon.matrix(filled.b);
    if let Some(bias) = &filled.bias {
        canon.vector("bias", bias);
    }
    if let Some(magnitude) = &filled.magnitude {
        canon.vector("magnitude", magnitude);
    }
}

impl MatrixPlan {
    /// The matrix, its bytes being these.
    pub fn view<'b>(&self, bytes: &'b [u8]) -> super::MatrixView<'b> {
        super::MatrixView { dtype: self.dtype, rows: self.rows, columns: self.columns, bytes }
    }
}
