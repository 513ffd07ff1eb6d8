//! Integer newtypes: ids over `u32`, time in nanoseconds, memory in bytes.
//!
//! Money lives with the tariffs, outside the decision core. No float is ever a key or a clock here.

use serde::{Deserialize, Serialize};
use std::ops::{Add, AddAssign, Sub, SubAssign};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u32);
        impl $name {
            /// The id as an index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(/// A worker node: host memory, a disk, a network link and devices.
    WorkerId);
id!(/// A GPU, numbered over the whole fleet.
    DeviceId);
id!(/// A registered function: an adapter on a backbone.
    FunctionId);
id!(/// A base model.
    BackboneId);
id!(/// A container or engine process that serves requests on one device; numbers are reused after it stops.
    InstanceId);
id!(/// A request in flight; the executor's number, reusable once the request has ended.
    RequestId);

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);
        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// Difference, never below zero.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                debug_assert!(self.0 >= other.0, "amounts never go below zero");
                Self(self.0.saturating_sub(other.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }
    };
}

amount!(/// Time since the start of the run, or a duration: nanoseconds.
    Nanos);
amount!(/// Memory, bytes.
    Bytes);

impl Nanos {
    /// A point that is never reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// From decimal seconds of a configuration file; negative and NaN become zero, too large becomes [`Nanos::NEVER`].
    pub fn from_secs(seconds: f64) -> Self {
        // Adding a half and cutting is exact here and needs no library call; this runs in decisions.
        Self((seconds * 1e9 + 0.5) as u64)
    }

    /// For reports.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }
}
