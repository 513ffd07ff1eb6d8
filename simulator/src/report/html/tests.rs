//! The page as a whole: complete, inert, self-contained, and sound for odd reports.

use super::super::model::Report;
use super::super::sample;
use super::*;

const EVIL: &str = "<script>alert(1)</script>\"'&\u{202e}";

fn odd_reports() -> Vec<(&'static str, Report)> {
    let mut empty = sample::report(1, 1);
    empty.policies.clear();
    let mut no_runs = sample::report(2, 1);
    no_runs.policies[0].runs.clear();
    let mut long = sample::report(5, 2);
    for (i, policy) in long.policies.iter_mut().enumerate() {
        policy.name = format!("{}{i}", "W".repeat(59));
    }
    let mut bare = sample::report(1, 1);
    bare.policies[0].runs = vec![Default::default()];
    vec![
        ("four", sample::report(4, 5)),
        ("one", sample::report(1, 1)),
        ("many", sample::report(16, 3)),
        ("twenty", sample::report(20, 1)),
        ("nothing", sample::nothing_completed()),
        ("empty", empty),
        ("no-runs", no_runs),
        ("bare", bare),
        ("long", long),
        ("tiny", tiny()),
    ]
}

/// A demo's scale: milliseconds, megabytes and fractions of a cent.
fn tiny() -> Report {
    let mut report = sample::report(3, 3);
    for run in report.policies.iter_mut().flat_map(|policy| &mut policy.runs) {
        run.gpu.reserved_ns /= 1_000_000;
        run.gpu.causes.iter_mut().for_each(|cause| cause.1 /= 1_000_000);
        run.memory.over_time.iter_mut().flatten().for_each(|bytes| *bytes /= 10_000);
        run.memory.by_use.iter_mut().for_each(|used| used.mean_bytes /= 10_000);
        for bill in &mut run.bills {
            bill.total_nano_usd /= 1_000_000;
            bill.lines.iter_mut().for_each(|line| line.1 /= 1_000_000);
            bill.per_1000_requests_usd /= 1e6;
            bill.per_million_tokens_usd /= 1e6;
        }
        run.functions.iter_mut().for_each(|function| function.money_nano_usd /= 1_000_000);
        run.ttft_cdf.iter_mut().for_each(|point| point.0 /= 1e3);
        for q in [&mut run.ttft_s, &mut run.tpot_s, &mut run.e2e_s] {
            for value in [&mut q.mean, &mut q.p50, &mut q.p90, &mut q.p95, &mut q.p99, &mut q.max] {
                *value /= 1e3;
            }
        }
        run.stages.iter_mut().for_each(|stage| {
            (stage.mean_s, stage.cold_mean_s) = (stage.mean_s / 1e3, stage.cold_mean_s / 1e3)
        });
    }
    report
}

/// Every start tag is closed, in order; void and self-closed ones aside.
fn balanced(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = html.split_once("</head>").expect("a head").1;
    let body = body.split_once("<script>").expect("a script").0;
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closing {name}");
        } else if !tag.ends_with('/') && !tag.starts_with("meta") {
            open.push(tag.split(' ').next().expect("a name"));
        }
    }
    assert_eq!(open, ["body"], "left open");
}

#[test]
fn odd_reports_give_sound_pages() {
    for (name, report) in odd_reports() {
        let html = render(&report);
        balanced(&html);
        for bad in ["NaN", "inf%", ">inf", "http://", "https://", "<img", "<link", "@import", "url(http"] {
            assert!(!html.contains(bad), "{name} contains {bad}");
        }
        if let Some(folder) = std::env::var_os("COLDFRAME_SAMPLES").map(std::path::PathBuf::from) {
            std::fs::write(folder.join(format!("{name}.html")), &html).expect("the folder can be written");
            let json = super::super::json::to_string(&report);
            std::fs::write(folder.join(format!("{name}.json")), json).expect("the folder can be written");
        }
    }
}

#[test]
fn every_section_is_there_and_linked() {
    let html = render(&sample::report(4, 3));
    for id in [
        "headline",
        "policies",
        "ttft",
        "stages",
        "slo",
        "gpu",
        "memory",
        "cost",
        "tradeoff",
        "functions",
        "seeds",
        "inputs",
        "limits",
    ] {
        assert!(
            html.contains(&format!("<section id=\"{id}\"")) && html.contains(&format!("href=\"#{id}\"")),
            "{id}"
        );
    }
}

#[test]
fn hostile_text_stays_text() {
    let mut report = sample::report(2, 2);
    report.title = EVIL.into();
    report.tool = EVIL.into();
    report.trace.name = EVIL.into();
    report.trace.sha256 = EVIL.into();
    report.trace.mapping.push(EVIL.into());
    report.inputs.fleet = EVIL.into();
    report.inputs.command = EVIL.into();
    report.inputs.primary_tariff = EVIL.into();
    report.inputs.profiles[0].source = EVIL.into();
    report.warnings.push(EVIL.into());
    report.limits.push(EVIL.into());
    for policy in &mut report.policies {
        policy.name = format!("{EVIL}{}", policy.name);
        policy.about = EVIL.into();
        policy.parameters.insert(EVIL.into(), EVIL.into());
        for run in &mut policy.runs {
            run.event_digest = EVIL.into();
            run.functions[0].name = EVIL.into();
            run.functions[0].tenant = EVIL.into();
            run.bills[0].tariff = EVIL.into();
            run.bills[0].lines[0].0 = EVIL.into();
            run.gpu.causes[0].0 = EVIL.into();
            run.stages[0].stage = EVIL.into();
            run.memory.by_use[0].name = EVIL.into();
        }
    }
    let html = render(&report);
    balanced(&html);
    assert!(!html.contains("<script>alert") && !html.contains('\u{202e}'));
    assert_eq!(html.matches("<script>").count(), 1, "only our own");
    assert!(!html.contains("\"'&"), "quotes in attributes are escaped");
}
