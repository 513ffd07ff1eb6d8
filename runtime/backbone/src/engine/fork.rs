//! Choices of one request: they start from one computed prompt and part at their first token.

use super::sequence::{Branch, Phase, Sequence};
use super::{Engine, Reason, SequenceId, Usage, What};

impl Engine {
    /// Starts a sequence's choices on the pages of its prompt; the shared tail page is copied by whoever writes first.
    pub(super) fn fork(&mut self, id: SequenceId, logits: &[f32]) {
        let sequence = self.sequences.get_mut(&id).expect("a planned sequence lives");
        for Branch { id: choice, voice } in std::mem::take(&mut sequence.branches) {
            let sequence = &self.sequences[&id];
            let (prompt, cached) = (sequence.prompt, sequence.cached.unwrap_or(0));
            let child = child_of(sequence, voice);
            child.pages.iter().for_each(|page| self.book.retain(*page));
            self.sequences.insert(choice, child);
            self.running.insert(choice);
            self.tell(choice, What::Started { prompt, cached });
            self.speak(choice, &mut logits.to_vec());
        }
    }

    /// The next choice takes the place of a cancelled first one whose prompt is not computed yet.
    pub(super) fn promote(&mut self, id: SequenceId) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        let heir = sequence.branches.remove(0);
        sequence.voice = heir.voice;
        if sequence.phase == Phase::Running {
            self.running.remove(&id);
            self.running.insert(heir.id);
        } else if !sequence.paused {
            self.lanes.take(sequence.lane(), id);
            self.lanes.put(sequence.lane(), heir.id);
        }
        if let Some(cached) = sequence.cached {
            self.tell(heir.id, What::Started { prompt: sequence.prompt, cached });
        }
        self.sequences.insert(heir.id, sequence);
    }

    /// Cancels a choice that has not started. Returns whether there was one.
    pub(super) fn cancel_branch(&mut self, id: SequenceId) -> bool {
        for sequence in self.sequences.values_mut() {
            if let Some(place) = sequence.branches.iter().position(|branch| branch.id == id) {
                sequence.branches.remove(place);
                let usage = Usage { prompt: sequence.prompt, ..Usage::default() };
                self.tell(id, What::Done { reason: Reason::Cancelled, text: String::new(), usage });
                return true;
            }
        }
        false
    }
}

fn child_of(sequence: &Sequence, voice: Box<dyn super::Voice>) -> Sequence {
    Sequence {
        owner: sequence.owner,
        yields: sequence.yields,
        adapter: sequence.adapter.clone(),
        tokens: sequence.tokens.clone(),
        prompt: sequence.prompt,
        computed: sequence.computed,
        pages: sequence.pages.clone(),
        most: sequence.most,
        voice,
        branches: Vec::new(),
        phase: Phase::Running,
        cached: sequence.cached,
        paused: false,
    }
}
