//! Choosing among logits: the likeliest, or one drawn from what top-k, min-p and top-p leave.
//!
//! Nothing here sorts the vocabulary: the candidates are cut by thresholds, which selections find in linear time.

use super::params::SamplingParams;

/// A token and its logit.
type Scored = (u32, f32);

/// Orders the likelier first, equals by id.
fn likelier(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The largest logit's index, the lowest of equals.
pub(super) fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (index, logit);
        }
    }
    best.0 as u32
}

/// The `count` largest, in order.
pub(super) fn largest(logits: &[f32], count: usize) -> Vec<Scored> {
    let mut scored: Vec<Scored> = (0u32..).zip(logits.iter().copied()).collect();
    if (1..scored.len()).contains(&count) {
        scored.select_nth_unstable_by(count - 1, likelier);
    }
    scored.truncate(count);
    scored.sort_unstable_by(likelier);
    scored
}

/// `ln(sum(exp(logits)))`, finite for finite input.
pub(super) fn log_sum_exp(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - top).exp())).sum();
    top + sum.ln() as f32
}

/// Buffers of one sampler, so that a token allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Candidates in the order of their ids, so that sums and draws are the same whatever a selection does.
    kept: Vec<Scored>,
    /// The same in a selection's order.
    work: Vec<Scored>,
}

/// Draws a token; `chance` is uniform in [0, 1).
pub(super) fn draw(logits: &[f32], params: &SamplingParams, chance: f64, scratch: &mut Scratch) -> u32 {
    let Scratch { kept, work } = scratch;
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // A token is min_p times as likely as the likeliest where its scaled logit is ln(min_p) below.
    let floor = if params.min_p > 0.0 { top + params.temperature * params.min_p.ln() } else { f32::MIN };
    kept.clear();
    kept.extend((0u32..).zip(logits.iter().copied()).filter(|&(_, logit)| logit >= floor));
    let count = usize::try_from(params.top_k).unwrap_or(0);
    if (1..kept.len()).contains(&count) {
        work.clone_from(kept);
        let last = *work.select_nth_unstable_by(count - 1, likelier).1;
        kept.retain(|candidate| likelier(candidate, &last).is_le());
    }
    // From here on the second number is a weight.
    for (_, logit) in kept.iter_mut() {
        *logit = ((*logit - top) / params.temperature).exp();
    }
    if params.top_p < 1.0 {
        work.clone_from(kept);
        let last = last_within(work, f64::from(params.top_p) * total(kept));
        kept.retain(|candidate| likelier(candidate, &last).is_le());
    }
    walk(kept, chance * total(kept))
}

fn total(scored: &[Scored]) -> f64 {
    scored.iter().map(|&(_, weight)| f64::from(weight)).sum()
}

/// The lightest of the smallest set of the heaviest whose weights reach `sum`: halves of halves, in linear time.
fn last_within(scored: &mut [Scored], mut sum: f64) -> Scored {
    let mut left = scored;
    while left.len() > 1 {
        let middle = left.len() / 2;
        left.select_nth_unstable_by(middle, likelier);
        let (heavy, light) = left.split_at_mut(middle);
        let reached = total(heavy);
        left = if reached >= sum {
            heavy
        } else {
            sum -= reached;
            light
        };
    }
    left[0]
}

/// The candidate under `point` on the line of the weights.
fn walk(scored: &[Scored], point: f64) -> u32 {
    let mut passed = 0.0;
    for &(token, weight) in scored {
        passed += f64::from(weight);
        if point < passed {
            return token;
        }
    }
    // Rounding may leave the point at the very end: the last token with weight.
    scored.iter().rev().find(|&&(_, weight)| weight > 0.0).map_or(0, |&(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(logits: &[f32], params: &SamplingParams) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for step in 0..10_000 {
            let chance = (f64::from(step) + 0.5) / 10_000.0;
            counts[draw(logits, params, chance, &mut Scratch::default()) as usize] += 1;
        }
        counts
    }

    fn check(params: SamplingParams, expected: [usize; 4]) {
        // Probabilities 0.5, 0.25, 0.15 and 0.1, not in order.
        let logits = [0.25f32, 0.1, 0.5, 0.15].map(f32::ln);
        for (found, expected) in shares(&logits, &params).into_iter().zip(expected) {
            assert!(found.abs_diff(expected) <= 2, "{params:?}: {found} for {expected}");
        }
    }

    #[test]
    fn shares_are_the_probabilities_that_the_filters_leave() {
        let plain = SamplingParams::default;
        check(plain(), [2500, 1000, 5000, 1500]);
        check(SamplingParams { top_k: 2, ..plain() }, [3333, 0, 6667, 0]);
        check(SamplingParams { top_p: 0.7, ..plain() }, [3333, 0, 6667, 0]);
        check(SamplingParams { top_p: 0.76, ..plain() }, [2778, 0, 5555, 1667]);
        check(SamplingParams { min_p: 0.25, ..plain() }, [2778, 0, 5555, 1667]);
        check(SamplingParams { temperature: 0.5, ..plain() }, [1812, 290, 7246, 652]);
        check(SamplingParams { top_k: 3, top_p: 0.5, ..plain() }, [0, 0, 10_000, 0]);
    }

    #[test]
    fn a_long_tail_reaches_its_sum() {
        let flat = vec![0.0; 5000];
        let params = SamplingParams { top_p: 0.5, ..SamplingParams::default() };
        let counts = shares(&flat, &params);
        assert_eq!(counts.iter().filter(|&&count| count > 0).count(), 2500);
        assert!(counts[2500..].iter().all(|&count| count == 0), "equals are taken by id");
    }

    #[test]
    fn largest_and_argmax_prefer_the_lower_id() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        assert_eq!(argmax(&logits), 1);
        assert_eq!(largest(&logits, 3), [(1, 3.0), (2, 3.0), (3, 2.0)]);
        assert_eq!(largest(&logits, 9).len(), 4);
    }
}
