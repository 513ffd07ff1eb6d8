//! The integration tests of the backbone, one binary.

mod driver;
mod golden;
mod reference;
