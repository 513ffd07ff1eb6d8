//! Wrong traces, policies, fleets and limits given to `replay`: exit 1, the place, what to do, no file.

use crate::{Place, sample};

#[test]
fn traces_that_are_cut_or_foreign() {
    let place = Place::new();
    let whole = std::fs::read(sample()).expect("the sample");
    place.file("cut.csv.gz", &whole[..5000]);
    place.bad_replay(&["--trace", "cut.csv.gz"], &["cut.csv.gz:", "cut short", "gzip -t"]);
    place.file("columns.csv", "a,b,c\n1,2,3\n");
    place.bad_replay(
        &["--trace", "columns.csv"],
        &["columns.csv:1", "no known trace format", "coldframe-csv"],
    );
    place.file("empty.csv", "");
    place.bad_replay(&["--trace", "empty.csv"], &["empty.csv:1", "the file is empty"]);
    place.bad_replay(&["--trace", "missing.csv"], &["missing.csv does not exist"]);
    place.bad_replay(&["--trace", "."], &["is a folder", "name one trace file"]);
    place.bad_replay(&["--trace", "paper-burst"], &["did you mean `paper-bursty`?"]);
    place.bad_replay(&["--trace", &sample(), "--format", "azure-lm"], &["--format", "`azure-llm`"]);
    place.bad_replay(&["--trace", "mixed-tenants"], &["mixed-tenants", "COLDFRAME_DATA"]);
}

#[test]
fn rows_that_are_wrong_name_file_line_and_column() {
    let place = Place::new();
    let wrong: [(&str, &str, &[&str]); 7] = [
        ("-1,f,a,llama-2-7b,10,10\n", ":2: column `arrival_s`", &["negative"]),
        (
            "0,f,a,llama-2-7b,10,10\nNaN,f,a,llama-2-7b,10,10\n",
            ":3: column `arrival_s`",
            &["not a finite number"],
        ),
        ("inf,f,a,llama-2-7b,10,10\n", ":2: column `arrival_s`", &["not a finite number"]),
        ("0,f,a,llama-2-7b,-5,10\n", ":2: column `prompt_tokens`", &["negative"]),
        ("0,f,a,llama-2-7b,10,9999999999\n", ":2: column `output_tokens`", &["overflows"]),
        ("0,f,a,llama-2-7b,1e9,10\n", ":2: column `prompt_tokens`", &["whole number"]),
        ("5,f,a,llama-2-7b,1,1\n1,f,a,llama-2-7b,1,1\n", ":3: column `arrival_s`", &["unsorted", "--sort"]),
    ];
    for (rows, at, says) in wrong {
        place.trace("rows.csv", rows);
        let at = format!("rows.csv{at}");
        let mut all = vec![at.as_str(), "--skip-bad-rows"];
        all.extend(says);
        place.bad_replay(&["--trace", "rows.csv"], &all);
    }
}

