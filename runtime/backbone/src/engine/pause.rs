//! Sequences held back because no one takes what they say: without a seat and without pages until they go on.

use super::{Engine, SequenceId};

impl Engine {
    /// Holds a sequence back until [`Engine::resume`]. It gives up its seat and its pages as one that is put aside for
    /// others does, and what it says later is the same; meanwhile it neither runs nor waits.
    ///
    /// Returns whether it was alive and not held back yet. A choice that has not parted from its first one is none.
    pub fn pause(&mut self, id: SequenceId) -> bool {
        if self.sequences.get(&id).is_none_or(|sequence| sequence.paused) {
            return false;
        }
        self.preempt(id);
        let sequence = self.sequences.get_mut(&id).expect("looked up above");
        sequence.paused = true;
        let lane = sequence.lane();
        self.lanes.take(lane, id);
        true
    }

    /// Lets a sequence wait for its seat again.
    ///
    /// Returns whether it was held back.
    pub fn resume(&mut self, id: SequenceId) -> bool {
        let Some(sequence) = self.sequences.get_mut(&id).filter(|sequence| sequence.paused) else {
            return false;
        };
        sequence.paused = false;
        let lane = sequence.lane();
        self.lanes.put(lane, id);
        true
    }

    /// Sequences held back.
    pub fn paused(&self) -> usize {
        self.sequences.values().filter(|sequence| sequence.paused).count()
    }
}
