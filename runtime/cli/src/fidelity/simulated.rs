//! The simulated side: one run that keeps its decision log, and writes the files of a replay where the plan asks for them.

use crate::replay::Plan;
use crate::replay::outputs::{Names, Outputs, Tap};
use crate::ui::Ui;
use anyhow::Result;
use coldframe_policy::log::{Backbone, Header, Line, VERSION, to_text};
use coldframe_simulator::report::model::RunReport;
use coldframe_simulator::run::{Hooks, run as simulate};
use coldframe_traces::Refusal;

/// A run with its log.
pub struct Simulated {
    /// The run.
    pub report: RunReport,
    /// Its log, in the format the host writes.
    pub log: String,
}

/// Runs the plan's first policy with its first seed.
pub fn run(plan: &Plan, ui: &Ui) -> Result<Simulated> {
    let mut setup = plan.base.clone();
    setup.policy = plan.policies[0].clone();
    let names = setup.models.iter().map(|model| model.profile.name.clone());
    let specs = setup.start.as_ref().map_or_else(|| setup.backbone_specs(), |start| start.backbones.clone());
    let header = Header {
        coldframe_log: VERSION,
        writer: "simulator".to_owned(),
        started_ms: 0,
        policy: setup.policy.clone(),
        backbones: names.zip(specs).map(|(name, spec)| Backbone { name, spec }).collect(),
    };
    let mut log = to_text(&header) + "\n";
    let mut write = |line: &Line| {
        log += &to_text(line);
        log.push('\n');
    };
    let names = Names::default();
    let mut trace = plan.source.open(plan.seeds[0])?;
    if plan.requests.is_some() || plan.timeline.is_some() {
        trace = Box::new(Tap::new(trace, names.clone(), setup.start.as_ref()));
    }
    let mut files = Outputs::open(plan, &setup, &names)?;
    let (rows, watch) = files.hooks();
    let mut poll = |_: Option<f64>| ui.check().is_ok();
    let mut skip = |_: Refusal| {};
    let hooks = Hooks {
        rows,
        watch,
        decisions: Some(&mut write),
        poll: Some(&mut poll),
        refused: plan.skip_bad_rows.then_some(&mut skip as &mut dyn FnMut(Refusal)),
        ..Hooks::default()
    };
    let outcome = simulate(&setup, &plan.tariffs, trace.as_mut(), hooks)?;
    files.finish()?;
    Ok(Simulated { report: outcome.report, log })
}
