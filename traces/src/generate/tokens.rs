//! Token-length laws: log-normal mixtures fitted on public traces, cut to a range.
//!
//! Single log-normals are poor for production chat (Kolmogorov–Smirnov distance 0.1 to 0.2): resample from a file where
//! there is one. Prompt and output are drawn independently; in the Azure traces their log-correlation is 0.00 and 0.09.

use crate::rng::Stream;

/// One log-normal of a mixture: weight, mean and deviation of the natural log.
pub type Part = (f64, f64, f64);

/// A mixture of log-normals; draws outside `min..=max` are drawn again, at most 100 times, then cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// The parts; weights sum to 1.
    pub parts: &'static [Part],
    /// Least tokens.
    pub min: u32,
    /// Most tokens.
    pub max: u32,
}

impl Mixture {
    /// One length, tokens.
    pub fn draw(&self, rng: &mut Stream) -> u32 {
        let mut value = 0.0;
        for _ in 0..100 {
            let mut u = rng.unit();
            let chosen = self.parts.iter().find(|part| {
                u -= part.0;
                u < 0.0
            });
            let (_, mu, sigma) = *chosen.or(self.parts.last()).expect("a mixture has parts");
            value = rng.log_normal(mu, sigma).round();
            if (f64::from(self.min)..=f64::from(self.max)).contains(&value) {
                break;
            }
        }
        (value as u32).clamp(self.min, self.max)
    }
}

/// Laws of prompt and output lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLaw {
    /// Name on the command line.
    pub name: &'static str,
    /// Prompt tokens.
    pub prompt: Mixture,
    /// Output tokens.
    pub output: Mixture,
}

const fn law(
    name: &'static str,
    prompt: &'static [Part],
    prompt_range: (u32, u32),
    output: &'static [Part],
    output_max: u32,
) -> TokenLaw {
    let prompt = Mixture { parts: prompt, min: prompt_range.0, max: prompt_range.1 };
    TokenLaw { name, prompt, output: Mixture { parts: output, min: 1, max: output_max } }
}

/// The fitted laws. Caps are the largest values of the source; where the source states none, 131,072 (arbitrary).
pub const TOKEN_LAWS: &[TokenLaw] = &[
    law("azure-conv", &[(1.0, 6.63, 0.99)], (1, 14_050), &[(0.72, 4.64, 0.71), (0.28, 6.006, 0.049)], 1000),
    law(
        "azure-code",
        &[(0.31, 5.52, 1.31), (0.69, 7.65, 0.72)],
        (1, 7437),
        &[(0.66, 2.37, 0.38), (0.34, 3.61, 0.90)],
        1899,
    ),
    law("mooncake", &[(1.0, 8.74, 1.20)], (891, 126_195), &[(1.0, 5.34, 1.36)], 2000),
    law("servegen-large", &[(1.0, 6.26, 1.17)], (1, 131_072), &[(1.0, 3.67, 2.04)], 131_072),
    law("servegen-mid", &[(1.0, 5.35, 0.73)], (1, 131_072), &[(1.0, 3.41, 1.09)], 131_072),
    law("servegen-small", &[(1.0, 3.87, 1.08)], (1, 131_072), &[(1.0, 1.55, 1.37)], 131_072),
    law("deepseek-r1", &[(1.0, 5.24, 1.84)], (1, 131_072), &[(1.0, 6.78, 0.98)], 131_072),
    law("gsm8k", &[(1.0, 4.141, 0.346)], (1, 1024), &[(1.0, 4.774, 0.424)], 1024),
    law("sharegpt", &[(1.0, 7.01, 1.63)], (1, 7168), &[(1.0, 5.77, 1.00)], 1024),
    law("arxiv", &[(1.0, 7.72, 0.76)], (1, 4054), &[(1.0, 5.19, 0.80)], 4096),
];

impl TokenLaw {
    /// The law of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        TOKEN_LAWS.iter().copied().find(|law| law.name == name)
    }

    /// One (prompt, output) pair, tokens.
    pub fn draw(&self, rng: &mut Stream) -> (u32, u32) {
        (self.prompt.draw(rng), self.output.draw(rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_stay_in_range_and_near_their_medians() {
        for law in TOKEN_LAWS {
            for part in [law.prompt, law.output] {
                assert!((part.parts.iter().map(|p| p.0).sum::<f64>() - 1.0).abs() < 1e-9, "{}", law.name);
                let mut rng = Stream::new(1, law.name);
                let mut drawn: Vec<u32> = (0..20_000).map(|_| part.draw(&mut rng)).collect();
                drawn.sort_unstable();
                assert!(drawn[0] >= part.min && drawn[19_999] <= part.max, "{}", law.name);
            }
        }
        let gsm = TokenLaw::by_name("gsm8k").expect("listed");
        let mut rng = Stream::new(1, "median");
        let mut drawn: Vec<u32> = (0..20_001).map(|_| gsm.prompt.draw(&mut rng)).collect();
        drawn.sort_unstable();
        // exp(4.141) = 62.9
        assert!((62..=64).contains(&drawn[10_000]), "{}", drawn[10_000]);
    }
}
