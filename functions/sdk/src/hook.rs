//! A function's say in each token: what the author writes, and where it lives between two tokens.
//!
//! The host makes an instance of the component for each generation that has a hook; it sees no other and reaches no
//! import but the log.

use std::cell::RefCell;

pub use bindings::exports::coldframe::function::token_hook::Verdict;

/// A say in each token of one generation.
pub trait Hook {
    /// Called once, before the first token, with the task's `hook` text.
    fn begin(context: &str) -> Self;
    /// Called before each token with the one before it (none before the first) and its text.
    fn before_token(&mut self, previous: Option<u32>, text: &str) -> Verdict;
}

/// The hook of this instance.
pub struct Slot<H>(RefCell<Option<H>>);

impl<H: Hook> Slot<H> {
    /// An empty one.
    #[expect(
        clippy::new_without_default,
        reason = "a default is not const, and a thread-local wants one that is"
    )]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Makes the hook.
    pub fn begin(&self, context: &str) {
        *self.0.borrow_mut() = Some(H::begin(context));
    }

    /// Asks the hook; before [`Slot::begin`] it has nothing to say.
    pub fn before_token(&self, previous: Option<u32>, text: &str) -> Verdict {
        self.0.borrow_mut().as_mut().map_or(Verdict::GoOn, |hook| hook.before_token(previous, text))
    }
}

pub mod bindings {
    //! Types of the export `token-hook`, made from `function.wit`.
    #![expect(missing_docs, reason = "made from function.wit, which explains them")]

    wit_bindgen::generate!({
        // The hook alone: a function without one must not be asked for it.
        inline: "package coldframe:hook-only; world hook { export coldframe:function/token-hook@0.1.0; }",
        world: "coldframe:hook-only/hook",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_hook",
        default_bindings_module: "coldframe_function::macros::hook_bindings",
    });
}
