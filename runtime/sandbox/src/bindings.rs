//! The types of `functions/wit`, made by wasmtime. Host functions are linked by hand in [`crate::imports`], so that each is
//! charged in the same way; the traits generated here stay unused.

wasmtime::component::bindgen!({
    path: "../../functions/wit",
    world: "function-with-hook",
    with: { "coldframe:function/model.generation": crate::imports::Generation },
});

pub use coldframe::function::{http, log, model, types};
pub use exports::coldframe::function::token_hook;
