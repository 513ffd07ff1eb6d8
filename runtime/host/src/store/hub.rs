//! Who watches which records, and what they are told.
//!
//! A watcher that falls behind is told so and let go: the last place in its queue is kept for [`Change::Lagged`], so a
//! gap is never silent. It knows no history; whoever joins brings its own backlog.

use super::Change;
use tokio::sync::mpsc;

/// Changes a watcher may be behind.
const BEHIND_MAX: usize = 1024;

struct Watcher {
    prefix: String,
    sender: mpsc::Sender<Change>,
    /// The place kept for the last word.
    last: mpsc::OwnedPermit<Change>,
}

/// Watchers of one registry.
#[derive(Default)]
pub(super) struct Hub {
    watchers: Vec<Watcher>,
}

fn key(change: &Change) -> &str {
    match change {
        Change::Put(record) => &record.key,
        Change::Deleted { key, .. } => key,
        Change::Lagged => "",
    }
}

/// A watcher that has to list again before it can watch.
pub(super) fn lagged() -> mpsc::Receiver<Change> {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(Change::Lagged).expect("a new queue has room");
    receiver
}

impl Hub {
    /// Adds a watcher that first gets what it missed.
    pub(super) fn join(&mut self, prefix: &str, backlog: Vec<Change>) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(backlog.len() + BEHIND_MAX + 1);
        let last = sender.clone().try_reserve_owned().expect("a new queue has room");
        for change in backlog {
            sender.try_send(change).expect("the queue was made for the backlog");
        }
        self.watchers.retain(|watcher| !watcher.sender.is_closed());
        self.watchers.push(Watcher { prefix: prefix.to_owned(), sender, last });
        receiver
    }

    /// Tells everyone concerned.
    pub(super) fn publish(&mut self, change: &Change) {
        for index in (0..self.watchers.len()).rev() {
            let watcher = &self.watchers[index];
            if key(change).starts_with(&watcher.prefix) && watcher.sender.try_send(change.clone()).is_err() {
                self.watchers.swap_remove(index).last.send(Change::Lagged);
            }
        }
    }

    /// Lets everyone go: what was stored is not known, so all list again.
    pub(super) fn lag_all(&mut self) {
        for watcher in self.watchers.drain(..) {
            watcher.last.send(Change::Lagged);
        }
    }
}
