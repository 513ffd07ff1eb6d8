//! What went in, so that the run can be repeated and doubted: trace, mapping, profiles, parameters, seeds, digests.
//!
//! Also the model's known limits. It leaves out results.

use super::super::model::Report;
use super::super::units;
use super::markup::{Cell, Table, esc, list, policy, section as frame};

pub(super) fn section(report: &Report) -> String {
    let mut body = facts(report);
    if !report.trace.mapping.is_empty() {
        body.push_str("<h3>How the trace was mapped</h3>");
        body.push_str(&list("plain", &report.trace.mapping));
    }
    if !report.inputs.profiles.is_empty() {
        body.push_str("<h3>Profiles and where their numbers come from</h3>");
        body.push_str(&profiles(report).render());
    }
    if report.policies.iter().any(|p| !p.parameters.is_empty()) {
        body.push_str("<h3>Parameters</h3>");
        body.push_str(&parameters(report).render());
    }
    if !report.policies.is_empty() {
        body.push_str("<details><summary>Runs: seeds and event digests</summary>");
        body.push_str(&runs(report).render().replacen("class=\"scroll\"", "class=\"scroll short\"", 1));
        body.push_str("</details>");
    }
    frame("inputs", "Inputs", "Enough to repeat the run: equal digests mean equal runs.", &body)
}

fn facts(report: &Report) -> String {
    let (trace, inputs) = (&report.trace, &report.inputs);
    let hash = if trace.sha256.is_empty() {
        "none: the trace was generated".to_owned()
    } else {
        format!("<code>{}</code>", esc(&trace.sha256))
    };
    let rows = [
        ("Trace", format!("{} (format {})", esc(&trace.name), esc(&trace.format))),
        ("SHA-256", hash),
        (
            "Rows",
            format!(
                "{} read, {} refused, {} requests made of them",
                units::count(trace.rows),
                units::count(trace.refused),
                units::count(trace.records)
            ),
        ),
        (
            "Tokens",
            format!(
                "{} prompt, {} output",
                units::count(trace.prompt_tokens),
                units::count(trace.output_tokens)
            ),
        ),
        ("Fleet", format!("{} ({} GPUs)", esc(&inputs.fleet), inputs.gpus)),
        (
            "Limits",
            format!(
                "TTFT {}, TPOT {}",
                units::duration(inputs.slo_ttft_s),
                units::duration(inputs.slo_tpot_s)
            ),
        ),
        ("Primary tariff", esc(&inputs.primary_tariff)),
        ("Command", format!("<code>{}</code>", esc(&inputs.command))),
        ("Written by", format!("{}, schema <code>{}</code>", esc(&report.tool), esc(&report.schema))),
    ];
    let items: String = rows.iter().map(|(name, html)| format!("<dt>{name}</dt><dd>{html}</dd>")).collect();
    format!("<dl>{items}</dl>")
}

fn profiles(report: &Report) -> Table {
    let row = |p: &super::super::model::ProfileUsed| {
        [&p.kind, &p.name, &p.source].map(|text| Cell::new(esc(text))).to_vec()
    };
    Table {
        caption: "Profiles".to_owned(),
        head: ["kind", "name", "source"].map(str::to_owned).to_vec(),
        rows: report.inputs.profiles.iter().map(row).collect(),
        class: "texts",
    }
}

fn parameters(report: &Report) -> Table {
    let keys: std::collections::BTreeSet<&String> =
        report.policies.iter().flat_map(|p| p.parameters.keys()).collect();
    let row = |key: &&String| {
        let values = report
            .policies
            .iter()
            .map(|p| Cell::new(p.parameters.get(*key).map_or("–".to_owned(), |v| esc(v))));
        std::iter::once(Cell::new(format!("<code>{}</code>", esc(key)))).chain(values).collect()
    };
    Table {
        caption: "Parameters per policy".to_owned(),
        head: std::iter::once("parameter".to_owned())
            .chain((0..report.policies.len()).map(|i| policy(report, i)))
            .collect(),
        rows: keys.iter().map(row).collect(),
        class: "texts",
    }
}

fn runs(report: &Report) -> Table {
    let mut rows = Vec::new();
    for (i, p) in report.policies.iter().enumerate() {
        for run in &p.runs {
            rows.push(vec![
                Cell::new(policy(report, i)),
                Cell::new(run.seed.to_string()),
                Cell::new(units::count(run.events)),
                Cell::new(units::duration(run.simulated_s)),
                Cell::new(if run.speed.cpu_s > 0.0 {
                    format!(
                        "{}, {} requests/s",
                        units::duration(run.speed.cpu_s),
                        units::sig(run.speed.requests_per_cpu_s)
                    )
                } else {
                    "not recorded".to_owned()
                }),
                Cell::new(format!("<code>{}</code>", esc(&run.event_digest))),
            ]);
        }
    }
    Table {
        caption: "Runs".to_owned(),
        head: ["policy", "seed", "events", "simulated", "CPU time", "event digest"]
            .map(str::to_owned)
            .to_vec(),
        rows,
        class: "texts",
    }
}

pub(super) fn limits(report: &Report) -> String {
    let body = if report.limits.is_empty() {
        "<p>None were recorded with this report.</p>".to_owned()
    } else {
        list("plain", &report.limits)
    };
    let foot = "<p class=\"foot\">This page holds everything it shows and loads nothing from a network.</p>";
    frame("limits", "Known limits of the model", "What these numbers leave out.", &(body + foot))
}
