//! The CPU executor: own kernels over the mapped pack, a team of threads, paged KV.
