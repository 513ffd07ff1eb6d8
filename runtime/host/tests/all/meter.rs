//! Money: the residency game against brute force, sums to the nano-dollar, tables that read back.

use coldframe_host::meter::export::{Format, Table, write};
use coldframe_host::meter::{
    DevicePrice, Keepers, LedgerRow, Outcome, Pricer, Prices, RequestRow, ResidencyRow, SHARE_UNIT, Share,
    Thing, charges, statement,
};
use coldframe_simulator::cost::{GpuBasis, Tariff, apportion};
use coldframe_simulator::profile::Profiles;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use proptest::prelude::*;

/// Players of the games: their orders are counted out.
const PLAYERS: usize = 5;

/// A stretch of time (ns) and who needs the backbone in it, as bits.
type Stretch = (u64, u32);

/// What a group alone would have kept it for.
fn alone(game: &[Stretch], group: u32) -> u64 {
    game.iter().filter(|(_, needing)| needing & group != 0).map(|(ns, _)| ns).sum()
}

/// 5! times each player's Shapley value, over all orders.
fn brute_force(game: &[Stretch]) -> [u64; PLAYERS] {
    let mut sums = [0; PLAYERS];
    let mut order: Vec<usize> = (0..PLAYERS).collect();
    permute(&mut order, 0, &mut |order| {
        let mut before = 0u32;
        for &player in order {
            let with = before | 1 << player;
            sums[player] += alone(game, with) - alone(game, before);
            before = with;
        }
    });
    sums
}

fn permute(order: &mut Vec<usize>, at: usize, each: &mut impl FnMut(&[usize])) {
    if at == order.len() {
        return each(order);
    }
    for n in at..order.len() {
        order.swap(at, n);
        permute(order, at + 1, each);
        order.swap(at, n);
    }
}

fn weights(game: &[Stretch]) -> [u128; PLAYERS] {
    let (mut keepers, mut at) = (Keepers::default(), 0);
    for (ns, needing) in game {
        keepers.set(at, (0..PLAYERS).filter(|p| needing & 1 << p != 0).collect());
        at += ns;
    }
    let weights = keepers.take(at);
    std::array::from_fn(|p| u128::from(weights.get(&p).copied().unwrap_or(0)))
}

fn games() -> impl Strategy<Value = Vec<Stretch>> {
    prop::collection::vec((1..1u64 << 32, 1..1u32 << PLAYERS), 1..12)
}

proptest! {
    #[test]
    fn the_closed_form_is_the_shapley_value(game in games(), total in 0..1u64 << 40) {
        let (weights, brute) = (weights(&game), brute_force(&game));
        for (weight, brute) in weights.iter().zip(brute) {
            // Both in 1/120 ns; each stretch rounds a share down by less than a unit.
            let (exact, found) = (u128::from(brute) * u128::from(SHARE_UNIT), weight * 120);
            prop_assert!(found <= exact && exact - found <= 120 * game.len() as u128, "{found} {exact}");
        }
        // Efficiency: the parts of the cost are the cost. Null player: who never needed it pays nothing. Symmetry: who
        // needed it at the same times pays the same, to the nano-dollar that can't be halved.
        let parts = apportion(total, &weights);
        prop_assert_eq!(parts.iter().sum::<u64>(), total);
        for a in 0..PLAYERS {
            if game.iter().all(|(_, needing)| needing & 1 << a == 0) {
                prop_assert_eq!(parts[a], 0);
            }
            for b in 0..PLAYERS {
                if game.iter().all(|(_, n)| (n >> a & 1) == (n >> b & 1)) {
                    prop_assert!(parts[a].abs_diff(parts[b]) <= 1);
                }
            }
        }
        let whole: u64 = game.iter().map(|(ns, _)| ns).sum();
        for (part, brute) in parts.iter().zip(brute) {
            let exact = u128::from(total) * u128::from(brute) / (120 * u128::from(whole));
            prop_assert!(u128::from(*part).abs_diff(exact) <= 2, "{part} {exact}");
        }
    }
}

#[test]
fn who_needed_it_last_pays_for_the_time_nobody_does() {
    let mut keepers = Keepers::default();
    keepers.set(0, vec!["a", "b"]);
    keepers.set(10, vec!["b"]);
    keepers.set(20, vec![]);
    let weights = keepers.take(50);
    assert_eq!((weights["a"], weights["b"]), (5 * SHARE_UNIT, 45 * SHARE_UNIT));
    keepers.clear();
    assert!(keepers.take(90).is_empty());
}

