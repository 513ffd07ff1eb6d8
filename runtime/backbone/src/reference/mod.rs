//! The candle executor: plain f32 tensors on any candle device; the yardstick of the others, and the way to a GPU.
