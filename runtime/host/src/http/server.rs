//! The listening socket: how many connections there are, and how the server stops.
//!
//! At the limit of connections, and when the system has no file descriptor left, accepting pauses; a small reserve
//! still answers the probes, so that a full server is not taken for a dead one.

use super::app::{App, Stage};
use super::connection::{self, Place};
use super::limits::Limits;
use super::tls::Certificates;
use std::fs::File;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long accepting rests after an error. Arbitrary: long enough not to spin, short enough not to be felt.
const REST: Duration = Duration::from_millis(50);
/// How long streams have to write their last event once the grace is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until `shutdown` is ready, then drains: requests under way may finish within the grace, streams that have not
/// ended by then get an error event.
pub async fn run(
    listener: TcpListener,
    app: Arc<App>,
    certificates: Option<Arc<Certificates>>,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    let mut door = Door::new(listener, &app);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (stream, peer, place) = door.next() => {
                connections.spawn(connection::serve(stream, peer, app.clone(), certificates.clone(), place));
            }
        }
    }
    // No new connections from here on: the address is free for the next server.
    drop(door);
    drain(&app, connections).await;
}

async fn drain(app: &App, mut connections: JoinSet<()>) {
    app.stage.send_replace(Stage::Draining);
    if ended(&mut connections, app.limits().grace).await {
        return;
    }
    app.stage.send_replace(Stage::Ending);
    if !ended(&mut connections, LAST_WORDS).await {
        tracing::warn!(left = connections.len(), "connections that did not end were cut");
    }
}

async fn ended(connections: &mut JoinSet<()>, within: Duration) -> bool {
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(within, all).await.is_ok()
}

/// Lets connections in, as many as there is room for.
struct Door {
    listener: TcpListener,
    app: Arc<App>,
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    /// Given up when the system has no descriptor left, so that one more connection can be answered.
    spare: Option<File>,
}

impl Door {
    fn new(listener: TcpListener, app: &Arc<App>) -> Self {
        let Limits { connections, reserved, .. } = app.limits();
        Self {
            listener,
            app: app.clone(),
            places: Arc::new(Semaphore::new(connections)),
            reserve: Arc::new(Semaphore::new(reserved)),
            spare: None,
        }
    }

    /// The next connection. Dropping the future loses none.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Place) {
        loop {
            if self.spare.is_none() {
                self.spare = File::open("/dev/null").ok();
            }
            let place = self.place().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, self.better(place)),
                Err(error) if no_descriptor(&error) => {
                    self.app.behind.observe.closed("full");
                    if let Some((stream, peer)) = self.accept_with_spare().await {
                        return (stream, peer, Place { reserved: true, _permit: None });
                    }
                }
                Err(error) => tracing::debug!(%error, "a connection was lost before it was accepted"),
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn place(&self) -> Place {
        tokio::select! {
            biased;
            Ok(permit) = self.places.clone().acquire_owned() => Place { reserved: false, _permit: Some(permit) },
            Ok(permit) = self.reserve.clone().acquire_owned() => Place { reserved: true, _permit: Some(permit) },
            else => unreachable!("the semaphores are never closed"),
        }
    }

    /// A full place, where one was given back while the connection was awaited.
    fn better(&self, place: Place) -> Place {
        match self.places.clone().try_acquire_owned() {
            Ok(permit) if place.reserved => Place { reserved: false, _permit: Some(permit) },
            _ => place,
        }
    }

    async fn accept_with_spare(&mut self) -> Option<(TcpStream, SocketAddr)> {
        drop(self.spare.take()?);
        tokio::time::timeout(REST, self.listener.accept()).await.ok()?.ok()
    }
}

fn no_descriptor(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
