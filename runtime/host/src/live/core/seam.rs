//! The seam between decisions and work: what is loaded, by whom, and what a call runs on.
//!
//! The driver asks for pieces and holds them; dropping the last hold is what frees memory, so a running call keeps what
//! it runs on. [`super::machine`] is the real worker; tests drive the same seam with one that obeys them.

use crate::call::{Answer, Call, CallError, Finish, Later, Phases, Usage};
use crate::live::Before;
use crate::meter::RequestRow;
use crate::records::{Digest, Generation, Names};
use coldframe_policy::artifact::{Class, Tier};
use coldframe_policy::units::BackboneId;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// Something in place. Whoever holds it keeps it.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What the core counts as one function: a generation of a function, or a tenant's use of a backbone as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionKey {
    /// Tenant and name.
    pub names: Names,
    /// Its generation; `None` is the backbone itself.
    pub generation: Option<Digest>,
}

/// A function as executors need it.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionInfo {
    /// Which.
    pub key: FunctionKey,
    /// Its backbone.
    pub backbone: BackboneId,
    /// Its record; `None` is the backbone itself.
    pub generation: Option<Arc<Generation>>,
}

impl FunctionInfo {
    /// Device memory of its adapters, bytes.
    pub fn adapter_bytes(&self) -> u64 {
        let adapters = self.generation.iter().flat_map(|generation| &generation.adapters);
        adapters.map(|adapter| adapter.memory_bytes).sum()
    }
}

/// A piece that arrived.
#[derive(Clone)]
pub struct Arrived {
    /// The piece.
    pub held: Held,
    /// Where it really came from.
    pub from: Tier,
    /// Time spent reading (and hashing, parsing).
    pub read: Duration,
    /// Time spent packing and copying.
    pub load: Duration,
}

/// What a call runs on.
#[derive(Clone)]
pub struct Pieces {
    /// The backbone.
    pub backbone: Held,
    /// The function's adapters; `None` where it has none.
    pub adapters: Option<Held>,
    /// Its code; `None` where it has none.
    pub code: Option<Held>,
}

/// How large a call is, before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Tokens it may generate, over all choices.
    pub max_tokens: u32,
}

/// What became of a call that ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// What it used.
    pub usage: Usage,
    /// Where the time before its first token went, where there was one.
    pub phases: Option<Phases>,
    /// Why it failed, if it did; `None` also where the caller went away.
    pub error: Option<CallError>,
    /// Whether the caller went away before the end.
    pub dropped: bool,
    /// Why each choice ended, of those that did.
    pub finished: Vec<Finish>,
}

/// A load that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// What was brought.
    pub class: Class,
    /// Where from: where it really was, once it came.
    pub from: Tier,
    /// How long reading and packing took; `None` where it failed or there was nothing to bring.
    pub took: Option<Duration>,
}

/// Watches what the core's task sees end. It must not block: the task waits for it.
pub trait Witness: Send + Sync + 'static {
    /// A call that ran has ended.
    fn ended(&self, row: &RequestRow, ran: &Ran);
    /// A load is over.
    fn loaded(&self, load: Load);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Witness for Unwatched {
    fn ended(&self, _: &RequestRow, _: &Ran) {}
    fn loaded(&self, _: Load) {}
}

/// Carries out what the core asks for. Futures outlive the borrow: the driver spawns them.
pub trait Executors: Send + Sync + 'static {
    /// Brings a backbone into place.
    fn backbone(&self, backbone: BackboneId, from: Tier) -> Later<'static, Result<Arrived, String>>;

    /// Brings a function's code into place, compiled. Not asked where it has none.
    fn code(&self, function: Arc<FunctionInfo>) -> Later<'static, Result<Arrived, String>>;

    /// Brings a function's adapters into place, onto a backbone. Not asked where it has none.
    fn adapters(
        &self,
        function: Arc<FunctionInfo>,
        backbone: Held,
        from: Tier,
    ) -> Later<'static, Result<Arrived, String>>;

    /// Adapters are about to leave the device: caches that belong to them go now.
    fn leaving(&self, function: Arc<FunctionInfo>, adapters: Held) -> Later<'static, ()>;

    /// Host memory keeps copies of these functions' adapters from now on, and of no others.
    fn keep_staged(&self, functions: Vec<FunctionKey>);

    /// How large a call is.
    fn size<'a>(&'a self, call: &'a Call) -> Later<'a, Size>;

    /// Starts a call; the second part tells what became of it, when nothing of it is left.
    fn run(
        &self,
        call: Call,
        function: Arc<FunctionInfo>,
        pieces: Pieces,
        before: Before,
    ) -> (Answer, Later<'static, Ran>);
}
