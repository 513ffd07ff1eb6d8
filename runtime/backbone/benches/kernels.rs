//! Speed of the matrix kernels by shape and batch.

fn main() {}
