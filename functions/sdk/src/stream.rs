//! A generation as an iterator of events, with the ways it is mostly used: forwarded to the caller, or read to its end.

use crate::model::{Generation, wait_any};
use crate::{End, Event, Failure, Reason, Task, reply};

/// A generation at work. It started when it was made, runs beside the others, and is cancelled when dropped.
///
/// As an iterator it gives each [`Event`] as it comes, waiting for it; the last one is [`Event::End`].
pub struct Stream {
    generation: Generation,
    over: bool,
}

impl Stream {
    /// Writes each text to the caller as it comes, and tells the caller why it ended.
    ///
    /// # Errors
    /// The generation failed, or the caller has gone (`closed`).
    pub fn forward(self) -> Result<End, Failure> {
        self.forward_with(|text| text.to_owned())
    }

    /// Like [`Stream::forward`], with each text changed on its way.
    ///
    /// # Errors
    /// As there.
    pub fn forward_with(self, mut change: impl FnMut(&str) -> String) -> Result<End, Failure> {
        for event in self {
            let event = event?;
            let text = change(event.text());
            if !text.is_empty() {
                reply::write(&text)?;
            }
            if let Event::End(end) = event {
                if end.reason == Reason::Length {
                    reply::finish("length");
                }
                return Ok(end);
            }
        }
        Err(Failure::new("ended", "the generation ended without saying why"))
    }

    /// Everything until the end, as one text.
    ///
    /// # Errors
    /// The generation failed.
    pub fn text(self) -> Result<String, Failure> {
        Ok(self.finish()?.0)
    }

    /// Everything until the end, and how it ended.
    ///
    /// # Errors
    /// The generation failed.
    pub fn finish(self) -> Result<(String, End), Failure> {
        self.generation.finish()
    }

    /// Ends it now; [`Event::End`] still comes.
    pub fn cancel(&self) {
        self.generation.cancel();
    }

    /// Waits until one of several has something, and says which by its place.
    ///
    /// # Errors
    /// There is none to wait for.
    pub fn any(streams: &[&Self]) -> Result<usize, Failure> {
        let generations: Vec<&Generation> = streams.iter().map(|stream| &stream.generation).collect();
        wait_any(&generations).map(|place| place as usize)
    }
}

impl Task {
    /// Starts it.
    pub fn start(&self) -> Stream {
        Stream { generation: Generation::new(self), over: false }
    }
}

impl Iterator for Stream {
    type Item = Result<Event, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let event = self.generation.next().transpose();
        self.over = !matches!(event, Some(Ok(Event::Token(_))));
        event
    }
}

impl Event {
    /// The text that it brings; may be empty.
    pub fn text(&self) -> &str {
        match self {
            Self::Token(token) => &token.text,
            Self::End(end) => &end.text,
        }
    }
}
