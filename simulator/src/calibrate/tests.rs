//! Calibrations of a machine whose laws are known: the fits find them, and the file reads back as profiles.

use super::*;
use crate::profile::{EngineRules, Kind, Profiles};

/// A machine that obeys the formulas exactly: prefill 2 ms + 50 µs a token, decode 3 ms + 400 µs a row + 1 µs a token,
/// host 100 µs, adapters 500 µs a step and 10 µs a token beside the read of their bytes.
fn machine() -> Measured {
    let bandwidths = Bandwidths {
        disk_alone: Some(900_000_000),
        disk_contended: Some(1_200_000_000),
        memory_alone: 8_000_000_000,
        memory_contended: 10_000_000_000,
        copy_alone: 5_000_000_000,
        copy_contended: 6_000_000_000,
    };
    let mut steps = Vec::new();
    for adapters in [0, 1, 4] {
        for prompt in [16, 64, 256, 512] {
            steps.push(step(prompt, 0, 0, adapters));
        }
        for rows in [1, 4, 16] {
            for context in [64, 256] {
                steps.push(step(0, rows, rows * context, adapters.min(rows)));
            }
        }
    }
    steps.push(step(128, 4, 400, 0));
    Measured {
        machine: Machine {
            name: "bench".to_owned(),
            device: "a CPU (2 threads)".to_owned(),
            date: "2026-01-31".to_owned(),
            threads: 2,
            device_bytes: 8_000_000_000,
            host_bytes: 16_000_000_000,
            rounds: 3,
            runs: 1,
            price_nano_usd_per_s: Some(25_000),
        },
        shape: Shape {
            name: "tiny \"model\"".to_owned(),
            layers: 10,
            hidden: 576,
            vocab: 49_152,
            weight_bytes: 90_000_000,
            kv_bytes_per_token: 23_040,
            context_bytes: 1_000_000,
        },
        steps,
        adapters: [8u32, 16, 32].map(|rank| load(rank, Some(9_000_000))).to_vec(),
        backbone: BackboneLoad {
            bytes: 90_000_000,
            map_ns: 20_000_000,
            disk_ns: Some(130_000_000),
            first_step_ns: 9_000_000,
            usual_step_ns: 4_000_000,
        },
        bandwidths,
        rank: 16,
        engine: Some(EngineRules { max_sequences: 64, max_batched_tokens: 512, prefill_quantum: 128 }),
        ..Measured::default()
    }
}

fn load(rank: u32, disk_ns: Option<u64>) -> AdapterLoad {
    let bytes = u64::from(rank) * 100_000;
    AdapterLoad { rank, bytes, file_bytes: bytes + 500, disk_ns, memory_ns: 2_000_000 + bytes / 10 }
}

fn step(prompt: u64, rows: u64, cached: u64, adapters: u64) -> StepPoint {
    let bare = if prompt > 0 {
        2_000_000 + 50_000 * (prompt + rows) + 1_000 * cached
    } else {
        3_000_000 + 400_000 * rows + 1_000 * cached
    };
    let adapter_bytes = adapters * 1_600_000;
    let extra = if adapters == 0 { 0 } else { 500_000 + 10_000 * (prompt + rows) + adapter_bytes / 10 };
    StepPoint { prompt, rows, cached, adapters, adapter_bytes, device_ns: bare + extra, host_ns: 100_000 }
}

fn near(found: u64, wanted: u64) {
    let off = (found as f64 / wanted as f64 - 1.0).abs();
    assert!(off < 1e-3, "{found} is not {wanted}");
}

#[test]
fn fits_find_the_laws() {
    let derived = derive(&machine()).expect("enough points");
    near(derived.host_ps, 100_000_000);
    near(derived.prefill_ps[0], 2_000_000_000);
    near(derived.prefill_ps[1], 50_000_000);
    assert_eq!(derived.prefill_ps[2], 0);
    near(derived.decode_ps[0], 3_000_000_000);
    near(derived.decode_ps[1], 400_000_000);
    near(derived.decode_ps[2], 1_000_000);
    near(derived.adapter_layer_ps, 50_000_000);
    near(derived.adapter_token_ps, 10_000_000);
    near(derived.adapter_bytes_per_rank, 100_000);
    assert_eq!((derived.adapter.rank, derived.first_step_ns), (16, 5_000_000));
    assert!(derived.fits.iter().all(|note| note.errors.worst < 1e-3), "{:?}", derived.fits);
    assert_eq!(derived.fits.len(), 5, "prefill, decode, adapters, loads, mixed");
    near(derived.adapter_disk[0] as u64, 2_000_000);
    near((derived.adapter_disk[1] * 1e6) as u64, 100_000);
}

