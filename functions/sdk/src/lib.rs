//! Write a function of Coldframe in Rust: code in front of a LoRA adapter, run in a sandbox beside the model.
//!
//! A function is a `fn(Request) -> Result<(), Failure>` handed to [`export!`]. It makes [`Task`]s, reads their tokens
//! from a [`Stream`], and answers through [`reply`]:
//!
//! ```ignore
//! use coldframe_function::{Failure, Request, Task, export};
//!
//! fn handle(request: Request) -> Result<(), Failure> {
//!     Task::of(&request).start().forward()?;
//!     Ok(())
//! }
//!
//! export!(handle);
//! ```
//!
//! The types are those of `function.wit`. Left out: an HTTP server of your own (a `wasi:http` component needs no SDK) and
//! async Rust: a host call waits, and [`Stream::any`] waits for several generations at once.

#[doc(hidden)]
pub mod bindings;
mod hook;
mod stream;
mod task;

pub use bindings::coldframe::function::model::{self, End, Event, Input, Likely, Reason, Shape, Task, Token};
pub use bindings::coldframe::function::types::{Failure, Field, Message, Params, Request, Route};
pub use bindings::coldframe::function::{clock, http, log, random, reply, state};
pub use hook::{Hook, Verdict};
pub use stream::Stream;

#[doc(hidden)]
pub mod macros {
    //! What [`export!`](crate::export) expands to; not for use by hand.
    pub use crate::bindings;
    pub use crate::hook::{Slot, bindings as hook_bindings};
}

impl Failure {
    /// A failure with a stable code of one word and a text for people.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl Request {
    /// The last thing the user said: of a conversation, the prompt, or the body of an `invoke`.
    pub fn question(&self) -> String {
        match self.route {
            Route::Completion => self.prompt.clone(),
            Route::Invoke => String::from_utf8_lossy(&self.body).into_owned(),
            Route::Chat => {
                let last = self.messages.iter().rev().find(|message| message.role == "user");
                last.map(|message| message.content.clone()).unwrap_or_default()
            }
        }
    }
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }

    /// What the model should keep to.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".to_owned(), content: content.into() }
    }
}

/// Makes a `fn(Request) -> Result<(), Failure>` the function's handler, and with `hook: Type` a [`Hook`] its say in each
/// token.
#[macro_export]
macro_rules! export {
    ($handle:path) => {
        struct ColdframeHandler;
        impl $crate::macros::bindings::exports::coldframe::function::handler::Guest for ColdframeHandler {
            fn handle(request: $crate::Request) -> Result<(), $crate::Failure> {
                $handle(request)
            }
        }
        $crate::macros::bindings::export_function!(ColdframeHandler with_types_in $crate::macros::bindings);
    };
    ($handle:path, hook: $hook:ty) => {
        $crate::export!($handle);
        struct ColdframeHook;
        thread_local! {
            static COLDFRAME_HOOK: $crate::macros::Slot<$hook> = const { $crate::macros::Slot::new() };
        }
        impl $crate::macros::hook_bindings::exports::coldframe::function::token_hook::Guest for ColdframeHook {
            fn begin(context: String) {
                COLDFRAME_HOOK.with(|slot| slot.begin(&context));
            }
            fn before_token(previous: Option<u32>, text: String) -> $crate::Verdict {
                COLDFRAME_HOOK.with(|slot| slot.before_token(previous, &text))
            }
        }
        $crate::macros::hook_bindings::export_hook!(ColdframeHook with_types_in $crate::macros::hook_bindings);
    };
}
