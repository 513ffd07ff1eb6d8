//! Transforms over small traces: what they keep, what they change, and that a seed repeats.

use crate::read_all;
use coldframe_traces::info::functions::CovClass;
use coldframe_traces::transform::compose::pool;
use coldframe_traces::transform::{Choice, Compose, Lengths, Popularity, Sample, SampleSpec, Spread, choose};
use coldframe_traces::{Map, MapSpec, OpenOptions, Record, Repeat, TraceError, TraceStream, open_reader};
use std::path::Path;

type Stream = Box<dyn TraceStream>;

fn open_text(text: String) -> Result<Stream, TraceError> {
    open_reader(std::io::Cursor::new(text), Path::new("small.csv"), &OpenOptions::default())
}

/// One request a second over `n` functions in turn.
fn steady(requests: u32, functions: u32) -> Stream {
    let row = |i: u32| format!("{i},f{},{},{}\n", i % functions, i + 1, i + 2);
    let rows: String = (0..requests).map(row).collect();
    open_text(format!("arrival_s,function,prompt_tokens,output_tokens\n{rows}")).expect("opens")
}

#[test]
fn map_spreads_by_the_law_and_repeats() {
    let spec = MapSpec {
        functions: 10,
        zipf_s: 1.0,
        base_models: vec!["a".into(), "b".into()],
        ..MapSpec::default()
    };
    let run = |seed| {
        let mut mapped = Map::new(steady(20_000, 1), MapSpec { seed, ..spec.clone() }).expect("valid");
        let (records, _) = read_all(&mut mapped);
        (records, mapped.catalog().functions().to_vec(), mapped.notes())
    };
    let (records, functions, notes) = run(1);
    assert_eq!((functions.len(), functions[1].base_model.as_str()), (10, "b"));
    let first = records.iter().filter(|r| r.function == 0).count() as f64 / 20_000.0;
    // 1 / H(10) = 0.341
    assert!((first - 0.341).abs() < 0.015, "{first}");
    assert_eq!(records, run(1).0);
    assert_ne!(records, run(2).0);
    assert!(notes.last().is_some_and(|n| n.contains("Zipf s=1") && n.contains("seed 1")));
    assert!(Map::new(steady(1, 1), MapSpec { functions: 0, ..spec.clone() }).is_err());
    assert!(Map::new(steady(1, 1), MapSpec { stickiness: 2.0, ..spec.clone() }).is_err());
    assert!(Map::new(steady(1, 1), MapSpec { zipf_s: f64::NAN, ..spec }).is_err());
}

#[test]
fn stickiness_repeats_the_last_function() {
    let sticky = MapSpec { functions: 1000, zipf_s: 0.0, stickiness: 0.5, ..MapSpec::default() };
    let (records, _) = read_all(&mut Map::new(steady(10_000, 1), sticky).expect("valid"));
    let same = records.windows(2).filter(|w| w[0].function == w[1].function).count();
    assert!((4700..5300).contains(&same), "{same}");
}

#[test]
fn repeat_goes_on_after_the_mean_gap() {
    let mut repeated = Repeat::new(Box::new(|| Ok(steady(4, 2))), 3).expect("opens");
    let (records, _) = read_all(&mut repeated);
    let seconds: Vec<u64> = records.iter().map(|r| r.arrival_ns / 1_000_000_000).collect();
    assert_eq!(seconds, (0..12).collect::<Vec<_>>());
    assert_eq!((repeated.rows_in(), repeated.catalog().functions().len()), (12, 2));
    assert_eq!(records[0].function, records[4].function);
}

