//! Quotas: reserve, settle, refund, and when to come again; time is given.

use coldframe_host::quota::calendar::{Month, until_next_month};
use coldframe_host::quota::{Limit, Now, Quotas, Refusal, Use};
use coldframe_host::records::Quota;
use proptest::prelude::*;
use std::time::Duration;

/// 2026-01-31 23:59:50 UTC.
const EVE_MS: u64 = 1_769_903_990_000;

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall_ms: EVE_MS + seconds * 1_000 }
}

fn tokens(tokens: u64) -> Use {
    Use { tokens, nanodollars: 0 }
}

fn money(nanodollars: u64) -> Use {
    Use { tokens: 0, nanodollars }
}

fn later(limit: Limit, seconds: u64) -> Option<Refusal> {
    Some(Refusal::Later { limit, retry_after: Duration::from_secs(seconds) })
}

#[test]
fn requests_come_back_evenly() {
    let (quotas, quota) = (Quotas::default(), Quota { rpm: Some(6), ..Quota::default() });
    let admit = |seconds| quotas.admit("a", &quota, tokens(1), at(seconds));
    for _ in 0..6 {
        admit(0).unwrap().settle(tokens(1));
    }
    assert_eq!(admit(0).err(), later(Limit::Requests, 10));
    assert_eq!(admit(4).err(), later(Limit::Requests, 6));
    assert!(admit(10).is_ok());
    assert_eq!(admit(10).err(), later(Limit::Requests, 10));
    assert!(quotas.admit("b", &quota, tokens(1), at(10)).is_ok(), "another tenant's quota");
}

#[test]
fn unused_tokens_come_back_and_debts_are_paid() {
    let (quotas, quota) = (Quotas::default(), Quota { tpm: Some(600), ..Quota::default() });
    let admit = |asked, seconds| quotas.admit("a", &quota, tokens(asked), at(seconds));
    let first = admit(500, 0).unwrap();
    assert_eq!(admit(200, 0).err(), later(Limit::Tokens, 10));
    first.settle(tokens(100));
    let second = admit(500, 0).unwrap();
    drop(second);
    let third = admit(500, 0).unwrap();
    third.settle(tokens(800));
    // 900 used of 600: 300 owed, and one asked for.
    assert_eq!(admit(10, 0).err(), later(Limit::Tokens, 31));
    assert!(admit(10, 31).is_ok());
    let never = admit(601, 99).unwrap_err();
    assert_eq!(never, Refusal::Never { limit: Limit::Tokens, asked: 601, quota: 600 });
}

#[test]
fn calls_at_once_are_counted_until_they_end() {
    let (quotas, quota) = (Quotas::default(), Quota { concurrent: Some(2), ..Quota::default() });
    let admit = || quotas.admit("a", &quota, tokens(1), at(0));
    let (one, two) = (admit().unwrap(), admit().unwrap());
    assert_eq!(admit().err(), later(Limit::Concurrent, 1));
    drop(one);
    let three = admit().unwrap();
    two.settle(tokens(1));
    three.settle(tokens(1));
    assert_eq!(quotas.concurrent("a"), 0);
}

#[test]
fn money_lasts_a_calendar_month() {
    let (quotas, quota) = (Quotas::default(), Quota { month_nanodollars: Some(1_000), ..Quota::default() });
    quotas.spend("a", 300, at(0));
    let open = quotas.admit("a", &quota, money(600), at(0)).unwrap();
    assert_eq!(quotas.admit("a", &quota, money(200), at(0)).err(), later(Limit::Month, 10));
    open.settle(money(700));
    assert_eq!(quotas.spent("a", at(0)), 1_000);
    assert_eq!(quotas.admit("a", &quota, money(0), at(9)).err(), later(Limit::Month, 1));
    let across = quotas.admit("a", &quota, money(900), at(10)).unwrap();
    assert_eq!(quotas.spent("a", at(10)), 900, "a new month begins at nothing");
    across.settle(money(100));
    assert_eq!(quotas.spent("a", at(10)), 100);
    let back = Now { monotonic: Duration::from_secs(11), wall_ms: EVE_MS };
    assert_eq!(quotas.spent("a", back), 100, "a calendar set back opened a month again");
}

#[test]
fn a_call_across_the_months_end_is_paid_in_its_own_month() {
    let (quotas, quota) = (Quotas::default(), Quota { month_nanodollars: Some(1_000), ..Quota::default() });
    let old = quotas.admit("a", &quota, money(600), at(0)).unwrap();
    assert_eq!(quotas.spent("a", at(20)), 0);
    old.settle(money(500));
    assert_eq!(quotas.spent("a", at(20)), 0);
}

#[test]
fn a_refusal_takes_nothing() {
    let quota = Quota { rpm: Some(10), tpm: Some(100), month_nanodollars: Some(5), ..Quota::default() };
    let quotas = Quotas::default();
    for _ in 0..50 {
        let ask = Use { tokens: 10, nanodollars: 6 };
        assert!(matches!(
            quotas.admit("a", &quota, ask, at(0)),
            Err(Refusal::Never { limit: Limit::Month, .. })
        ));
    }
    for _ in 0..10 {
        quotas.admit("a", &quota, tokens(10), at(0)).unwrap().settle(tokens(10));
    }
    assert_eq!(quotas.concurrent("a"), 0);
}

#[test]
fn months_are_those_of_the_calendar() {
    let check = |wall_ms, year: u64, month: u64| assert_eq!(Month::of(wall_ms), Month(year * 12 + month - 1));
    check(0, 1970, 1);
    check(951_782_399_999, 2000, 2);
    check(951_868_799_999, 2000, 2);
    check(951_868_800_000, 2000, 3);
    check(EVE_MS, 2026, 1);
    check(EVE_MS + 10_000, 2026, 2);
    assert_eq!(Month::of(EVE_MS + 10_000).start_ms(), EVE_MS + 10_000);
    assert_eq!(until_next_month(EVE_MS), Duration::from_secs(10));
}

proptest! {
    #[test]
    fn months_begin_where_the_one_before_ends(month in 1970_u64 * 12..2400 * 12) {
        let start = Month(month).start_ms();
        prop_assert_eq!(Month::of(start), Month(month));
        prop_assert!(start == 0 || Month::of(start - 1) == Month(month - 1));
    }

    #[test]
    fn no_minute_has_more_than_twice_the_quota(quota in 1_u64..50, gaps in proptest::collection::vec(0_u64..20, 200)) {
        let quotas = Quotas::default();
        let limits = Quota { rpm: Some(quota), ..Quota::default() };
        let (mut now, mut admitted) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            match quotas.admit("a", &limits, tokens(0), at(now)) {
                Ok(call) => { call.settle(tokens(0)); admitted.push(now); }
                Err(Refusal::Later { retry_after, .. }) => {
                    let wall_ms = EVE_MS + now * 1_000;
                    let then = Now { monotonic: Duration::from_secs(now) + retry_after, wall_ms };
                    prop_assert!(quotas.admit("a", &limits, tokens(0), then).is_ok(), "too early a retry");
                    now += retry_after.as_secs() + 1;
                    admitted.push(now);
                }
                Err(never) => prop_assert!(false, "{}", never),
            }
        }
        for start in &admitted {
            let minute = admitted.iter().filter(|time| (*start..*start + 60).contains(time)).count() as u64;
            prop_assert!(minute <= 2 * quota + 1, "{} in a minute of quota {}", minute, quota);
        }
    }
}