fn request(n: u64, device_ns: u64, held_ns: u64, sandbox_ns: u64) -> LedgerRow {
    LedgerRow::Request(Box::new(RequestRow {
        id: format!("r{n}"),
        tenant: format!("t{}", n % 2),
        function: format!("f{}", n % 5),
        generation: "g".to_owned(),
        backbone: "tiny".to_owned(),
        arrived_ms: n,
        took_ns: held_ns,
        outcome: Outcome::Completed,
        cold: "warm".to_owned(),
        prompt_tokens: 10,
        cached_tokens: 0,
        completion_tokens: 5,
        device_ns,
        kv_bytes: 1 << 20,
        admitted_ns: held_ns,
        sandbox_ns,
        fuel: 1,
        guest_bytes: 0,
        ttft_ns: 45,
        phases_ns: [1, 2, 3, 4, 5, 6, 7, 8, 9],
        nanodollars: 0,
    }))
}

fn residency(n: u64, bytes: u64, ns: u64, thing: Thing) -> LedgerRow {
    let shared = thing == Thing::Backbone;
    let name = |text: String| if shared { String::new() } else { text };
    LedgerRow::Residency(Box::new(ResidencyRow {
        tenant: name(format!("t{}", n % 2)),
        function: name(format!("f{}", n % 5)),
        generation: name("g".to_owned()),
        backbone: "tiny".to_owned(),
        thing,
        tier: if n.is_multiple_of(3) && !shared { "host" } else { "device" }.to_owned(),
        bytes,
        start_ms: 0,
        ns,
        keepers: if shared {
            vec![("t0".to_owned(), "f0".to_owned(), n + 1), ("t1".to_owned(), "f1".to_owned(), 2)]
        } else {
            vec![]
        },
        nanodollars: 0,
    }))
}

fn rows() -> impl Strategy<Value = Vec<LedgerRow>> {
    let time = 0..1u64 << 40;
    prop::collection::vec(
        prop_oneof![
            (0..20u64, time.clone(), time.clone(), time.clone()).prop_map(|(n, d, h, s)| request(n, d, h, s)),
            (0..20u64, 1..1u64 << 33, time.clone()).prop_map(|(n, b, ns)| residency(
                n,
                b,
                ns,
                Thing::Adapter
            )),
            (0..20u64, 1..1u64 << 33, time).prop_map(|(n, b, ns)| residency(n, b, ns, Thing::Backbone)),
        ],
        1..40,
    )
}

fn device() -> DevicePrice {
    DevicePrice { name: "l40s".to_owned(), memory_bytes: 48_000_000_000 }
}

fn tariffs() -> Vec<Tariff> {
    Profiles::tariffs().iter().filter(|tariff| tariff.prices("l40s")).cloned().collect()
}

proptest! {
    #[test]
    fn every_way_of_sharing_sums_to_the_bill(rows in rows()) {
        for tariff in tariffs() {
            let statement = statement(&tariff, &device(), &rows).expect("priced");
            for share in Share::ALL {
                let parts: u64 = statement.accounts.iter().map(|account| account.total_nano_usd(share)).sum();
                prop_assert_eq!(parts + statement.unclaimed_nano_usd, statement.bill.total_nano_usd, "{} {:?}", &tariff.name, share);
            }
        }
    }
}

#[test]
fn a_statement_by_hand() {
    let second = 1_000_000_000;
    let rows = [
        request(0, second, 0, 0),
        request(1, 3 * second, 0, 0),
        LedgerRow::Residency(Box::new(ResidencyRow {
            keepers: vec![("t0".to_owned(), "f0".to_owned(), 1), ("t1".to_owned(), "f1".to_owned(), 1)],
            ..match residency(0, 1 << 30, 10 * second, Thing::Backbone) {
                LedgerRow::Residency(row) => *row,
                LedgerRow::Request(_) => unreachable!("made above"),
            }
        })),
    ];
    // 542,000 nano-dollars a second: ten seconds held, four of them busy.
    let tariff = Profiles::tariff("gpu-second").expect("shipped");
    let said = statement(&tariff, &device(), &rows).expect("priced");
    assert_eq!(said.bill.total_nano_usd, 5_420_000);
    let parts: Vec<_> = said.accounts.iter().map(|a| (a.own_nano_usd, a.shared_nano_usd)).collect();
    assert_eq!(
        parts,
        [(542_000, [1_626_000, 813_000, 1_626_000]), (1_626_000, [1_626_000, 2_439_000, 1_626_000])]
    );
    // The same rows, priced as they come.
    let mut pricer = Pricer::new(Some(Prices::new(tariff, device()).expect("priced")));
    let mut rows = rows;
    let priced = rows.each_mut().map(|row| {
        pricer.price(row);
        charges(row).iter().map(|(_, amount)| *amount).collect::<Vec<_>>()
    });
    assert_eq!(priced, [vec![542_000], vec![1_626_000], vec![1_626_000, 1_626_000]]);
}

/// What a row was priced at.
fn nanodollars(row: &LedgerRow) -> u64 {
    match row {
        LedgerRow::Request(row) => row.nanodollars,
        LedgerRow::Residency(row) => row.nanodollars,
    }
}

