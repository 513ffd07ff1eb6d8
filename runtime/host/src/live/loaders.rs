//! Threads that bring backbones, adapters and code in.
//!
//! They are there from the start, made by the thread that starts the host: a thread inherits the weight of the one that
//! makes it, and those that answer callers have a low one. What a load starts itself, an engine's threads among it, inherits
//! from these.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is gone and what was given to them is done.
pub struct Loaders(Mutex<Sender<Work>>);

impl Loaders {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads.max(1) {
            let receiver = receiver.clone();
            std::thread::Builder::new().name("loader".to_owned()).spawn(move || work(&receiver))?;
        }
        Ok(Self(Mutex::new(sender)))
    }

    /// Runs work on one of them and waits for it. Dropping this does not end the work.
    ///
    /// # Errors
    /// The work's own; or that it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (done, result) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Whoever asked may be gone.
            let _ = done.send(work());
        });
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(work);
        given.map_err(|_| "the threads that load have ended".to_owned())?;
        result.await.unwrap_or_else(|_| Err("the load failed: it panicked".to_owned()))
    }
}

fn work(receiver: &Mutex<Receiver<Work>>) {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // A panic drops the work's end of the channel, which is how its caller hears of it.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use super::Loaders;

    #[tokio::test]
    async fn work_is_done_and_a_panic_ends_nothing() {
        let loaders = Loaders::start(1).expect("a thread");
        assert_eq!(loaders.run(|| Ok(1)).await, Ok(1));
        let panicked = loaders.run(|| -> Result<(), String> { panic!("on purpose") }).await;
        assert!(panicked.is_err_and(|error| error.contains("panicked")));
        assert_eq!(loaders.run(|| Err::<(), _>("its own".to_owned())).await, Err("its own".to_owned()));
        let named = loaders.run(|| Ok(std::thread::current().name().map(str::to_owned))).await;
        assert_eq!(named, Ok(Some("loader".to_owned())));
    }
}
