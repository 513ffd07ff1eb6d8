//! The usual voice: where a text ends, what of it is told, and by what it is bound.

use coldframe_backbone::checkpoint::TextSource;
use coldframe_backbone::engine::{Reason, Said, Speech, SpeechOptions, Spoken, Voice};
use coldframe_backbone::sample::{Grammar, Grammars, LogitHook, SamplingParams, Verdict};
use coldframe_backbone::text::Tokenizer;
use serde_json::json;
use std::sync::Arc;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz!";
const END: u32 = 27;

/// A token for each letter, and one control token that ends.
fn tokenizer() -> Arc<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let vocab: serde_json::Map<_, _> =
        LETTERS.chars().enumerate().map(|(id, letter)| (letter.to_string(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": END, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "<|end|>"}"#).unwrap();
    Arc::new(Tokenizer::open(TextSource::Folder(folder.path())).unwrap())
}

/// Logits whose likeliest token is `token`.
fn logits(token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; END as usize + 1];
    logits[token as usize] = 9.0;
    logits
}

/// What a voice makes of a text, letter by letter; `.` stands for the control token that ends.
fn say(options: SpeechOptions, text: &str) -> (String, Option<Reason>, Vec<Spoken>) {
    let mut speech = Speech::new(&tokenizer(), &[], options).unwrap();
    let (mut said, mut all) = (String::new(), Vec::new());
    for letter in text.chars() {
        let token = LETTERS.find(letter).map_or(END, |id| id as u32);
        let end = match speech.next(&mut logits(token)).unwrap() {
            Said::End(reason) => Some(reason),
            Said::Token(spoken) => {
                said += &spoken.text;
                all.push(spoken.clone());
                spoken.end
            }
        };
        if end.is_some() {
            return (said + &speech.finish(), end, all);
        }
    }
    (said + &speech.finish(), None, all)
}

fn greedy() -> SpeechOptions {
    SpeechOptions::new(SamplingParams::greedy(), 0)
}

fn stopping(stop: &str) -> SpeechOptions {
    let params = SamplingParams { stop: vec![stop.to_owned()], ..SamplingParams::greedy() };
    SpeechOptions::new(params, 0)
}

#[test]
fn text_ends_where_it_should() {
    let check = |options, text, expected: (&str, Option<Reason>)| {
        let (said, end, _) = say(options, text);
        assert_eq!((said.as_str(), end), expected);
    };
    check(greedy(), "hello.world", ("hello", Some(Reason::Eos)));
    check(greedy(), "hello", ("hello", None));
    check(stopping("low"), "hellowworld", ("hel", Some(Reason::Stop)));
    check(stopping("low"), "hello", ("hello", None));
    check(stopping("low"), "hello.", ("hello", Some(Reason::Eos)));
    check(SpeechOptions { include_stop: true, ..stopping("low") }, "hellow", ("hellow", Some(Reason::Stop)));
    check(SpeechOptions { stop_tokens: vec![4], ..greedy() }, "hello", ("h", Some(Reason::Stop)));
    let on = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
    check(SpeechOptions::new(on.clone(), 0), "he.llo", ("hello", None));
    check(SpeechOptions { skip_special: false, ..SpeechOptions::new(on, 0) }, "h.i", ("h<|end|>i", None));
}

#[test]
fn a_grammar_binds_and_ends_the_text() {
    let grammars = Grammars::new(tokenizer());
    let constraint = grammars.compile(&Grammar::Choice(vec!["yes".into(), "no".into()])).unwrap();
    // The model wants `zzz…`; of what is allowed first, `n` and `y` are equally likely and `n` has the lower id.
    let (said, end, _) = say(SpeechOptions { constraint: Some(constraint), ..greedy() }, "zzzz");
    assert_eq!((said.as_str(), end), ("no", Some(Reason::Stop)));
}

/// Forbids a token, and ends after so many.
struct Short(usize);

impl LogitHook for Short {
    fn before_token(&mut self, output: &[u32], logits: &mut [f32]) -> coldframe_backbone::Result<Verdict> {
        logits[0] = f32::NEG_INFINITY;
        Ok(if output.len() == self.0 { Verdict::End } else { Verdict::Continue })
    }
}

#[test]
fn a_hook_forbids_and_ends() {
    let (said, end, spoken) = say(SpeechOptions { hook: Some(Box::new(Short(3))), ..greedy() }, "hallo");
    assert_eq!((said.as_str(), end, spoken.len()), ("hbl", Some(Reason::Stop), 3));
}

#[test]
fn logprobs_are_told_where_asked_for() {
    let params = SamplingParams { logprobs: true, top_logprobs: 2, ..SamplingParams::greedy() };
    let (_, _, spoken) = say(SpeechOptions::new(params, 0), "b");
    let expected = -(1.0 + 27.0 * (-9.0_f32).exp()).ln();
    assert!((spoken[0].logprob.unwrap() - expected).abs() < 1e-5);
    assert_eq!(spoken[0].top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(say(greedy(), "b").2[0].logprob, None);
}