#[test]
fn refused_rows_can_be_skipped_but_not_all_of_them() {
    let place = Place::new();
    place.trace("rows.csv", "0,f,a,llama-2-7b,x,10\n1,f,a,llama-2-7b,10,10\n");
    let ran = place.run(&["replay", "--trace", "rows.csv", "--policy", "vllm", "--skip-bad-rows"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("skipped rows.csv:2: column `prompt_tokens`"), "{}", ran.stderr);
    place.trace("none.csv", "0,f,a,llama-2-7b,x,10\n");
    place.bad_replay(&["--trace", "none.csv", "--skip-bad-rows"], &["none.csv", "nothing to replay"]);
    place.trace("head.csv", "");
    place.bad_replay(&["--trace", "head.csv"], &["head.csv", "no requests"]);
}

#[test]
fn traces_of_another_kind() {
    let place = Place::new();
    place.file("durations.csv", "arrival_s,function,duration_s\n0,f,1.5\n");
    place.bad_replay(
        &["--trace", "durations.csv"],
        &["durations.csv", "record 1 has no tokens", "trace compose", "replay-invocations"],
    );
    place.trace("model.csv", "0,f,a,mistral-7b,10,10\n");
    place.bad_replay(
        &["--trace", "model.csv"],
        &["model.csv", "function `f`", "`mistral-7b`", "llama-2-7b", "--model"],
    );
}

#[test]
fn names_from_a_trace_cannot_drive_the_terminal() {
    let place = Place::new();
    place.trace("t.csv", "0,f\x1b[31m,a,zz\x1b[2J,1,1\n");
    let ran = place.run(&["replay", "--trace", "t.csv"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("zz") && !ran.stderr.contains('\x1b'), "{:?}", ran.stderr);
}

#[test]
fn unknown_columns_are_told_and_reported() {
    let place = Place::new();
    place.file("extra.csv", "arrival_s,function,prompt_tokens,output_tokens,colour\n0,f,10,10,red\n");
    let ran = place.run(&["replay", "--trace", "extra.csv", "--policy", "vllm", "--out", "r.json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("colour"), "{}", ran.stderr);
    assert!(place.json("r.json")["warnings"].to_string().contains("colour"));
}

#[test]
fn policies_that_do_not_exist_or_make_no_sense() {
    let place = Place::new();
    let trace = sample();
    let bad = |args: &[&str], says: &[&str]| {
        let mut all = vec!["--trace", trace.as_str()];
        all.extend(args);
        place.bad_replay(&all, says);
    };
    bad(&["--policy", "vlm"], &["--policy", "`vlm`", "did you mean `vllm`?", "serverlesslora"]);
    bad(&["--policy", "vllm,vllm"], &["`vllm` is named twice"]);
    bad(&["--policy", "vllm", "--baseline", "vlm"], &["--baseline", "did you mean `vllm`?"]);
    let lora = ["--policy", "serverlesslora"];
    let set = |setting: &str, says: &[&str]| {
        let mut all = vec!["--set", setting];
        all.extend(says);
        bad(&[lora[0], lora[1], "--set", setting], &all);
    };
    set("keep_alive.adaptr_s=3", &["did you mean `adapter_s`?", "policies show serverlesslora"]);
    set("keep_alve.adapter_s=3", &["`keep_alve` is no section", "did you mean `keep_alive`?"]);
    set("engine.max_sequences=many", &["engine.max_sequences", "a whole number"]);
    set("engine.max_sequences=-1", &["engine.max_sequences", "a whole number"]);
    set("engine.paged_kv=5", &["engine.paged_kv", "true or false"]);
    set("engine=3", &["a section"]);
    set("preload.kind=pckq", &["preload.kind", "did you mean `pckp`?"]);
    set("keep_alive.adapter_s=-3", &["keep_alive.adapter_s = -3", "zero or more"]);
    set("keep_alive.kind=forever", &["replace the whole section", "{ kind = 'forever' }"]);
    set("nonsense", &["expected KEY=VALUE"]);
    bad(
        &["--policy", "vllm", "--set", "keep_alive.adapter_s=3"],
        &["--set keep_alive.adapter_s=3", "policy vllm", "of kind `forever`", "policies show vllm"],
    );
}

#[test]
fn policy_files_that_are_wrong() {
    let place = Place::new();
    let shown = place.good(&["policies", "show", "serverlesslora"]);
    let trace = sample();
    let bad = |text: &str, says: &[&str]| {
        place.file("mine.toml", text);
        let mut all = vec!["mine.toml"];
        all.extend(says);
        place.bad_replay(&["--trace", &trace, "--policy", "mine.toml"], &all);
    };
    bad(
        &shown.replace("max_sequences", "max_sequenzes"),
        &["max_sequenzes", "did you mean `max_sequences`?"],
    );
    bad(&shown.replace("paged_kv = false", "paged_kv = 3"), &["engine.paged_kv", "true or false"]);
    let cut = shown.find("[queue]").expect("the preset has a queue");
    let end = shown[cut + 1..].find("\n[").map_or(shown.len(), |n| cut + 1 + n);
    bad(&format!("{}{}", &shown[..cut], &shown[end..]), &["missing field", "queue"]);
    bad("name = ", &["line 1"]);
    place.bad_replay(
        &["--trace", &trace, "--policy", "gone.toml"],
        &["cannot read policy file gone.toml", "No such file"],
    );
}

#[test]
fn fleets_and_models_that_cannot_be() {
    let place = Place::new();
    let trace = sample();
    let cases: [(&[&str], &[&str]); 18] = [
        (&["--workers", "0"], &["the fleet has no GPU", "--workers"]),
        (&["--gpus-per-worker", "0"], &["--gpus-per-worker"]),
        (&["--workers", "4000000000", "--gpus-per-worker", "4000000000"], &["at most 100,000 GPUs"]),
        (&["--gpu", "l40x"], &["`l40x`", "did you mean `l40s`?"]),
        (&["--model", "llama-2-7"], &["did you mean `llama-2-7b`?"]),
        (&["--model", "llama-2-70b"], &["no step times for `llama-2-70b` on `l40s`", "h100/llama-2-13b"]),
        (&["--gpu", "b200"], &["no step times for", "`b200`", "profiles show step vidur"]),
        (
            &["--rank", "100000", "--model", "llama-2-7b"],
            &["no GPU of this fleet can hold llama-2-7b", "GB usable", "--gpu"],
        ),
        (
            &["--policy", "vllm", "--set", "engine.memory_permille=300", "--model", "llama-2-13b"],
            &["can hold llama-2-13b"],
        ),
        (
            &["--policy", "vllm", "--set", "engine.adapter_slots=10000"],
            &["under vllm", "10000 adapter slots", "engine.adapter_slots"],
        ),
        (&["--cold-start", "contaner"], &["did you mean `container`?"]),
        (&["--step", "vidr"], &["did you mean `vidur`?"]),
        (&["--fleet", "l40s-x9"], &["did you mean `l40s-x8`?"]),
        (&["--tariff", "cerebriun"], &["did you mean `cerebrium`?"]),
        (&["--tariff", "cloud-run"], &["`cloud-run` has no price for a l40s", "profiles show tariff"]),
        (&["--host-ms", "1e300"], &["--host-ms"]),
        (&["--host-memory-gb", "1e300"], &["--host-memory-gb"]),
        (&["--host-memory-gb", "NaN"], &["--host-memory-gb"]),
    ];
    for (args, says) in cases {
        let mut all = vec!["--trace", trace.as_str()];
        all.extend(args);
        place.bad_replay(&all, says);
    }
}

#[test]
fn numbers_out_of_range() {
    let place = Place::new();
    let trace = sample();
    let cases: [(&[&str], &[&str]); 15] = [
        (&["--seeds", "0"], &["--seeds must be at least 1"]),
        (&["--seeds", "99999999999999"], &["--seeds must be at most"]),
        (&["--seed", "18446744073709551615", "--seeds", "2"], &["--seed"]),
        (&["--repeat", "0"], &["--repeat must be at least 1"]),
        (&["--jitter", "1001"], &["--jitter", "1000"]),
        (&["--slo-ttft=-1"], &["--slo-ttft must be a positive number"]),
        (&["--slo-ttft", "NaN"], &["--slo-ttft must be a positive number"]),
        (&["--slo-ttft", "1e300"], &["--slo-ttft", "too large"]),
        (&["--slo-tpot", "0"], &["--slo-tpot must be a positive number"]),
        (&["--slo-tpot", "1e-12"], &["above zero"]),
        (&["--adapters", "0"], &["0 functions"]),
        (&["--adapters", "5", "--zipf", "NaN"], &["s=NaN"]),
        (&["--adapters", "5", "--sticky", "2"], &["stickiness 2"]),
        (&["--requests", "rows.csv"], &["one policy and one seed"]),
        (&["--policy", "vllm", "--requests", "rows.txt"], &["rows.txt", ".parquet"]),
    ];
    for (args, says) in cases {
        let mut all = vec!["--trace", trace.as_str()];
        all.extend(args);
        place.bad_replay(&all, says);
    }
}

#[test]
fn outputs_that_cannot_be_written_are_told_before_the_work() {
    let place = Place::new();
    place.trace("t.csv", "0,f,a,llama-2-7b,10,10\n");
    place.file("plain", "a file, not a folder");
    let replay = ["replay", "--trace", "t.csv", "--policy", "vllm"];
    let bad = |args: &[&str], says: &[&str]| {
        let mut all = replay.to_vec();
        all.extend(args);
        place.bad(1, &all, says);
    };
    bad(&["--out", "plain/r.json"], &["plain"]);
    bad(&["--html", "plain/p.html"], &["plain"]);
    bad(&["--requests", "plain/r.csv"], &["plain"]);
    bad(&["--timeline", "plain/t.json"], &["plain"]);
    bad(&["--out", "."], &["is a folder"]);
    bad(&["--out", "new/"], &["is a folder"]);
    bad(&["--out", "t.csv"], &["--out t.csv is an input"]);
    bad(&["--out", "x", "--html", "x"], &["--out and --html name one file"]);
    place.bad(1, &["paper", "--seeds", "1", "--out", "plain"], &["--out plain is a file"]);
    assert_eq!(place.text("plain"), "a file, not a folder");
}

#[test]
fn usage_is_exit_2() {
    let place = Place::new();
    let trace = sample();
    place.bad(2, &[], &["Usage"]);
    place.bad(2, &["replay"], &["--trace"]);
    place.bad(2, &["replai"], &["replay"]);
    place.bad(2, &["replay", "--trace", &trace, "--polici", "vllm"], &["--policy"]);
    place.bad(2, &["replay", "--trace", &trace, "--workers", "many"], &["--workers"]);
    place.bad(2, &["compare"], &["FILE.json"]);
    place.bad(2, &["trace", "generate"], &["<NAME>"]);
    place.bad(2, &["trace", "sample", &trace, "--class", "burst"], &["did you mean `bursty`?"]);
    place.bad(2, &["completions", "tcsh"], &["zsh"]);
    place.bad(2, &["replay-invocations"], &["--trace"]);
    place.bad(2, &["paper", "--out", "p", "--", "--nonsense"], &["--nonsense"]);
}
