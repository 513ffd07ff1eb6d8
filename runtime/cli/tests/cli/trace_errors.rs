//! Wrong files and settings given to `trace`: nothing is written, memory stays bounded.

use crate::{Place, sample};
use std::fs::File;
use std::io::Write;
use std::process::Command;

#[test]
fn wrong_settings_leave_no_file() {
    let place = Place::new();
    let trace = sample();
    let cases: [(&[&str], &[&str]); 17] = [
        (&["info", "gone.csv"], &["gone.csv", "No such file"]),
        (&["info", "."], &["is a folder"]),
        (&["convert", &trace, "-o", "x.txt"], &["x.txt", ".parquet"]),
        (&["convert", &trace, "-o", "plain/x.csv"], &["plain"]),
        (&["convert", &trace, "-o", "x.csv", "--refused", "x.csv"], &["give two"]),
        (&["sample", &trace, "--top", "0", "-o", "x.csv"], &["no function"]),
        (&["sample", &trace, "--names", "nobody", "-o", "x.csv"], &["no function", "nobody"]),
        (&["sample", &trace, "--thin", "2", "-o", "x.csv"], &["0 to 1"]),
        (&["sample", &trace, "--compress", "0", "-o", "x.csv"], &["from 0.001"]),
        (&["sample", &trace, "--repeat", "0", "-o", "x.csv"], &["--repeat"]),
        (&["sample", &trace, "--from", "4h", "--until", "2h", "-o", "x.csv"], &["window is empty"]),
        (&["compose", &trace, "--functions", "0", "-o", "x.csv"], &["0 functions"]),
        (&["compose", &trace, "--lengths-from", "gone.csv", "-o", "x.csv"], &["gone.csv"]),
        (&["generate", "demo-burst", "-o", "x.csv"], &["did you mean `demo-bursty`?"]),
        (&["generate", "zipf", "--functions", "0", "-o", "x.csv"], &["functions"]),
        (&["generate", "zipf", "--rate", "1e300", "-o", "x.csv"], &["rate"]),
        (&["generate", "cold-tail", "-o", "x.csv"], &["COLDFRAME_DATA"]),
    ];
    place.file("plain", "a file, not a folder");
    for (args, says) in cases {
        let mut all = vec!["trace"];
        all.extend(args);
        place.bad(1, &all, says);
    }
}

#[test]
fn refused_rows_end_a_conversion_unless_skipped() {
    let place = Place::new();
    place.trace("t.csv", "0,f,a,llama-2-7b,10,10\n1,f,a,llama-2-7b,x,10\n2,f,a,llama-2-7b,10,10\n");
    let place_of = ["1 row refused", "t.csv:3: prompt_tokens", "--skip-bad-rows"];
    place.bad(1, &["trace", "convert", "t.csv", "-o", "x.csv"], &place_of);
    place.good(&["trace", "convert", "t.csv", "-o", "x.csv", "--skip-bad-rows", "--refused", "bad.txt"]);
    assert!(place.text("bad.txt").starts_with("t.csv:3: prompt_tokens"));
    assert_eq!(place.text("x.csv").lines().filter(|l| l.contains(",f,")).count(), 2);
}

#[test]
fn a_line_without_end_is_refused_in_bounded_memory() {
    let place = Place::new();
    let mut file = File::create(place.path("long.csv")).expect("made");
    writeln!(file, "{}", crate::HEAD).expect("written");
    file.write_all(b"0,").expect("written");
    file.write_all(&vec![b'x'; 3_000_000]).expect("written");
    place.bad_replay(&["--trace", "long.csv"], &["long.csv:2", "longer than"]);
    // Ten gigabytes of one line, sparse on disk, under a limit of one gigabyte of address space.
    for (name, head) in [("first.csv", ""), ("second.csv", crate::HEAD)] {
        let mut file = File::create(place.path(name)).expect("made");
        if !head.is_empty() {
            writeln!(file, "{head}").expect("written");
        }
        file.set_len(10_000_000_000).expect("sparse");
        let out = Command::new("sh")
            .args(["-c", "ulimit -v 1000000; exec \"$0\" trace info \"$1\"", env!("CARGO_BIN_EXE_coldframe")])
            .arg(name)
            .current_dir(place.folder.path())
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains(name) && said.contains("longer than"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_since_traces_are_read_twice() {
    let place = Place::new();
    let fifo = Command::new("mkfifo").arg(place.path("pipe")).status().expect("mkfifo runs");
    assert!(fifo.success());
    place.bad_replay(&["--trace", &sample(), "--requests", "pipe", "--policy", "vllm"], &["pipe"]);
    place.bad(1, &["trace", "convert", &sample(), "-o", "pipe"], &["pipe or a device"]);
    for args in [
        &["trace", "info", "pipe"][..],
        &["trace", "convert", "pipe", "-o", "x.csv"],
        &["trace", "compose", "pipe"],
        &["replay", "--trace", "pipe"],
        &["replay-invocations", "--trace", "pipe"],
    ] {
        place.bad(1, args, &["pipe", "save it to a file first"]);
    }
}
