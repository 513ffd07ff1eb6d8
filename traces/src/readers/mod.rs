//! One file per format, all of one shape: what it reads, its columns, how a row becomes a record.
//!
//! The driver (`rows`), ordering (`order`), tables (`table`) and identities (`names`) are shared.

pub mod azure_functions_2019;
pub mod azure_functions_2021;
pub mod azure_llm;
pub mod burstgpt;
pub mod coldframe_csv;
pub mod coldframe_jsonl;
pub mod coldframe_parquet;
pub mod gentd26;
pub(crate) mod json;
pub mod lengths;
pub mod llmservingsim;
pub mod mooncake;
pub(crate) mod names;
pub(crate) mod order;
pub mod qwen_bailian;
pub(crate) mod rows;
pub mod servegen;
pub mod splitwise;
pub(crate) mod table;
pub mod vidur;

use crate::open::OpenOptions;
use order::Order;

/// The order the options ask for, in formats that are sorted as published.
fn order(options: &OpenOptions) -> Order {
    if options.sort { Order::sort(options.sort_rows_max) } else { Order::strict() }
}
