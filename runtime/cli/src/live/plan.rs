//! What will be sent: the trace's records with their times, lengths and the model each one calls.

use super::client::Client;
use crate::replay::ReplayArgs;
use anyhow::{Context, Result, bail, ensure};
use coldframe_traces::{Catalog, FunctionInfo, Item, Record, TraceStream};
use hyper::Method;
use std::collections::BTreeMap;

/// Requests of one run at most: they are held in memory with their answers.
const REQUESTS_MAX: usize = 1_000_000;

/// One request to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// When, ns from the run's start.
    pub due_ns: u64,
    /// Function of the trace.
    pub function: u32,
    /// Model of the host.
    pub model: String,
    /// Prompt tokens.
    pub prompt: u32,
    /// Output tokens.
    pub output: u32,
}

/// One run.
#[derive(Debug)]
pub struct Plan {
    /// In order of sending; a request's number is its place.
    pub requests: Vec<Planned>,
    /// Functions of the trace.
    pub functions: Vec<FunctionInfo>,
    /// Requests due before this are the warm-up.
    pub warmup_ns: u64,
    /// Rows of the trace.
    pub rows: u64,
    /// Seed of the prompts.
    pub seed: u64,
    /// What was changed, in words.
    pub notes: Vec<String>,
}

/// Models of the host that functions may call: adapters where there are any, else all.
pub async fn models(client: &Client) -> Result<Vec<String>> {
    let answer = client.json(Method::GET, "/v1/models", None).await?;
    let all = answer["data"].as_array().context("/v1/models answered without `data`")?;
    let name = |model: &serde_json::Value| model["id"].as_str().map(str::to_owned);
    let adapters: Vec<String> = all.iter().filter(|m| m["parent"].is_string()).filter_map(name).collect();
    let every: Vec<String> = all.iter().filter_map(name).collect();
    ensure!(!every.is_empty(), "the host serves no model: register a function first");
    Ok(if adapters.is_empty() { every } else { adapters })
}

impl Plan {
    /// Reads the trace.
    pub fn make(
        args: &ReplayArgs,
        trace: &mut dyn TraceStream,
        models: &[String],
        seed: u64,
    ) -> Result<Self> {
        let live = &args.live;
        let most = live.max_requests.unwrap_or(REQUESTS_MAX).min(REQUESTS_MAX);
        let until = live.max_s.map_or(u64::MAX, |s| (s.max(0.0) * 1e9) as u64);
        let (mut requests, mut start, mut cut) = (Vec::new(), None, 0u64);
        while let Some(item) = trace.next_item()? {
            let record = match item {
                Item::Record(record) => record,
                Item::Refused(_) if args.skip_bad_rows => continue,
                Item::Refused(row) => {
                    bail!("{}:{}: {}; --skip-bad-rows goes on", row.file.display(), row.line, row.reason)
                }
            };
            ensure!(
                record.output_tokens > 0,
                "the trace has requests without tokens: see `coldframe trace compose`"
            );
            let from = *start.get_or_insert(record.arrival_ns);
            let due_ns = ((record.arrival_ns - from) as f64 * live.time_scale) as u64;
            if due_ns > until || requests.len() == most {
                break;
            }
            let prompt = record.prompt_tokens.clamp(1, live.max_prompt.unwrap_or(u32::MAX));
            let output = record.output_tokens.min(live.max_output.unwrap_or(u32::MAX)).max(1);
            cut += u64::from(prompt < record.prompt_tokens || output < record.output_tokens);
            requests.push(Planned {
                due_ns,
                function: record.function,
                model: String::new(),
                prompt,
                output,
            });
        }
        ensure!(!requests.is_empty(), "the trace has no requests: nothing to send");
        let functions = trace.catalog().functions().to_vec();
        let map = live.map.as_deref().map(read_map).transpose()?;
        let chosen = choose(&requests, &functions, models, map.as_ref())?;
        requests.iter_mut().for_each(|r| r.model = chosen[r.function as usize].clone());
        let mut notes = notes(args, &chosen);
        if cut > 0 {
            notes.push(format!("{cut} requests were cut to --max-prompt or --max-output"));
        }
        let warmup_ns = (live.warmup_s.max(0.0) * 1e9) as u64;
        Ok(Self { requests, functions, warmup_ns, rows: trace.rows_in(), seed, notes })
    }

