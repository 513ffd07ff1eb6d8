//! Tables of policies: all headline metrics, changes against a baseline, and intervals over seeds.
//!
//! It leaves out curves and bars.

use super::super::metrics::{self, HEADLINE, METRICS, Metric};
use super::super::model::Report;
use super::super::summary;
use super::super::table::change_text;
use super::markup::{Cell, Table, esc, policy, section as frame};

/// Metrics of the second table.
const MONEY: [&str; 5] = ["gpu_hours", "busy_share", "money", "money_per_1000", "money_per_mtok"];

pub(super) fn section(report: &Report, base: usize) -> String {
    let (service, money): (Vec<&Metric>, Vec<&Metric>) =
        METRICS.iter().partition(|m| !MONEY.contains(&m.key));
    let mut body = headline_table(report, &service, "Service").render();
    body.push_str(&headline_table(report, &money, "GPU time and money").render());
    if report.policies.len() > 1 {
        body.push_str("<h3>Change against ");
        body.push_str(&policy(report, base));
        body.push_str("</h3>");
        body.push_str(&changes(report, base).render());
    }
    let abouts: String = (0..report.policies.len())
        .filter(|&i| !report.policies[i].about.is_empty())
        .map(|i| format!("<li>{}<span>{}</span></li>", policy(report, i), esc(&report.policies[i].about)))
        .collect();
    if !abouts.is_empty() {
        body.push_str(&format!("<h3>What each policy does</h3><ul class=\"abouts\">{abouts}</ul>"));
    }
    let mut intro = String::from("A star marks the best value of a column. ");
    if summary::seeds(report) > 1 {
        intro.push_str("Small numbers are half the 95 % interval over seeds. ");
    }
    if report.policies.iter().any(metrics::is_bound) {
        intro.push_str("The clairvoyant bound sees the future, so it is shown and never ranked. ");
    }
    intro.push_str("Latencies are over completed requests; limits met are counted over all that arrived.");
    frame("policies", "Policies side by side", &intro, &body)
}

fn heading(metric: &Metric) -> String {
    format!("{}<small>{}</small>", metric.heading, metric.unit.heading())
}

fn headline_table(report: &Report, metrics: &[&Metric], caption: &str) -> Table {
    let mut rows: Vec<Vec<Cell>> =
        (0..report.policies.len()).map(|i| vec![Cell::new(policy(report, i))]).collect();
    for metric in metrics {
        let best = summary::best(report, metric);
        for (i, row) in rows.iter_mut().enumerate() {
            let html =
                summary::over_seeds(&report.policies[i], metric).map_or("–".to_owned(), |found| match found
                    .half
                    .filter(|half| *half > 0.0)
                {
                    Some(half) => {
                        let pair = metric.unit.format_pair(found.mean, half);
                        let (mean, half) = pair.split_once('±').unwrap_or((&pair, ""));
                        format!("{mean} <small>±{half}</small>")
                    }
                    None => metric.unit.format(found.mean),
                });
            row.push(Cell { html, best: best.contains(&i) });
        }
    }
    let head = std::iter::once("policy".to_owned()).chain(metrics.iter().map(|m| heading(m))).collect();
    Table { caption: caption.to_owned(), head, rows, class: "numbers stacked" }
}

fn changes(report: &Report, base: usize) -> Table {
    // The bill changes as its rate per request does wherever as many requests complete: one of them is enough.
    let shown: Vec<&Metric> =
        HEADLINE.iter().filter(|key| **key != "money").filter_map(|key| metrics::by_key(key)).collect();
    let row = |i: usize| {
        let cells = shown.iter().map(|metric| {
            let text = change_text(&report.policies[i], &report.policies[base], metric);
            match text.split_once(" [") {
                Some((change, interval)) => Cell::new(format!("{change} <small>[{interval}</small>")),
                None => Cell::new(text),
            }
        });
        std::iter::once(Cell::new(policy(report, i))).chain(cells).collect()
    };
    let paired = if summary::seeds(report) > 1 {
        ", with the 95 % interval of differences paired by seed"
    } else {
        ""
    };
    let caption = format!("Relative change{paired}");
    Table {
        caption,
        head: std::iter::once("policy".to_owned())
            .chain(shown.iter().map(|m| m.heading.to_owned()))
            .collect(),
        rows: (0..report.policies.len()).filter(|i| *i != base).map(row).collect(),
        class: "numbers stacked",
    }
}

/// Mean and both ends of the interval for each headline metric and policy.
pub(super) fn intervals(report: &Report) -> String {
    let seeds = summary::seeds(report);
    if seeds < 2 {
        let text = "One seed was run, so there is no interval. Replay with several seeds to get one.";
        return frame("seeds", "Intervals over seeds", text, "");
    }
    let mut rows = Vec::new();
    for i in 0..report.policies.len() {
        let mut row =
            vec![Cell::new(policy(report, i)), Cell::new(report.policies[i].runs.len().to_string())];
        for metric in HEADLINE.iter().filter_map(|key| metrics::by_key(key)) {
            row.push(Cell::new(summary::over_seeds(&report.policies[i], metric).map_or(
                "–".to_owned(),
                |found| {
                    format!(
                        "{} <small>to {}</small>",
                        metric.unit.format(found.low()),
                        metric.unit.format(found.high())
                    )
                },
            )));
        }
        rows.push(row);
    }
    let head = ["policy", "seeds"].map(str::to_owned).into_iter();
    let head = head.chain(HEADLINE.iter().filter_map(|key| metrics::by_key(key)).map(heading)).collect();
    let table = Table {
        caption: "95 % interval of the mean over seeds (Student t)".to_owned(),
        head,
        rows,
        class: "numbers stacked",
    };
    let intro = "A seed fixes every random draw. Where two intervals overlap, look at the paired changes above: \
                 runs of one seed saw the same requests, so their difference is known better than either value.";
    frame("seeds", "Intervals over seeds", intro, &table.render())
}