#[test]
fn the_way_beside_the_steps_is_found() {
    let mut measured = machine();
    for rows in [0, 2, 8] {
        for prompt in [32, 128] {
            let adapter_bytes = (rows + 1) * 1_600_000;
            let own = step(prompt, rows, rows * 64, rows + 1);
            let mut ttft_ns = own.device_ns + own.host_ns + 4_000_000 + 20_000 * prompt;
            if rows > 0 {
                let under_way = step(0, rows, rows * 64, rows);
                ttft_ns += (under_way.device_ns + under_way.host_ns) / 2 + 700_000;
            }
            measured.firsts.push(FirstPoint { rows, cached: rows * 64, prompt, adapter_bytes, ttft_ns });
        }
    }
    let edge = derive(&measured).expect("enough points").edge.expect("measured");
    near(edge.request_ps, 4_000_000_000);
    near(edge.busy_ps, 700_000_000);
    near(edge.token_ps, 20_000_000);
    assert_eq!(edge.ns(2, 10), 4_000_000 + 700_000 + 200_000, "all of it adds up");
    assert_eq!(edge.ns(0, 10), 4_000_000 + 200_000, "nothing runs");
}

#[test]
fn loads_beside_streams_take_longer() {
    let mut measured = machine();
    assert_eq!(
        derive(&measured).expect("enough points").adapter_busy.to_bits(),
        1f64.to_bits(),
        "not measured"
    );
    // Alone 2 ms and 0.1 ns a byte.
    let load = |rows, load_ns| ServedLoad { rows, bytes: 10_000_000, load_ns };
    measured.served_loads = vec![load(0, 6_000_000), load(1, 12_000_000), load(3, 18_000_000)];
    let derived = derive(&measured).expect("enough points");
    near(derived.adapter_disk[0] as u64, 4_000_000);
    near((derived.adapter_disk[1] * 1e6) as u64, 200_000);
    near((derived.adapter_busy * 1e6) as u64, 2_500_000);
    assert!(text(&measured, &derived).contains("\nadapter_busy_permille = 2500\n"));
}

#[test]
fn decode_is_that_of_a_server_where_it_was_measured() {
    let mut measured = machine();
    // Streams on adapters of 1 MB: 2 ms + 500 µs a row beside 1 µs a position, the engine's own 100 µs and what adapters take.
    let point = |rows: u64| {
        let adapters = 500_000 + 10_000 * rows + 100_000 * rows;
        let step_ns = 2_000_000 + 500_000 * rows + 1_000 * rows * 64 + 100_000 + adapters;
        ServingPoint { rows, cached: rows * 64, adapter_bytes: rows * 1_000_000, step_ns }
    };
    measured.serving = [1, 4, 16].map(point).to_vec();
    let derived = derive(&measured).expect("enough points");
    near(derived.host_ps, 100_000_000);
    [2_000_000_000, 500_000_000, 1_000_000]
        .into_iter()
        .zip(derived.decode_ps)
        .for_each(|(law, found)| near(found, law));
    near(derived.prefill_ps[1], 50_000_000);
    let served =
        StepPoint { rows: 4, cached: 256, adapters: 4, adapter_bytes: 4_000_000, ..StepPoint::default() };
    near(derived.predict_ns(&served) as u64 + 100_000, point(4).step_ns);

    // Tiles: 4 rows are cheaper than the line says. The profile has them as they were.
    measured.serving[1].step_ns -= 400_000;
    let derived = derive(&measured).expect("enough points");
    let worst = derived.fits.iter().map(|note| note.errors.worst).fold(0.0, f64::max);
    assert!(worst > 0.03, "the line's error is told: {worst}");
    near(derived.predict_ns(&served) as u64 + 100_000, point(4).step_ns - 400_000);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("profile.toml");
    let written = text(&measured, &derived);
    std::fs::write(&path, &written).expect("written");
    let path = path.to_str().expect("UTF-8");
    let (gpu, model) = (Profiles::gpu(path).expect("a gpu"), Profiles::model(path).expect("a model"));
    let row = Profiles::step_from(path, &gpu, &model).expect("a step section");
    assert_eq!((row.decode_rows_ps.0.len(), &row.decode_rows_ps), (3, &derived.decode_rows_ps));
    std::fs::write(path, written.replace("[[1, ", "[[5, ")).expect("written");
    let told = Profiles::step_from(path, &gpu, &model).expect_err("numbers that do not rise").to_string();
    assert!(told.contains("decode_rows_ps"), "{told}");
}

#[test]
fn a_law_with_another_shape_shows_in_the_errors() {
    let mut measured = machine();
    let odd = measured.steps.iter_mut().filter(|p| p.prompt == 256);
    odd.for_each(|p| p.device_ns *= 3);
    let derived = derive(&measured).expect("enough points");
    assert!(derived.fits[0].errors.worst > 0.2, "{:?}", derived.fits[0]);
}

#[test]
fn too_few_points_are_refused() {
    let mut measured = machine();
    measured.steps.retain(|p| p.prompt != 0);
    let told = derive(&measured).expect_err("no decode").to_string();
    assert!(told.contains("decode") && told.contains("--quick"), "{told}");
}

