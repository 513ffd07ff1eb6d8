//! The formats by name, and telling them apart by the first line.
//!
//! It leaves out reading: each format's reader is a file of its own under `readers`.

use crate::readers::table::Header;

macro_rules! formats {
    ($($variant:ident $name:literal $what:literal),* $(,)?) => {
        /// A trace format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Format { $(#[doc = $what] $variant),* }

        impl Format {
            /// Every format.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name used on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it holds and how its first line looks.
            pub fn describe(self) -> &'static str {
                match self { $(Self::$variant => $what),* }
            }
        }
    };
}

formats! {
    AzureFunctions2019 "azure-functions-2019" "Invocations per minute: HashOwner,HashApp,HashFunction,Trigger,1,2,...",
    AzureFunctions2021 "azure-functions-2021" "Invocations: app,func,end_timestamp,duration (seconds)",
    AzureLlm "azure-llm" "LLM requests of 2023 and 2024: TIMESTAMP,ContextTokens,GeneratedTokens",
    BurstGpt "burstgpt" "LLM requests: Timestamp,Model,Request tokens,Response tokens,... (files 1 to 3)",
    Mooncake "mooncake" "LLM requests, JSONL: timestamp (ms), input_length, output_length, hash_ids",
    QwenBailian "qwen-bailian" "LLM requests, JSONL: chat_id, parent_chat_id, timestamp (s), turn, hash_ids, ...",
    ServeGen "servegen" "Client rates to generate from: client,t_s,rate_rps,cv,dist,p1,p2 (lengths in a second file)",
    GenTd26Adapters "gentd26-adapters" "LoRA requests without times: row,type,base,exec_s,...,adapters",
    GenTd26Requests "gentd26-requests" "LoRA requests with times, no adapter ids: gmt_create,predict_type,...",
    Vidur "vidur" "LLM requests: arrived_at,num_prefill_tokens,num_decode_tokens",
    Splitwise "splitwise" "LLM requests: request_id,request_type,application_id,arrival_timestamp,...",
    Lengths "lengths" "Token lengths without times: num_prefill_tokens,num_decode_tokens or question_tokens,answer_tokens",
    LlmServingSim "llmservingsim" "LLM requests, JSONL: input_toks, output_toks, arrival_time_ns",
    ColdframeCsv "coldframe-csv" "Our own, CSV: arrival_s,function,adapter,base_model,prompt_tokens,output_tokens,...",
    ColdframeJsonl "coldframe-jsonl" "Our own, JSONL: the same fields, one object a line",
    ColdframeParquet "coldframe-parquet" "Our own, Parquet: the same columns",
}

impl Format {
    /// The format of that name; `coldframe` alone is the CSV one.
    pub fn by_name(name: &str) -> Option<Self> {
        if name == "coldframe" {
            return Some(Self::ColdframeCsv);
        }
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// Tells the format by the first line that is no comment.
    pub fn detect(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"PAR1") {
            return Some(Self::ColdframeParquet);
        }
        if line.trim_ascii_start().starts_with(b"{") {
            return Self::detect_json(line);
        }
        let header = Header::parse(line).ok()?;
        let has = |names: &[&str]| names.iter().all(|n| header.find(n).is_some());
        let minutes = || header.names.iter().any(|n| n.parse::<u32>().is_ok());
        let table: [(Self, &[&str]); 14] = [
            (Self::ColdframeCsv, &["arrival_s", "function"]),
            (Self::AzureFunctions2021, &["app", "func", "end_timestamp", "duration"]),
            (Self::AzureLlm, &["TIMESTAMP", "ContextTokens", "GeneratedTokens"]),
            (Self::BurstGpt, &["Timestamp", "Model", "Request tokens", "Response tokens"]),
            (Self::ServeGen, &["client", "t_s", "rate_rps", "cv", "dist"]),
            (Self::GenTd26Adapters, &["row", "base", "exec_s", "n_adapters", "adapters"]),
            (Self::GenTd26Adapters, &["exec_time_seconds", "checkpoint_model_version_id", "lora_args"]),
            (Self::GenTd26Requests, &["gmt_create", "groupId", "checkpoint_model_version_id"]),
            (Self::Vidur, &["arrived_at", "num_prefill_tokens", "num_decode_tokens"]),
            (Self::Splitwise, &["arrival_timestamp", "prompt_size", "token_size"]),
            (Self::Lengths, &["num_prefill_tokens", "num_decode_tokens"]),
            (Self::Lengths, &["question_tokens", "answer_tokens"]),
            (Self::AzureFunctions2019, &["HashFunction", "HashOwner", "Trigger"]),
            (Self::AzureFunctions2019, &["HashFunction", "HashOwner", "HashApp"]),
        ];
        let found = table.into_iter().find(|(_, names)| has(names)).map(|(format, _)| format);
        found.filter(|f| *f != Self::AzureFunctions2019 || minutes())
    }

    fn detect_json(line: &[u8]) -> Option<Self> {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
        let has = |names: &[&str]| names.iter().all(|n| object.contains_key(*n));
        if has(&["coldframe_trace"]) || has(&["arrival_s", "function"]) {
            Some(Self::ColdframeJsonl)
        } else if has(&["chat_id", "timestamp"]) {
            Some(Self::QwenBailian)
        } else if has(&["timestamp", "input_length", "output_length"]) {
            Some(Self::Mooncake)
        } else if has(&["input_toks", "arrival_time_ns"]) {
            Some(Self::LlmServingSim)
        } else {
            None
        }
    }

    /// The list for error messages, one format a line.
    pub fn listing() -> String {
        Self::ALL.iter().map(|f| format!("\n  {:<22} {}", f.name(), f.describe())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detection() {
        let check =
            |line: &str, want: Option<Format>| assert_eq!(Format::detect(line.as_bytes()), want, "{line}");
        check("TIMESTAMP,ContextTokens,GeneratedTokens", Some(Format::AzureLlm));
        check("HashOwner,HashApp,HashFunction,Trigger,480,481", Some(Format::AzureFunctions2019));
        check("HashOwner,HashApp,HashFunction,Average,Count", None);
        check("app,func,end_timestamp,duration", Some(Format::AzureFunctions2021));
        check(
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
            Some(Format::BurstGpt),
        );
        check(
            r#"{"timestamp": 0, "input_length": 1, "output_length": 2, "hash_ids": []}"#,
            Some(Format::Mooncake),
        );
        check(
            r#"{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.1, "input_length": 1, "output_length": 2}"#,
            Some(Format::QwenBailian),
        );
        check(r#"{"coldframe_trace":1}"#, Some(Format::ColdframeJsonl));
        check("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio", Some(Format::Lengths));
        check("arrived_at,num_prefill_tokens,num_decode_tokens", Some(Format::Vidur));
        check("split,idx,question_tokens,answer_tokens", Some(Format::Lengths));
        check("client,t_s,rate_rps,cv,dist,p1,p2", Some(Format::ServeGen));
        check("a,b,c", None);
        check("{", None);
        Format::ALL.iter().for_each(|f| assert_eq!(Format::by_name(f.name()), Some(*f)));
    }
}
