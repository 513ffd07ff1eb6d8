//! Every shipped file is read, looked up and cross-checked; the wrong inputs a user may give are refused with help.

use super::*;

fn step(gpu: &str, model: &str) -> Result<StepProfile, ProfileError> {
    Profiles::step(&Profiles::gpu(gpu)?, &Profiles::model(model)?)
}

#[test]
fn every_shipped_file_is_valid_and_named_as_its_file() {
    for kind in Kind::ALL {
        for name in Profiles::names(kind) {
            let text = Profiles::text(kind, name).expect("shipped");
            assert!(text.contains("source = "), "{kind} {name}");
        }
    }
    for name in Profiles::names(Kind::Gpu) {
        let gpu = Profiles::gpu(name).expect("shipped");
        assert_eq!(gpu.name, name);
        assert!(gpu.memory_bytes > 20 << 30 && gpu.host_link_bytes_per_s < gpu.memory_bytes_per_s);
    }
    for name in Profiles::names(Kind::Model) {
        assert_eq!(Profiles::model(name).expect("shipped").name, name);
    }
    for name in Profiles::names(Kind::ColdStart) {
        assert_eq!(Profiles::cold_start(name).expect("shipped").name, name);
    }
    for name in Profiles::names(Kind::Fleet) {
        let fleet = Profiles::fleet(name).expect("shipped");
        assert_eq!(fleet.name, name);
        Profiles::gpu(&fleet.gpu).expect("a fleet's GPU is known");
    }
}

#[test]
fn every_step_row_names_a_known_gpu_and_model() {
    assert_eq!(Profiles::steps().len(), 18);
    for row in Profiles::steps() {
        assert_eq!(Profiles::gpu(&row.gpu).expect("known").name, row.gpu);
        assert_eq!(Profiles::model(&row.model).expect("known").name, row.model);
        assert_eq!(Profiles::steps_in(&row.name).expect("by name"), std::slice::from_ref(row));
    }
}

#[test]
fn every_tariff_prices_known_gpus() {
    for tariff in Profiles::tariffs() {
        for gpu in tariff.gpu_nano_usd_per_s.keys() {
            assert_eq!(&Profiles::gpu(gpu).expect("known").name, gpu);
        }
    }
    assert_eq!(Profiles::tariffs()[0].name, "gpu-second");
}

#[test]
fn a_pair_prefers_layer_profiles_and_then_a_model_of_the_same_shape() {
    let name = |gpu, model| step(gpu, model).expect("measured").name;
    assert_eq!(name("a100-80", "llama-2-7b"), "vidur,A100-80GB,llama-2-7b");
    assert_eq!(name("A100-SXM-80GB", "llama-2-13b"), "aiconfigurator,A100-SXM-80GB,llama-2-13b");
    assert_eq!(name("a100", "llama-3.1-8b"), "aiconfigurator,A100-SXM-80GB,llama-3.1-8b");
    assert_eq!(name("h100", "llama-3-8b"), "aiconfigurator,H100-SXM-80GB,llama-3.1-8b");
    assert_eq!(name("RTXPRO6000-96GB", "llama-3.1-8b"), "llmservingsim,RTXPRO6000-96GB,llama-3.1-8b");
    let gpu = Profiles::gpu("h100").expect("known");
    let model = Profiles::model("llama-2-7b").expect("known");
    let other = Profiles::step_from("aiconfigurator", &gpu, &model).expect("measured");
    assert_eq!(other.name, "aiconfigurator,H100-SXM-80GB,llama-2-7b");
}

#[test]
fn an_unmeasured_pair_is_refused_with_the_pairs_there_are() {
    let error = step("b200", "llama-2-7b").expect_err("nobody measured it").to_string();
    assert!(error.contains("`llama-2-7b` on `b200`") && error.contains("l40s/llama-2-13b"), "{error}");
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_one() {
    let error = Profiles::gpu("l40").expect_err("unknown").to_string();
    assert!(error.contains("did you mean `l4") && error.contains("h200"), "{error}");
    let error = Profiles::model("lama-2-7b").expect_err("unknown").to_string();
    assert!(error.contains("did you mean `llama-2-7b`"), "{error}");
    let error = Profiles::tariff("zzz").expect_err("unknown").to_string();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn a_users_file_is_taken_and_a_wrong_key_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mine.toml");
    let text = Profiles::text(Kind::Gpu, "l40s").expect("shipped").replace("\"l40s\"", "\"mine\"");
    std::fs::write(&path, &text).expect("written");
    let name = path.to_str().expect("a plain name");
    assert_eq!(Profiles::gpu(name).expect("valid").name, "mine");
    assert_eq!(Profiles::text(Kind::Gpu, name).expect("valid"), text);

    std::fs::write(&path, format!("{text}memory_gb = 48\n")).expect("written");
    let error = Profiles::gpu(name).expect_err("an unknown key").to_string();
    assert!(error.contains("memory_gb") && error.contains("mine.toml"), "{error}");
    std::fs::write(
        &path,
        text.replace("host_link_bytes_per_s = 26_000_000_000", "host_link_bytes_per_s = 0"),
    )
    .expect("written");
    let error = Profiles::gpu(name).expect_err("a zero rate").to_string();
    assert!(error.contains("`host_link_bytes_per_s` must not be zero"), "{error}");
    assert!(matches!(Profiles::gpu("no/such.toml"), Err(ProfileError::Read { .. })));
}

#[test]
fn step_formulas_match_the_fit() {
    let row = &Profiles::steps_in("vidur,A100-80GB,llama-2-7b").expect("shipped")[0];
    // max(9.927, 1.6051 + 0.062853·512 + 2.133e-6·512²) ms, and 9.6312 + 0.01996·32 + 0.0003218·16384 ms.
    assert_eq!(row.prefill_ns(512), 34_344_990);
    assert_eq!(row.prefill_ns(16), 9_927_000);
    assert_eq!(row.decode_ns(32, 16_384), 15_542_292);
    assert_eq!((row.host_ps, row.adapter_layer_ps * 32), (3_000_000_000, 2_000_000_000));
}

#[test]
fn the_timeline_regime_loads_a_7b_in_the_times_of_the_figure() {
    let cold = Profiles::cold_start("timeline").expect("shipped");
    let bytes = u128::from(Profiles::model("llama-2-7b").expect("shipped").weight_bytes);
    let ns = |rate: u64| bytes * 1_000_000_000 / u128::from(rate);
    assert_eq!(ns(cold.default_loader_bytes_per_s) / 1_000, 4_200_000);
    assert_eq!(ns(cold.fast_loader_bytes_per_s) / 1_000, 1_830_000);
}

#[test]
fn the_engine_regime_starts_in_158_seconds() {
    let cold = Profiles::cold_start("engine").expect("shipped");
    let bytes = u128::from(Profiles::model("llama-3.1-8b").expect("shipped").weight_bytes);
    let weights_ns = bytes * 1_000_000_000 / u128::from(cold.default_loader_bytes_per_s);
    let fixed_ns = cold.container_ns + cold.runtime_ns + cold.backbone_fixed_ns + cold.kernel_ns;
    assert_eq!((u128::from(fixed_ns) + weights_ns) / 1_000_000, 158_000);
}
