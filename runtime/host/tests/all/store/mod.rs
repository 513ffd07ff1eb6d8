//! Tests of the stores: one contract on every back end, and what happens when disks and processes fail.

mod backup;
mod books;
mod contract;
mod damage;
mod disk;
mod history;
mod kill;
mod place;

pub use place::Place;
