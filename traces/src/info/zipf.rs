//! The Zipf exponent of counts, by maximum likelihood over the observed ranks.
//!
//! The likelihood of p(rank) ~ rank^-s is concave in s, so the root of its slope is found by bisection.

/// The exponent of `counts`, sorted descending; `None` with fewer than two functions.
pub fn exponent(counts: &[u64]) -> Option<f64> {
    if counts.len() < 2 {
        return None;
    }
    let logs: Vec<f64> = (1..=counts.len()).map(|rank| libm::log(rank as f64)).collect();
    let total: f64 = counts.iter().map(|c| *c as f64).sum();
    let observed = counts.iter().zip(&logs).map(|(c, l)| *c as f64 * l).sum::<f64>() / total;
    // Mean log-rank under exponent s falls from its value at 0 towards 0.
    let expected = |s: f64| {
        let (mut weights, mut sum) = (0.0, 0.0);
        for log in &logs {
            let weight = libm::exp(-s * log);
            weights += weight;
            sum += weight * log;
        }
        sum / weights
    };
    let (mut low, mut high) = (0.0, 20.0);
    // 40 halvings of 20 are below 10^-10.
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if expected(middle) > observed { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}

/// Share of all requests that go to the top `share` of functions (at least one), counts sorted descending.
pub fn top_share(counts: &[u64], share: f64) -> f64 {
    let n = ((counts.len() as f64 * share).round() as usize).max(1);
    let total: u64 = counts.iter().sum();
    counts.iter().take(n).sum::<u64>() as f64 / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_of_exact_laws() {
        for s in [0.5, 1.0, 1.9] {
            let counts: Vec<u64> = (1..=200).map(|r| (1e9 * libm::pow(f64::from(r), -s)) as u64).collect();
            let got = exponent(&counts).expect("many ranks");
            assert!((got - s).abs() < 1e-3, "{got}");
        }
        assert_eq!(exponent(&[5]), None);
        assert!((top_share(&[6, 2, 1, 1], 0.25) - 0.6).abs() < 1e-9);
    }
}
