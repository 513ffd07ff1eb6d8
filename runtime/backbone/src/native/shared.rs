//! A buffer that the threads of a team write in disjoint pieces.

#![expect(unsafe_code, reason = "the borrow checker cannot see that phases and rows keep threads apart")]

/// A buffer of floats that several threads write, each its own part, between barriers.
#[derive(Debug, Clone, Copy)]
pub struct SharedMut {
    base: *mut f32,
    len: usize,
}

// SAFETY: every use says which part it takes, and its caller keeps parts apart.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Shares `buffer` until the step ends; it must not be resized meanwhile.
    pub fn new(buffer: &mut [f32]) -> Self {
        Self { base: buffer.as_mut_ptr(), len: buffer.len() }
    }

    /// `len` values from `start`, to write.
    ///
    /// # Safety
    /// No other thread has any of them between two barriers.
    #[expect(clippy::mut_from_ref, reason = "that is the purpose; the caller keeps parts apart")]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start + len <= self.len, "inside the buffer");
        // SAFETY: inside by the assertion, apart by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), len) }
    }

    /// The address of value `at`.
    pub fn address(&self, at: usize) -> *mut f32 {
        assert!(at <= self.len, "inside the buffer");
        // SAFETY: inside by the assertion.
        unsafe { self.base.add(at) }
    }
}
