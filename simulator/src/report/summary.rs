//! Statistics over seeds: mean, 95 % interval, the best policy, and one policy against another.
//!
//! Runs of one seed saw the same trace and the same draws, so a comparison pairs them: the interval is that of the
//! differences, which is far narrower than the two policies' own intervals. It leaves out words and layout.

use super::metrics::{Better, Metric, is_bound};
use super::model::{PolicyReport, Report};

/// Mean of the seeds and the half-width of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean over the seeds that have the value.
    pub mean: f64,
    /// Half-width of the 95 % interval (Student t); `None` with one seed.
    pub half: Option<f64>,
    /// Seeds.
    pub n: usize,
}

impl Interval {
    /// Lower end; the mean itself with one seed.
    pub fn low(&self) -> f64 {
        self.mean - self.half.unwrap_or(0.0)
    }

    /// Upper end; the mean itself with one seed.
    pub fn high(&self) -> f64 {
        self.mean + self.half.unwrap_or(0.0)
    }
}

/// A policy's value relative to a baseline's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Mean difference over the baseline's mean: −0.62 is 62 % less.
    pub relative: f64,
    /// 95 % interval of the paired differences over the baseline's mean, at least −1; `None` with fewer than two pairs.
    pub interval: Option<(f64, f64)>,
    /// Seeds both policies ran; 0 when they share none and only means are compared.
    pub pairs: usize,
}

impl Change {
    /// True when the interval leaves zero out; unknown (`None`) without an interval.
    pub fn is_clear(&self) -> Option<bool> {
        self.interval.map(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// The mean and 95 % interval of some values; `None` for no values.
pub fn interval(values: &[f64]) -> Option<Interval> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let half = (n > 1).then(|| {
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        t_quantile(n - 1) * (squares / (n - 1) as f64).sqrt() / (n as f64).sqrt()
    });
    Some(Interval { mean, half, n })
}

/// A metric of one policy over its seeds.
pub fn over_seeds(policy: &PolicyReport, metric: &Metric) -> Option<Interval> {
    let values: Vec<f64> = policy.runs.iter().filter_map(metric.value).collect();
    interval(&values)
}

/// `policy` against `baseline`, paired by seed; `None` when either lacks the value or the baseline's is zero.
pub fn change(policy: &PolicyReport, baseline: &PolicyReport, metric: &Metric) -> Option<Change> {
    let pairs: Vec<(f64, f64)> = policy
        .runs
        .iter()
        .filter_map(|run| {
            let other = baseline.runs.iter().find(|b| b.seed == run.seed)?;
            Some(((metric.value)(run)?, (metric.value)(other)?))
        })
        .collect();
    if pairs.is_empty() {
        let (a, b) = (over_seeds(policy, metric)?.mean, over_seeds(baseline, metric)?.mean);
        return (b != 0.0).then(|| Change { relative: (a - b) / b, interval: None, pairs: 0 });
    }
    let base = pairs.iter().map(|(_, b)| b).sum::<f64>() / pairs.len() as f64;
    if base == 0.0 {
        return None;
    }
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
    let found = interval(&differences)?;
    let ends = found.half.map(|_| ((found.low() / base).max(-1.0), found.high() / base));
    Some(Change { relative: found.mean / base, interval: ends, pairs: pairs.len() })
}

/// Indices of the policies from best to worst by the metric's mean; bounds and policies without the value are left out.
pub fn ranking(report: &Report, metric: &Metric) -> Vec<usize> {
    if metric.better == Better::Neither {
        return Vec::new();
    }
    let mut ranked: Vec<(usize, f64)> = report
        .policies
        .iter()
        .enumerate()
        .filter(|(_, policy)| !is_bound(policy))
        .filter_map(|(i, policy)| Some((i, over_seeds(policy, metric)?.mean)))
        .collect();
    ranked.sort_by(|a, b| match metric.better {
        Better::Higher => b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)),
        _ => a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)),
    });
    ranked.into_iter().map(|(i, _)| i).collect()
}

