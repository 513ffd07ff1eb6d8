//! A series over a run of unknown length: means per step, with the step doubled when the points run out.

const POINTS: usize = 600;

/// Values are integrated between changes; memory does not grow with the run.
pub struct Series<const N: usize> {
    step_ns: u64,
    at_ns: u64,
    points: Vec<[u128; N]>,
}

impl<const N: usize> Default for Series<N> {
    fn default() -> Self {
        Self { step_ns: 1_000_000_000, at_ns: 0, points: Vec::new() }
    }
}

impl<const N: usize> Series<N> {
    /// The values held from the last call until `now_ns`.
    pub fn advance(&mut self, now_ns: u64, values: &[u64; N]) {
        while self.at_ns < now_ns {
            let index = (self.at_ns / self.step_ns) as usize;
            if index >= POINTS {
                self.halve();
                continue;
            }
            if index >= self.points.len() {
                self.points.resize(index + 1, [0; N]);
            }
            let until = now_ns.min((index as u64 + 1) * self.step_ns);
            let dt = u128::from(until - self.at_ns);
            for (sum, &v) in self.points[index].iter_mut().zip(values) {
                *sum += dt * u128::from(v);
            }
            self.at_ns = until;
        }
    }

    fn halve(&mut self) {
        let merged = self.points.chunks(2).map(|pair| {
            let mut sum = pair[0];
            if let Some(second) = pair.get(1) {
                sum.iter_mut().zip(second).for_each(|(a, b)| *a += b);
            }
            sum
        });
        self.points = merged.collect();
        self.step_ns *= 2;
    }

    /// Step in seconds and mean values per step, at most 300 of them.
    pub fn finish(mut self) -> (f64, Vec<Vec<u64>>) {
        if self.points.len() > POINTS / 2 {
            self.halve();
        }
        let last = self.points.len().saturating_sub(1) as u64;
        let width = |n: u64| if n == last { (self.at_ns - n * self.step_ns).max(1) } else { self.step_ns };
        let mean = |(n, p): (usize, &[u128; N])| {
            p.iter().map(|&v| (v / u128::from(width(n as u64))) as u64).collect()
        };
        let means = self.points.iter().enumerate().map(mean).collect();
        (self.step_ns as f64 / 1e9, means)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_means() {
        let mut s = Series::<1>::default();
        for second in 1..=10_000u64 {
            s.advance(second * 1_000_000_000, &[if second <= 5000 { 10 } else { 30 }]);
        }
        let (step, points) = s.finish();
        assert!(points.len() <= 300 && step == 64.0, "{} {step}", points.len());
        assert_eq!((points[0][0], points[points.len() - 1][0]), (10, 30));
    }
}
