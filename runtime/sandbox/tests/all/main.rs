//! The sandbox from outside: guests that keep every rule and guests that break each one.

mod bed;
mod capabilities;
mod checks;
mod compiling;
mod escapes;
mod examples;
mod fuzzing;
mod guests;
mod hooks;
mod isolation;
mod lanes;
mod limits;
mod model;
mod wasi;
mod web;
