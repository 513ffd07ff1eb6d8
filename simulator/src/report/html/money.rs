//! Money: each tariff's bill by line, and the functions that carry most requests.
//!
//! Sums are whole nano-dollars, means over seeds included; dollars appear in the text only.

use super::super::model::{FunctionRow, Report};
use super::super::summary;
use super::super::units;
use super::bars::{Bar, Bars, Part};
use super::markup::{Cell, Table, esc, policy, section as frame};
use super::words;

/// A line's fill is the same under every tariff.
fn fill(line: &str, place: usize) -> usize {
    let known = ["gpu", "cpu", "memory", "requests", "rounding"];
    [0, 4, 1, 5, 2, 6, 3][known.iter().position(|name| *name == line).unwrap_or(5 + place % 2)]
}

/// Functions shown; the JSON holds up to 1,000.
const FUNCTIONS_SHOWN: usize = 20;

/// Tariff names in the order of first appearance.
fn tariff_names(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for bill in report.policies.iter().flat_map(|p| &p.runs).flat_map(|run| &run.bills) {
        if !names.contains(&bill.tariff.as_str()) {
            names.push(&bill.tariff);
        }
    }
    names
}

pub(super) fn tariffs(report: &Report) -> String {
    let names = tariff_names(report);
    let mut body = String::new();
    for name in &names {
        let primary =
            if *name == report.inputs.primary_tariff { " (primary: it ranks and splits)" } else { "" };
        body.push_str(&format!("<h3>{}{primary}</h3><figure>{}</figure>", esc(name), tariff(report, name)));
    }
    if names.is_empty() {
        body.push_str("<p>No tariff was given, so there is no bill.</p>");
    }
    let intro = "The same run priced under each tariff, by line of the bill, in US dollars. Compare lengths within a \
                 tariff; each has its own scale.";
    frame("cost", "Cost under each tariff", intro, &body)
}

fn tariff(report: &Report, name: &str) -> String {
    let bills = |policy: usize| {
        report.policies[policy]
            .runs
            .iter()
            .flat_map(move |run| run.bills.iter().filter(move |b| b.tariff == name))
    };
    // A line below a thousandth of the dearest bill cannot be seen; the total at the bar's end holds it.
    let most = (0..report.policies.len())
        .flat_map(bills)
        .map(|bill| u128::from(bill.total_nano_usd))
        .max()
        .unwrap_or(0);
    let mut lines: Vec<&str> = Vec::new();
    for (line, nano) in (0..report.policies.len()).flat_map(bills).flat_map(|bill| &bill.lines) {
        if u128::from(*nano) * 1_000 > most && !lines.contains(&line.as_str()) {
            lines.push(line);
        }
    }
    let bar = |policy: usize| {
        let mean = |line: &&str| {
            let of = |bill: &super::super::model::Bill| {
                bill.lines.iter().find(|(n, _)| n == line).map_or(0, |(_, v)| *v)
            };
            summary::mean_whole(bills(policy).map(of)) as f64 * 1e-9
        };
        let total =
            format!("${}", units::usd(summary::mean_whole(bills(policy).map(|bill| bill.total_nano_usd))));
        Bar { policy, values: lines.iter().map(mean).collect(), total }
    };
    Bars {
        report,
        parts: lines.iter().enumerate().map(|(i, l)| Part { fill: fill(l, i), label: words(l) }).collect(),
        bars: (0..report.policies.len()).map(bar).collect(),
        text: |v| format!("${}", units::sig(v)),
        shares: false,
        legend: true,
    }
    .render()
}

pub(super) fn functions(report: &Report) -> String {
    let Some(first) = report.policies.iter().find_map(|p| p.runs.first()) else { return String::new() };
    let shown: Vec<&FunctionRow> = first.functions.iter().take(FUNCTIONS_SHOWN).collect();
    let money = |policy: usize, name: &str| {
        let runs = &report.policies[policy].runs;
        let found: Vec<&FunctionRow> =
            runs.iter().filter_map(|run| run.functions.iter().find(|f| f.name == name)).collect();
        if found.is_empty() {
            return Cell::new("–");
        }
        let usd = units::usd(summary::mean_whole(found.iter().map(|f| f.money_nano_usd)));
        let (cold, all) = found.iter().fold((0, 0), |(cold, all), f| (cold + f.cold, all + f.requests));
        let cold = if all == 0 {
            String::new()
        } else {
            format!(" <small>{:.0} % cold</small>", cold as f64 / all as f64 * 100.0)
        };
        Cell::new(format!("${usd}{cold}"))
    };
    let rows = shown
        .iter()
        .map(|function| {
            let tenant = if function.tenant.is_empty() { "–".to_owned() } else { esc(&function.tenant) };
            let mut row = vec![
                Cell::new(esc(&function.name)),
                Cell::new(tenant),
                Cell::new(units::count(function.requests)),
            ];
            row.extend((0..report.policies.len()).map(|policy| money(policy, &function.name)));
            row
        })
        .collect();
    let head = ["function", "tenant", "requests"].map(str::to_owned).into_iter();
    let table = Table {
        caption: format!("Share of the bill under {}, US dollars", esc(&report.inputs.primary_tariff)),
        head: head.chain((0..report.policies.len()).map(|i| policy(report, i))).collect(),
        rows,
        class: "numbers",
    };
    let all = first.functions.len() as u64 + first.functions_left_out;
    let intro = format!(
        "The {} functions with most requests, of {}. Over all functions the shares add up to the bill exactly.",
        shown.len(),
        units::count(all)
    );
    frame("functions", "Money per function", &intro, &table.render())
}