#[test]
fn repeat_keeps_sessions_apart() {
    let text = "arrival_s,function,session\n0,f,1\n1,f,2\n".to_owned();
    let (records, _) =
        read_all(&mut Repeat::new(Box::new(move || open_text(text.clone())), 2).expect("opens"));
    assert_eq!(records.iter().map(|r| r.session).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

fn sampled(spec: SampleSpec, choice: Option<Choice>) -> Vec<Record> {
    let chosen = choice.map(|c| choose(&mut steady(1000, 10), &c).expect("reads"));
    read_all(&mut Sample::new(steady(1000, 10), spec, chosen).expect("valid")).0
}

#[test]
fn samples_cut_what_they_should() {
    let window = SampleSpec { from_ns: 100_000_000_000, until_ns: 200_000_000_000, ..SampleSpec::default() };
    let cut = sampled(window, None);
    assert_eq!((cut.len(), cut[0].arrival_ns, cut[0].prompt_tokens), (100, 0, 101));
    assert_eq!(sampled(SampleSpec::default(), Some(Choice::Top(3))).len(), 300);
    let random = |seed| sampled(SampleSpec::default(), Some(Choice::Random { k: 2, seed }));
    assert_eq!(random(1).len(), 200);
    assert_eq!(random(1), random(1));
    assert!((0..20).any(|seed| random(seed) != random(1)));
    assert_eq!(sampled(SampleSpec::default(), Some(Choice::Class(CovClass::Bursty))).len(), 0);
    assert_eq!(sampled(SampleSpec::default(), Some(Choice::Class(CovClass::Predictable))).len(), 1000);
    assert_eq!(sampled(SampleSpec::default(), Some(Choice::Named(vec!["f3".into()]))).len(), 100);
    let thin = sampled(SampleSpec { keep: 0.3, ..SampleSpec::default() }, None).len();
    assert!((250..350).contains(&thin), "{thin}");
    let fast = sampled(SampleSpec { compress: 2.0, ..SampleSpec::default() }, None);
    assert_eq!((fast.len(), fast[999].arrival_ns), (1000, 499_500_000_000));
    assert!(Sample::new(steady(1, 1), SampleSpec { keep: 1.5, ..SampleSpec::default() }, None).is_err());
    assert!(Sample::new(steady(1, 1), SampleSpec { compress: 0.0, ..SampleSpec::default() }, None).is_err());
}

#[test]
fn compose_joins_three_sources() {
    let lengths = "num_prefill_tokens,num_decode_tokens\n7,70\n8,80\n".to_owned();
    let pairs = pool(&mut open_text(lengths).expect("opens")).expect("reads");
    let order = "arrival_s,function,adapter,base_model\n0,x,ax,m\n0,y,ay,m\n0,y,ay,m\n".to_owned();
    let follow = Popularity::Follow(Box::new(move || open_text(order.clone())));
    let mut composed = Compose::new(steady(7, 1), Lengths::Resample(pairs), follow, 1).expect("valid");
    let (records, _) = read_all(&mut composed);
    let names: Vec<&str> =
        records.iter().map(|r| composed.catalog().functions()[r.function as usize].name.as_str()).collect();
    assert_eq!(names, ["x", "y", "y", "x", "y", "y", "x"]);
    assert!(records.iter().all(|r| [(7, 70), (8, 80)].contains(&(r.prompt_tokens, r.output_tokens))));
    assert!(records.iter().enumerate().all(|(i, r)| r.arrival_ns == i as u64 * 1_000_000_000));
    assert_eq!(composed.notes().len(), 2);
    let empty = Popularity::Follow(Box::new(|| open_text("arrival_s,function\n".into())));
    let mut stuck = Compose::new(steady(1, 1), Lengths::Keep, empty, 1).expect("opens");
    assert!(stuck.next_item().is_err());
}

#[test]
fn spread_keeps_order_and_steps() {
    let rows: String = (0..300).map(|i| format!("{},f\n", i / 10 * 3)).collect();
    let text = format!("arrival_s,function\n{rows}");
    let run = |step_ns| read_all(&mut Spread::new(open_text(text.clone()).expect("opens"), step_ns, 1)).0;
    for step_ns in [3_000_000_000, 10_000_000_000] {
        let records = run(step_ns);
        assert!(records.len() == 300 && records.is_sorted_by_key(|r| r.arrival_ns));
        let inside = |(i, r): (usize, &Record)| r.arrival_ns / 3_000_000_000 == i as u64 / 10 || i >= 290;
        assert!(records.iter().enumerate().all(inside));
    }
}