/// Policies that share the best mean; empty when fewer than two policies are ranked or all are equal.
pub fn best(report: &Report, metric: &Metric) -> Vec<usize> {
    let ranked = ranking(report, metric);
    let mean = |i: usize| over_seeds(&report.policies[i], metric).map_or(f64::NAN, |found| found.mean);
    let Some((&first, &last)) = ranked.first().zip(ranked.last()) else { return Vec::new() };
    if mean(first) == mean(last) {
        return Vec::new();
    }
    ranked.into_iter().filter(|&i| mean(i) == mean(first)).collect()
}

/// Mean of whole numbers over seeds, rounded to the nearest; 0 without seeds.
pub fn mean_whole(values: impl Iterator<Item = u64>) -> u128 {
    let (mut sum, mut n) = (0u128, 0u128);
    for value in values {
        sum += u128::from(value);
        n += 1;
    }
    (sum + n / 2).checked_div(n).unwrap_or(0)
}

/// The largest number of seeds any policy ran.
pub fn seeds(report: &Report) -> usize {
    report.policies.iter().map(|policy| policy.runs.len()).max().unwrap_or(0)
}

/// The 97.5 % point of Student's t: tabulated up to 30 degrees of freedom, then Cornish and Fisher's expansion.
fn t_quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    if let Some(value) = freedom.checked_sub(1).and_then(|i| TABLE.get(i)) {
        return *value;
    }
    let (z, v) = (1.959_964_f64, freedom as f64);
    z + (z.powi(3) + z) / (4.0 * v) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
}

#[cfg(test)]
mod tests {
    use super::super::metrics::by_key;
    use super::super::model::{Quantiles, RunReport};
    use super::*;
    use std::collections::BTreeMap;

    fn policy(name: &str, means: &[(u64, f64)]) -> PolicyReport {
        let run = |&(seed, mean): &(u64, f64)| RunReport {
            seed,
            ttft_s: Quantiles { count: 1, mean, ..Quantiles::default() },
            ..RunReport::default()
        };
        let runs = means.iter().map(run).collect();
        PolicyReport { name: name.into(), about: String::new(), parameters: BTreeMap::new(), runs }
    }

    #[test]
    fn interval_is_students() {
        let found = interval(&[1.0, 2.0, 3.0]).expect("three values");
        assert_eq!(found.mean, 2.0);
        assert!((found.half.expect("two or more") - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(interval(&[5.0]), Some(Interval { mean: 5.0, half: None, n: 1 }));
        assert_eq!(interval(&[]), None);
        assert!((t_quantile(31) - 2.0395).abs() < 1e-3, "{}", t_quantile(31));
    }

    #[test]
    fn pairs_by_seed_not_by_place() {
        let ttft = by_key("ttft_mean").expect("known");
        let base = policy("base", &[(1, 10.0), (2, 20.0), (3, 30.0)]);
        let new = policy("new", &[(3, 15.0), (1, 5.0), (2, 10.0)]);
        let found = change(&new, &base, ttft).expect("both have it");
        assert_eq!((found.relative, found.pairs), (-0.5, 3));
        // Differences −5, −10, −15: mean −10, half-width 4.303 · 5 / √3.
        let half = 4.303 * 5.0 / 3f64.sqrt() / 20.0;
        let (low, high) = found.interval.expect("three pairs");
        assert!((low - (-0.5 - half).max(-1.0)).abs() < 1e-9 && (high - (-0.5 + half)).abs() < 1e-9);
    }

    #[test]
    fn without_common_seeds_only_means() {
        let ttft = by_key("ttft_mean").expect("known");
        let found = change(&policy("a", &[(1, 3.0)]), &policy("b", &[(2, 4.0)]), ttft).expect("means");
        assert_eq!(found, Change { relative: -0.25, interval: None, pairs: 0 });
        assert_eq!(change(&policy("a", &[(1, 3.0)]), &policy("b", &[(1, 0.0)]), ttft), None);
    }
}