    /// What is sent as a trace of the host's functions: the same for the simulator.
    pub fn sent(&self) -> (Vec<Record>, Catalog) {
        let mut catalog = Catalog::new();
        let record = |planned: &Planned| {
            let tenant = self.functions[planned.function as usize].tenant.clone();
            let (name, adapter) = (planned.model.clone(), planned.model.clone());
            Record {
                arrival_ns: planned.due_ns,
                function: catalog.intern(FunctionInfo { name, adapter, tenant, ..FunctionInfo::default() }),
                prompt_tokens: planned.prompt,
                output_tokens: planned.output,
                ..Record::default()
            }
        };
        (self.requests.iter().map(record).collect(), catalog)
    }

    /// In words.
    pub fn about(&self) -> String {
        let last = self.requests.last().map_or(0, |r| r.due_ns);
        format!("{} requests over {:.1} s", self.requests.len(), last as f64 / 1e9)
    }
}

fn notes(args: &ReplayArgs, chosen: &[String]) -> Vec<String> {
    let live = &args.live;
    let distinct: std::collections::BTreeSet<&String> = chosen.iter().collect();
    let mut notes = vec![format!("functions of the trace call {} models of the host", distinct.len())];
    if live.time_scale != 1.0 {
        notes.push(format!("time stretched by {}", live.time_scale));
    }
    if live.warmup_s > 0.0 {
        notes.push(format!("the first {} s are sent and not counted", live.warmup_s));
    }
    match &live.ask {
        Some(text) => notes.push(format!("every request asks {text:?} in a chat")),
        None => notes.push("prompts are random tokens of the trace's lengths, drawn by seed".to_owned()),
    }
    notes
}

fn read_map(path: &std::path::Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let pair = |(n, line): (usize, &str)| {
        let (from, to) = line
            .split_once(',')
            .with_context(|| format!("{}:{}: expected TRACE_FUNCTION,MODEL", path.display(), n + 1))?;
        Ok((from.trim().to_owned(), to.trim().to_owned()))
    };
    lines.map(pair).collect()
}

/// The model of each function: as the map says, else the one of its name, else by popularity in the host's order.
fn choose(
    requests: &[Planned],
    functions: &[FunctionInfo],
    models: &[String],
    map: Option<&BTreeMap<String, String>>,
) -> Result<Vec<String>> {
    let mut called = vec![0u64; functions.len()];
    requests.iter().for_each(|r| called[r.function as usize] += 1);
    let mut by_calls: Vec<usize> = (0..functions.len()).collect();
    by_calls.sort_by_key(|&n| (std::cmp::Reverse(called[n]), n));
    let known = |name: &str| models.iter().any(|model| model == name);
    let mut chosen = vec![String::new(); functions.len()];
    for (rank, &n) in by_calls.iter().enumerate() {
        let info = &functions[n];
        let names = [&info.name, &info.adapter];
        chosen[n] = match map {
            Some(map) => {
                let to = map.get(&info.name).filter(|_| called[n] > 0).cloned();
                match to {
                    Some(to) => to,
                    None if called[n] == 0 => continue,
                    None => bail!("--map has no line for the function `{}`", info.name),
                }
            }
            None => match names.into_iter().find(|name| known(name)) {
                Some(name) => name.clone(),
                None => models[rank % models.len()].clone(),
            },
        };
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(function: u32) -> Planned {
        Planned { due_ns: 0, function, model: String::new(), prompt: 1, output: 1 }
    }

    fn named(name: &str) -> FunctionInfo {
        FunctionInfo { name: name.to_owned(), ..FunctionInfo::default() }
    }

    #[test]
    fn names_win_then_popularity() {
        let requests: Vec<Planned> = [0, 1, 1, 2, 2, 2].map(planned).to_vec();
        let functions = ["rare", "pirate", "hot"].map(named);
        let models = ["json", "pirate"].map(str::to_owned);
        let chosen = choose(&requests, &functions, &models, None).expect("all have one");
        assert_eq!(chosen, ["json", "pirate", "json"], "the third most popular starts anew");
        let map =
            BTreeMap::from([("rare".to_owned(), "x".to_owned()), ("pirate".to_owned(), "y".to_owned())]);
        let told =
            choose(&requests, &functions, &models, Some(&map)).expect_err("hot is missing").to_string();
        assert!(told.contains("`hot`"), "{told}");
    }
}