proptest! {
    #[test]
    fn rows_priced_as_they_come_add_up_to_what_they_cost_together(rows in rows()) {
        for tariff in tariffs() {
            let mut rows = rows.clone();
            let mut pricer = Pricer::new(Some(Prices::new(tariff.clone(), device()).expect("priced")));
            rows.iter_mut().for_each(|row| pricer.price(row));
            let own = rows.iter().filter(|row| !matches!(row, LedgerRow::Residency(row) if row.thing == Thing::Backbone));
            let own: u64 = own.map(nanodollars).sum();
            let shared: u64 = rows.iter().map(nanodollars).sum::<u64>() - own;
            let statement = statement(&tariff, &device(), &rows).expect("priced");
            // Ten functions and three lines round down by less than one each; a bill's lines round up.
            let wanted: u64 = statement.accounts.iter().map(|account| account.own_nano_usd).sum();
            prop_assert!(own.abs_diff(wanted) <= 40, "{}: {own} {wanted}", &tariff.name);
            // A request may end before the stretch that it ran in is told, or after: over a period it is set off all the
            // same, unless it ends the period.
            if tariff.gpu_basis == GpuBasis::MemoryShare {
                let wanted = statement.bill.total_nano_usd - wanted;
                prop_assert!(shared.abs_diff(wanted) <= 40, "{}: {shared} {wanted}", &tariff.name);
            }
            for row in &rows {
                let parts: u64 = charges(row).iter().map(|(_, amount)| amount).sum();
                prop_assert_eq!(parts, nanodollars(row));
            }
        }
    }
}

#[test]
fn what_is_left_of_a_nano_dollar_is_carried_to_the_next_row() {
    let tariff = Profiles::tariff("gpu-second").expect("shipped");
    let mut pricer = Pricer::new(Some(Prices::new(tariff, device()).expect("priced")));
    // 542,000 a second: a microsecond is 0.542 of a nano-dollar, and a thousand of them are 542 of them.
    let mut paid = 0;
    for n in 0..1000 {
        let mut row = request(0, 1_000, 0, 0);
        pricer.price(&mut row);
        paid += nanodollars(&row);
        assert!(nanodollars(&row) <= 1, "row {n}");
    }
    assert_eq!(paid, 542);
}

#[test]
fn two_backbones_hold_the_device_once() {
    let (second, tariff) = (1_000_000_000, Profiles::tariff("gpu-second").expect("shipped"));
    let mut pricer = Pricer::new(Some(Prices::new(tariff, device()).expect("priced")));
    let mut told = |backbone: &str, start_s: u64, seconds: u64| {
        let mut row = match residency(0, 1 << 30, seconds * second, Thing::Backbone) {
            LedgerRow::Residency(row) => row,
            LedgerRow::Request(_) => unreachable!("made above"),
        };
        (row.backbone, row.start_ms) = (backbone.to_owned(), start_s * 1_000);
        let mut row = LedgerRow::Residency(row);
        pricer.price(&mut row);
        nanodollars(&row) / 542_000
    };
    assert_eq!(told("a", 0, 10), 10);
    assert_eq!(told("b", 5, 10), 5);
    assert_eq!(told("a", 10, 10), 5);
    assert_eq!(told("c", 0, 30), 10);
}

#[test]
fn a_tariff_without_a_price_for_the_device_is_refused_with_those_it_has() {
    let tariff = Profiles::tariff("modal").expect("shipped");
    let device = DevicePrice { name: "cpu".to_owned(), memory_bytes: 1 };
    let refused = Prices::new(tariff, device).expect_err("no price").to_string();
    assert!(refused.contains("cpu") && refused.contains("l40s"), "{refused}");
}

#[test]
fn tables_read_back() {
    let mut odd = match request(1, 2, 3, 4) {
        LedgerRow::Request(row) => *row,
        LedgerRow::Residency(_) => unreachable!("made above"),
    };
    odd.nanodollars = 11;
    odd.id = "=1+1,\"x\"".to_owned();
    let rows = [LedgerRow::Request(Box::new(odd)), residency(2, 7, 8, Thing::Backbone)];
    let mut csv = Vec::new();
    write(Table::Requests, Format::Csv, &rows, &mut csv).expect("memory");
    let csv = String::from_utf8(csv).expect("text");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("id,tenant,function,generation,backbone,arrived_ms"), "{csv}");
    assert!(lines[1].starts_with("\"'=1+1,\"\"x\"\"\",t1,f1,g,tiny,1,3,completed,warm"), "{csv}");
    assert!(
        lines[0].ends_with("queue_ns,prefill_ns,nanodollars") && lines[1].ends_with(",7,8,9,11"),
        "{csv}"
    );

    let mut out = Vec::new();
    write(Table::Residency, Format::Parquet, &rows, &mut out).expect("memory");
    let reader = SerializedFileReader::new(bytes::Bytes::from(out)).expect("parquet");
    let all: Vec<_> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].get_string(3).expect("text"), "tiny");
    assert_eq!(all[0].get_ulong(6).expect("a number"), 7);
}
