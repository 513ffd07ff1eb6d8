//! The ways in which a request can say which adapter it means, and the state that llama.cpp's way needs.

pub mod naming;
pub mod scales;

pub use naming::{Named, bind};
