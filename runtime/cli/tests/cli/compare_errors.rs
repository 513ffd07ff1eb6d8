//! Files that `compare` can't put side by side, and small errors of `policies`, `profiles` and `validate`.

use crate::Place;

#[test]
fn reports_that_are_none() {
    let place = Place::new();
    place.trace("t.csv", "0,f,a,llama-2-7b,10,10\n");
    place.good(&["replay", "--trace", "t.csv", "--policy", "vllm,serverlesslora", "--out", "r.json"]);
    let report = place.text("r.json");
    let bad = |args: &[&str], says: &[&str]| {
        let mut all = vec!["compare"];
        all.extend(args);
        place.bad(1, &all, says);
    };
    place.file("newer.json", report.replace("coldframe.report/1", "coldframe.report/9"));
    bad(&["newer.json"], &["newer.json", "coldframe.report/9", "coldframe.report/1", "newer coldframe"]);
    place.file("cut.json", &report[..report.len() / 2]);
    bad(&["r.json", "cut.json"], &["cut.json, line", "ends too early", "--out"]);
    place.file("foreign.json", "{\"a\": 1}");
    bad(&["foreign.json"], &["foreign.json", "not a coldframe report", "coldframe replay"]);
    place.file("text.json", "hello\n");
    bad(&["text.json"], &["text.json, line 1", "no JSON"]);
    bad(&["missing.json"], &["cannot read missing.json: No such file"]);
    bad(&["r.json", "--baseline", "vlm"], &["`vlm`", "did you mean `vllm`?"]);
    bad(&["r.json", "--out", "r.json"], &["r.json is one of the reports"]);
    bad(&["r.json", "--json", "--csv"], &["give one of them"]);
    bad(&["r.json", "--html", "t.csv/page.html"], &["t.csv"]);
    assert_eq!(place.text("r.json"), report);
}

#[test]
fn names_of_presets_and_profiles() {
    let place = Place::new();
    place.bad(1, &["policies", "show", "serverlesslara"], &["did you mean `serverlesslora`?"]);
    place.bad(1, &["profiles", "show", "gpu", "l40x"], &["did you mean `l40s`?"]);
    place.bad(1, &["profiles", "show", "cold-start", "gone.toml"], &["gone.toml"]);
    place.bad(1, &["validate", "ground-truth"], &["COLDFRAME_DATA", "--data"]);
    place.bad(1, &["validate", "ground-truth", "--data", "gone"], &["gone is no folder", "COLDFRAME_DATA"]);
}

#[test]
fn invocations_need_durations_and_a_regime() {
    let place = Place::new();
    place.trace("tokens.csv", "0,f,a,llama-2-7b,10,10\n");
    place.file("calls.csv", "arrival_s,function,duration_s\n0,f,1.5\n2,f,-1\n");
    let bad = |args: &[&str], says: &[&str]| {
        let mut all = vec!["replay-invocations", "--trace"];
        all.extend(args);
        place.bad(1, &all, says);
    };
    bad(&["tokens.csv"], &["tokens.csv", "20 tokens", "coldframe replay"]);
    bad(&["calls.csv"], &["calls.csv:3: column `duration_s`", "--skip-bad-rows"]);
    bad(&["calls.csv", "--cold-start", "contaner"], &["did you mean `container`?"]);
    bad(&["gone.csv"], &["gone.csv"]);
    bad(&["."], &["is a folder"]);
    place.bad(2, &["replay-invocations", "--trace", "calls.csv", "--keep-alive", "1e300"], &["1e9"]);
}
