//! Prompts of an exact length that no cache has seen: token ids drawn by a seed from a pool of ordinary tokens.
//!
//! The ids come from the host's `/tokenize`, so that they are the model's own words, or from a range the user gives.
//! Different requests start with different tokens: a prefix cache finds nothing, as in the simulator.

use super::LiveArgs;
use super::client::Client;
use anyhow::{Context, Result, ensure};
use coldframe_traces::rng::Stream;
use hyper::Method;
use serde_json::json;

/// Words whose tokens make the pool.
const WORDS: &str = "The garden behind the house was full of light when the morning train left for the coast, and every \
child in the village knew that the old boats would be painted before winter. Nobody asked why the river had turned, or \
how many apples fell, because the answer was written in a small green book that the teacher kept beside the window. \
Later the council would meet, count the lamps, open the market, and send letters to the cities across the mountain. \
Some people carried water, others mended roofs; the baker sold bread, honey, salt and paper, while music came slowly \
from the school. In summer the fields grow high and the roads are dry. In autumn we gather wood, repair the bridge, and \
wait for news of ships, storms, doctors, and travellers with strange machines.";

/// Fewest different tokens: below, prompts would look alike.
const POOL_MIN: usize = 16;

/// `FIRST-LAST`.
pub fn range(text: &str) -> Result<(u32, u32), String> {
    let wrong = || "expected FIRST-LAST, e.g. 1000-20000".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) =
        (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
    if first < last { Ok((first, last)) } else { Err("FIRST must be below LAST".to_owned()) }
}

/// Token ids that prompts are drawn from.
#[derive(Debug)]
pub struct Pool(Vec<u32>);

/// Makes the pool.
pub async fn pool(live: &LiveArgs, client: &Client, models: &[String]) -> Result<Pool> {
    if live.ask.is_some() {
        return Ok(Pool(Vec::new()));
    }
    if let Some((first, last)) = live.prompt_ids {
        return Ok(Pool((first..=last).collect()));
    }
    let model = models.first().context("the host has no models")?;
    let body = json!({ "model": model, "prompt": WORDS, "add_special_tokens": false });
    let answer = client.json(Method::POST, "/tokenize", Some(&body)).await.context(
        "the host does not tokenize: give --prompt-ids FIRST-LAST, a range of ordinary token ids of its model",
    )?;
    let ids = answer["tokens"].as_array().context("/tokenize answered without `tokens`")?;
    let mut ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() >= POOL_MIN, "/tokenize gave {} different tokens: too few for prompts", ids.len());
    Ok(Pool(ids))
}

impl Pool {
    /// The prompt of request `id` of a run.
    pub fn prompt(&self, seed: u64, id: u64, tokens: u32) -> Vec<u32> {
        let mut rng = Stream::new(seed, &format!("prompt-{id}"));
        (0..tokens.max(1)).map(|_| self.0[rng.below(self.0.len() as u64) as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_their_length_and_differ() {
        let pool = Pool((100..1000).collect());
        let (a, b) = (pool.prompt(1, 1, 50), pool.prompt(1, 2, 50));
        assert_eq!((a.len(), pool.prompt(1, 9, 0).len()), (50, 1));
        assert!(a[..4] != b[..4] && a == pool.prompt(1, 1, 50));
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(range("10-20"), Ok((10, 20)));
        assert!(range("20-10").is_err() && range("x").is_err());
    }
}
