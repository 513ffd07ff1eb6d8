//! Known bills, and the properties of all of them: lines add up, nothing is negative, more use never costs less.

use super::*;
use crate::profile::Profiles;
use proptest::prelude::*;

const S: u64 = 1_000_000_000;

fn l40s(busy_s: u64, loading_s: u64, idle_s: u64) -> GpuUsage {
    let mut lives = Lives::default();
    lives.end((busy_s + loading_s + idle_s) * S);
    GpuUsage {
        gpu: "l40s".to_owned(),
        memory_bytes: 48_000_000_000,
        reserved_ns: (busy_s + loading_s + idle_s) * S,
        busy_ns: busy_s * S,
        loading_ns: loading_s * S,
        idle_ns: idle_s * S,
        byte_ns: 24_000_000_000 * u128::from((busy_s + loading_s + idle_s) * S),
        lives,
    }
}

fn usage(gpu: GpuUsage) -> Usage {
    Usage {
        gpu: vec![gpu],
        vcpu_ns: 8 * 100 * u128::from(S),
        host_byte_ns: 64_000_000_000 * 100 * u128::from(S),
        requests: 2_000,
        completed: 1_000,
        tokens: 500_000,
    }
}

fn lines(tariff: &str, usage: &Usage) -> Vec<u64> {
    let bill = bill(&Profiles::tariff(tariff).expect("shipped"), usage).expect("priced");
    assert_eq!(bill.lines.iter().map(|line| line.1).sum::<u64>(), bill.total_nano_usd);
    assert_eq!(
        bill.lines.iter().map(|line| line.0.as_str()).collect::<Vec<_>>(),
        ["gpu", "cpu", "memory", "requests", "rounding"]
    );
    bill.lines.into_iter().map(|line| line.1).collect()
}

#[test]
fn the_same_use_under_three_tariffs() {
    let use_ = usage(l40s(60, 10, 30));
    assert_eq!(lines("gpu-second", &use_), [54_200_000, 0, 0, 0, 0]);
    // Half the memory held all the time.
    assert_eq!(lines("memory-share", &use_), [27_100_000, 0, 0, 0, 0]);
    assert_eq!(lines("cerebrium", &use_), [54_200_000, 5_240_000, 14_208_000, 0, 0]);
}

#[test]
fn what_is_not_billed_is_left_out() {
    let mut tariff = Profiles::tariff("gpu-second").expect("shipped");
    (tariff.bill_startup, tariff.bill_idle) = (false, false);
    tariff.request_nano_usd = 200;
    let bill = bill(&tariff, &usage(l40s(60, 10, 30))).expect("priced");
    assert_eq!(bill.total_nano_usd, 60 * 542_000 + 2_000 * 200);
    assert!((bill.per_1000_requests_usd - 0.03292).abs() < 1e-12);
    assert!((bill.per_million_tokens_usd - 0.06584).abs() < 1e-12);
}

#[test]
fn lives_are_rounded_one_by_one() {
    let mut lives = Lives::default();
    lives.end(S / 2);
    lives.end(S + 1);
    lives.end(61 * S);
    assert_eq!(lives.sum_ns(), 62 * S + S / 2 + 1);
    assert_eq!(lives.added_ns(LifeRule::Up1S), S / 2 + (S - 1));
    assert_eq!(lives.added_ns(LifeRule::Up60S), (60 + 60 + 120) * S - lives.sum_ns());
    assert_eq!(lives.added_ns(LifeRule::Up100MsMin60S), (60 + 60 + 61) * S - lives.sum_ns());
    assert_eq!(lives.added_ns(LifeRule::Up100Ms), S / 10 - 1);
    assert_eq!(lives.added_ns(LifeRule::Exact), 0);

    let mut gpu = l40s(0, 0, 0);
    (gpu.busy_ns, gpu.lives) = (lives.sum_ns(), lives);
    let [gpu_line, .., rounding] = lines("runpod-flex", &usage(gpu))[..] else { panic!("five lines") };
    assert_eq!(gpu_line + rounding, 64 * 530_000 + 1, "each line rounds up on its own");
}

#[test]
fn a_gpu_without_a_price_is_an_error_that_names_those_with_one() {
    let mut gpu = l40s(1, 0, 0);
    gpu.gpu = "rtx-pro-6000".to_owned();
    let tariff = Profiles::tariff("cloud-run").expect("shipped");
    assert!(!tariff.prices(&gpu.gpu));
    let error = bill(&tariff, &usage(gpu)).expect_err("no price").to_string();
    assert_eq!(error, "tariff `cloud-run` has no price for `rtx-pro-6000`; it prices l4");
}

#[test]
fn amounts_beyond_64_bits_are_refused() {
    let mut use_ = usage(l40s(1, 0, 0));
    use_.vcpu_ns = u128::MAX;
    let tariff = Profiles::tariff("cerebrium").expect("shipped");
    assert!(matches!(bill(&tariff, &use_), Err(CostError::TooLarge { .. })));
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let time = 0..1u64 << 50;
    let gpu = (
        time.clone(),
        time.clone(),
        time,
        0..u128::from(u64::MAX),
        prop::collection::vec(0..1u64 << 42, 0..8),
    );
    (gpu, 0..1u128 << 60, 0..1u128 << 90, 0..1u64 << 40).prop_map(
        |((busy_ns, loading_ns, idle_ns, byte_ns, ends), vcpu_ns, host_byte_ns, requests)| {
            let mut lives = Lives::default();
            ends.into_iter().for_each(|life| lives.end(life));
            let reserved_ns = busy_ns + loading_ns + idle_ns;
            let gpu = GpuUsage { reserved_ns, busy_ns, loading_ns, idle_ns, byte_ns, lives, ..l40s(0, 0, 0) };
            Usage { gpu: vec![gpu], vcpu_ns, host_byte_ns, requests, completed: requests, tokens: requests }
        },
    )
}

// What more use looks like: every quantity at least as large.
fn add(usage: &Usage, more: &Usage) -> Usage {
    let mut sum = usage.clone();
    let (a, b) = (&mut sum.gpu[0], &more.gpu[0]);
    a.reserved_ns += b.reserved_ns;
    a.busy_ns += b.busy_ns;
    a.loading_ns += b.loading_ns;
    a.idle_ns += b.idle_ns;
    a.byte_ns += b.byte_ns;
    a.lives.count += b.lives.count;
    for (sum, more) in a.lives.rounded_ns.iter_mut().zip(b.lives.rounded_ns) {
        *sum += more;
    }
    sum.vcpu_ns += more.vcpu_ns;
    sum.host_byte_ns += more.host_byte_ns;
    sum.requests += more.requests;
    sum
}

proptest! {
    #[test]
    fn lines_add_up_and_more_use_never_costs_less(one in any_usage(), two in any_usage()) {
        for tariff in Profiles::tariffs().iter().filter(|tariff| tariff.prices("l40s")) {
            let less = bill(tariff, &one).expect("fits");
            let more = bill(tariff, &add(&one, &two)).expect("fits");
            prop_assert_eq!(less.lines.iter().map(|line| line.1).sum::<u64>(), less.total_nano_usd);
            for (a, b) in less.lines.iter().zip(&more.lines) {
                prop_assert!(a.1 <= b.1, "{} under {}: {} then {}", a.0, tariff.name, a.1, b.1);
            }
        }
    }

    #[test]
    fn a_billed_life_is_never_shorter_than_the_life(life_ns in 0..u64::MAX / 2) {
        for rule in LifeRule::ALL {
            prop_assert!(rule.billed_ns(life_ns) >= life_ns);
        }
    }
}
