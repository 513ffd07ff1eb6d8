//! Splitting an integer by weights so that the parts add up to it exactly (largest remainder).

/// Splits `total` in proportion to `weights`; the parts add up to `total` exactly.
///
/// Each part is the floor or the ceiling of its exact share; leftover units go to the largest remainders, ties to the
/// lowest index. All-zero weights split equally. No weights give no parts.
pub fn apportion(total: u64, weights: &[u128]) -> Vec<u64> {
    if weights.is_empty() {
        return Vec::new();
    }
    let scaled = scaled(weights);
    let sum: u128 = scaled.iter().sum();
    // total and every weight fit in 64 bits here, so products fit in 128.
    let exact = |w: u128| u128::from(total) * w;
    let mut parts: Vec<u64> = scaled.iter().map(|&w| (exact(w) / sum) as u64).collect();
    let left = (total - parts.iter().sum::<u64>()) as usize;
    if left > 0 {
        let mut order: Vec<usize> = (0..scaled.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(exact(scaled[i]) % sum), i));
        for &i in &order[..left] {
            parts[i] += 1;
        }
    }
    parts
}

// Weights shifted right together until their sum fits in 64 bits; all ones when they are all zero.
fn scaled(weights: &[u128]) -> Vec<u128> {
    if weights.iter().all(|&w| w == 0) {
        return vec![1; weights.len()];
    }
    // Shift far enough for the largest weight times the count, so that adding up cannot overflow either.
    let largest = weights.iter().copied().max().expect("not empty");
    let bits = (128 - largest.leading_zeros()) + (usize::BITS - weights.len().leading_zeros());
    let shift = bits.saturating_sub(64);
    weights.iter().map(|w| w >> shift).collect()
}

#[cfg(test)]
mod tests {
    use super::apportion;
    use proptest::prelude::*;

    #[test]
    fn leftover_units_go_to_the_largest_remainders() {
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(7, &[0, 0]), [4, 3]);
        assert_eq!(apportion(5, &[0, 2, 3]), [0, 2, 3]);
        assert_eq!(apportion(100, &[]), Vec::<u64>::new());
        assert_eq!(apportion(u64::MAX, &[u128::MAX, u128::MAX]), [1 << 63, (1 << 63) - 1]);
    }

    proptest! {
        #[test]
        fn parts_add_up_and_stay_within_one_unit(total: u64, weights in prop::collection::vec(0u64..1 << 40, 1..40)) {
            let wide: Vec<u128> = weights.iter().map(|&w| u128::from(w)).collect();
            let parts = apportion(total, &wide);
            prop_assert_eq!(parts.iter().map(|&p| u128::from(p)).sum::<u128>(), u128::from(total));
            let sum: u128 = wide.iter().sum();
            for (part, weight) in parts.iter().zip(&wide) {
                let floor = (u128::from(total) * weight).checked_div(sum).map(|floor| floor as u64);
                prop_assert!(floor.is_none_or(|floor| *part == floor || *part == floor + 1));
            }
        }

        #[test]
        fn parts_add_up_for_any_weights(total: u64, weights in prop::collection::vec(any::<u128>(), 1..20)) {
            let parts = apportion(total, &weights);
            prop_assert_eq!(parts.iter().map(|&p| u128::from(p)).sum::<u128>(), u128::from(total));
        }
    }
}
