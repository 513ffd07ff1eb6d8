//! Text in and out: tokenizer, chat template, streaming detokeniser, stop strings.
//!
//! [`Tokenizer`] reads the vocabulary of a GGUF file or of a `tokenizer.json`; [`ChatTemplate`] renders messages as
//! Hugging Face does; [`Tokenizer::encode_chat`] joins the two without letting a message forge a control token;
//! [`Stream`] turns tokens back into text as they come. Token ids go no further than this: the model is elsewhere.

mod bpe;
mod chat;
mod folder;
mod gguf;
mod python;
mod special;
mod split;
mod stream;
mod table;
mod template;
mod tokenizer;

pub use chat::ChatPrompt;
pub use stream::{Piece, STOP_BYTES_MAX, STOPS_MAX, Stream, StreamOptions};
pub use template::{ChatInput, ChatTemplate, RENDERED_BYTES_MAX, TEMPLATE_BYTES_MAX};
pub use tokenizer::{ENCODE_BYTES_MAX, Special, Tokenizer};
