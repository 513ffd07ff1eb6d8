//! Sequences in flight: admission to the batch, steps, sampling, preemption, ends.
