//! The measured timeline is reproduced by the policies' own decisions.

use coldframe_simulator::validate::timeline::timeline;

#[test]
fn every_total_of_the_measured_timeline_within_ten_percent() {
    let rows = timeline().expect("the scenario runs");
    assert_eq!(rows.len(), 16);
    for row in &rows {
        eprintln!(
            "{:15} {}@{:<6} {:6.2} {:6.2} {:+.3} {:?}",
            row.system, row.function, row.arrival_s, row.measured_s, row.simulated_s, row.error, row.stages_s
        );
    }
    for row in rows {
        assert!(row.error.abs() <= 0.10, "{row:?}");
    }
}