#[test]
fn negative_coefficients_are_never_taken() {
    let rows = [(1.0, 10.0), (2.0, 9.0), (3.0, 8.0)];
    let rows = rows.map(|(x, y)| Row { x: [1.0, x], y, of: y });
    let found = fit(&rows);
    assert!(found.k[1] == 0.0 && (8.0..=10.0).contains(&found.k[0]), "{found:?}");
    assert_eq!(fit::<2>(&[]).k, [0.0; 2]);
}

#[test]
fn the_file_reads_back_as_every_kind() {
    let measured = machine();
    let derived = derive(&measured).expect("enough points");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("profile.toml");
    std::fs::write(&path, text(&measured, &derived)).expect("written");
    let path = path.to_str().expect("UTF-8");
    let gpu = Profiles::gpu(path).expect("a gpu section");
    let model = Profiles::model(path).expect("a model section");
    assert_eq!((gpu.name.as_str(), model.name.as_str()), ("bench", "tiny \"model\""));
    let row = Profiles::step_from(path, &gpu, &model).expect("a step section");
    assert_eq!((row.decode_ps(), row.adapter_token_ps), (derived.decode_ps, derived.adapter_token_ps));
    let cold = Profiles::cold_start(path).expect("a cold-start section");
    near(cold.adapter_disk_ns, 2_000_000);
    near(cold.adapter_disk_bytes_per_s.expect("a rate"), 10_000_000_000);
    assert_eq!(
        (cold.adapter_activate_ns, cold.backbone_fixed_ns, cold.backbone_mapped),
        (0, 25_000_000, true)
    );
    assert_eq!(row.engine, measured.engine);
    assert_eq!(Profiles::fleet(path).expect("a fleet section").workers, 1);
    assert!(Profiles::tariff(path).expect("a tariff section").prices("bench"));
    assert!(Profiles::has_section(path, Kind::Tariff).expect("a readable file"));
}

#[test]
fn several_runs_are_told_at_their_mean() {
    let fast = machine();
    let mut slow = machine();
    slow.steps.iter_mut().for_each(|p| p.device_ns = p.device_ns * 3 / 2);
    slow.adapters.iter_mut().for_each(|load| (load.memory_ns, load.disk_ns) = (load.memory_ns * 2, None));
    slow.shape.context_bytes += 8192;
    let written = serde_json::to_string(&slow).expect("a line");
    let slow: Measured = serde_json::from_str(&written).expect("read back");
    let whole = mean(&[fast.clone(), slow.clone()]).expect("of one kind");
    let steps = whole.steps.iter().zip(&fast.steps);
    steps.for_each(|(whole, fast)| near(whole.device_ns, fast.device_ns * 5 / 4));
    near(whole.adapters[0].memory_ns, fast.adapters[0].memory_ns * 3 / 2);
    assert_eq!(whole.adapters[0].disk_ns, fast.adapters[0].disk_ns, "what one run could measure");
    assert_eq!(whole.shape.context_bytes, fast.shape.context_bytes + 4096);
    assert_eq!((whole.backbone, whole.bandwidths), (fast.backbone, fast.bandwidths));
    let derived = derive(&whole).expect("enough points");
    near(derived.prefill_ps[1], 62_500_000);
    assert!(text(&whole, &derived).contains("means of 2 runs, in each the median of 3 rounds"));
    assert_eq!(mean(std::slice::from_ref(&fast)).expect("one run").steps, fast.steps);

    let mut other = slow.clone();
    other.shape.layers += 1;
    let told = mean(&[other, fast.clone()]).expect_err("another model").to_string();
    assert!(told.contains("run 1 of 2") && told.contains("model"), "{told}");
    let mut rules = slow.clone();
    rules.engine = None;
    let told = mean(&[rules, fast.clone()]).expect_err("other rules").to_string();
    assert!(told.contains("engine's rules"), "{told}");
    let mut fewer = slow;
    fewer.steps.pop();
    let told = mean(&[fast, fewer]).expect_err("fewer steps").to_string();
    assert!(told.contains("--quick"), "{told}");
    assert!(mean(&[]).is_err());
}

#[test]
fn what_was_not_measured_is_said() {
    let mut measured = machine();
    measured.bandwidths.disk_alone = None;
    measured.bandwidths.disk_contended = None;
    measured.adapters = vec![load(16, None)];
    let derived = derive(&measured).expect("enough points");
    let text = text(&measured, &derived);
    assert_eq!(text.matches("could not be dropped").count(), 2, "{text}");
    assert!(text.contains("No module was measured"), "{text}");
}

#[test]
fn the_page_shows_every_point() {
    let measured = machine();
    let derived = derive(&measured).expect("enough points");
    let html = page(&measured, &derived);
    assert!(html.contains("tiny &quot;model&quot;") && !html.contains("NaN"));
    assert!(html.matches("class=\"dot").count() >= measured.steps.len());
}
