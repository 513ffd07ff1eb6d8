//! Pace: how fast this machine is at the moment, by a little work that is repeated between the measurements.
//!
//! A machine that shares its cores with strangers takes up to a third longer for the same step from one minute to the
//! next. What is measured in one of its moments is told as it would be at its mean pace over the whole calibration, so that
//! the parts of a profile agree with each other and with a run that lasts as long. A prompt computes and a step that decodes
//! reads memory, which strangers slow down differently: each has a yardstick of its kind. Loads are left as they are.

use crate::bench_backbone::speed::{Work, run};
#[cfg(feature = "host")]
use crate::bench_backbone::speed::{engine, settled};
#[cfg(feature = "host")]
use crate::opened::{BackboneArg, Opened};
use anyhow::Result;
use coldframe_backbone::engine::Engine;

/// Tokens of a prompt, here and of the sequences that decode.
const PROMPT: usize = 64;
/// How often it is computed for one look.
const TIMES: usize = 2;
/// Sequences that decode, and their steps: any engine of a calibration has seats for two.
const ROWS: usize = 2;
const STEPS: usize = 24;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prompts, and first tokens.
    Prompt,
    /// Steps in which sequences decode.
    Decode,
}

/// The yardsticks' times so far, seconds.
#[derive(Debug, Default)]
pub struct Pace {
    prompts: Vec<f64>,
    decodes: Vec<f64>,
}

impl Pace {
    /// Looks at the pace: what a time measured now is to be multiplied by to be one at the pace of the first look.
    ///
    /// # Errors
    /// The engine's.
    pub fn look(&mut self, kind: Kind, engine: &mut Engine) -> Result<f64> {
        let mut seconds = 0.0;
        match kind {
            Kind::Prompt => {
                for _ in 0..TIMES {
                    seconds += PROMPT as f64 / run(engine, &Work::Prefill(PROMPT), &[])?;
                }
            }
            Kind::Decode => {
                let work = Work::Decode { groups: vec![vec![None; ROWS]], steps: STEPS };
                seconds += (ROWS * STEPS) as f64 / run(engine, &work, &[])?;
            }
        }
        let looks = match kind {
            Kind::Prompt => &mut self.prompts,
            Kind::Decode => &mut self.decodes,
        };
        looks.push(seconds);
        Ok(looks[0] / seconds)
    }

    fn looks(&self, kind: Kind) -> &[f64] {
        match kind {
            Kind::Prompt => &self.prompts,
            Kind::Decode => &self.decodes,
        }
    }

    /// What a time at the pace of the first look is to be multiplied by to be one at the mean pace.
    pub fn mean(&self, kind: Kind) -> f64 {
        let looks = self.looks(kind);
        looks.first().map_or(1.0, |first| looks.iter().sum::<f64>() / looks.len() as f64 / first)
    }

    /// The fastest and the slowest look without a tenth at either end, as multiples of the mean: `None` of fewer than ten.
    pub fn spread(&self, kind: Kind) -> Option<(f64, f64)> {
        let mut looks = self.looks(kind).to_vec();
        let (tenth, mean) = (looks.len() / 10, self.mean(kind) * looks.first()?);
        looks.sort_by(f64::total_cmp);
        (tenth > 0).then(|| (looks[tenth] / mean, looks[looks.len() - 1 - tenth] / mean))
    }
}

/// An engine that does nothing else: for looks beside a server, which has its own.
#[cfg(feature = "host")]
pub struct Yardstick(Engine);

#[cfg(feature = "host")]
impl Yardstick {
    /// Makes it.
    ///
    /// # Errors
    /// The backbone's.
    pub fn new(model: &BackboneArg, opened: &Opened) -> Result<Self> {
        // A step more than are measured: the first is each sequence's own.
        Ok(Self(engine(model, opened, ROWS * (PROMPT + STEPS + 2), PROMPT, ROWS)?))
    }

    /// As [`Pace::look`].
    ///
    /// # Errors
    /// The engine's.
    pub fn look(&mut self, kind: Kind, pace: &mut Pace) -> Result<f64> {
        settled(&mut self.0, |engine| pace.look(kind, engine))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Pace};

    #[test]
    fn looks_are_told_by_their_mean() {
        let none = Pace::default();
        assert_eq!((none.mean(Kind::Prompt), none.spread(Kind::Prompt)), (1.0, None));
        let prompts = (0..20).map(|n| if n < 10 { 0.5 } else { 1.5 }).collect();
        let pace = Pace { prompts, ..none };
        // At the first look's pace a time is half of what it is at the mean one.
        assert_eq!((pace.mean(Kind::Prompt), pace.spread(Kind::Prompt)), (2.0, Some((0.5, 1.5))));
        assert_eq!(pace.mean(Kind::Decode), 1.0);
    }
}
