//! Money: a tariff file and what a run used give a bill, in integer nano-dollars.
//!
//! It knows nothing of policies, functions or requests beyond their counts; [`apportion`] splits a bill by any weights.

mod apportion;
mod bill;
mod tariff;
mod usage;

pub use apportion::apportion;
pub use bill::{CostError, bill};
pub use tariff::{GpuBasis, Tariff};
pub use usage::{GpuUsage, LifeRule, Lives, Usage};

#[cfg(test)]
mod tests;
