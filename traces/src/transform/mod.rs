//! Streams over streams: cut, thin, spread, map to adapters, repeat, compose.
//!
//! None holds the trace; each adds a line to `notes` saying what it did and with which seed.

pub mod compose;
pub mod map;
pub mod noted;
pub mod rename;
pub mod repeat;
pub mod sample;
pub mod spread;

pub use compose::{Compose, Lengths, Popularity};
pub use map::{Map, MapSpec};
pub use noted::Noted;
pub use rename::Rename;
pub use repeat::{Opener, Repeat};
pub use sample::{Choice, Sample, SampleSpec, choose};
pub use spread::Spread;

/// Forwards what a transform leaves as it is.
macro_rules! forward {
    ($($inner:ident).+) => {
        fn rows_in(&self) -> u64 {
            self.$($inner).+.rows_in()
        }
        fn progress(&self) -> Option<f64> {
            self.$($inner).+.progress()
        }
        fn warnings(&self) -> Vec<String> {
            self.$($inner).+.warnings()
        }
    };
}
pub(crate) use forward;
