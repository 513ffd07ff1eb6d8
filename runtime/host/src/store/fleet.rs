//! The fleet of one: this host alone is there, and asking it means asking itself.
//!
//! The clustered back end puts others beside it; nothing here knows a network.

use super::{Fleet, NodeInfo, Rejected, Result, StoreError};
use crate::call::Later;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What a host does when it is asked for something.
pub type Control = Arc<dyn Fn(Value) -> Later<'static, Result<Value>> + Send + Sync>;

/// A fleet of one host.
pub struct SoloFleet {
    members: watch::Sender<Vec<NodeInfo>>,
    control: Control,
    announcements: Arc<AtomicU64>,
}

impl SoloFleet {
    /// A fleet whose only host answers by `control`.
    pub fn new(control: Control) -> Self {
        Self { members: watch::Sender::default(), control, announcements: Arc::default() }
    }

    fn is_other(&self, node: &str) -> bool {
        self.members.borrow().iter().any(|member| member.node != node)
    }
}

fn refused<T>(why: Rejected) -> Result<T> {
    Err(StoreError::Rejected(why))
}

impl Fleet for SoloFleet {
    fn announce(&self, me: NodeInfo, ttl: Duration) -> Later<'_, Result<()>> {
        Box::pin(async move {
            if self.is_other(&me.node) {
                let problem = format!("{} cannot join: this store serves one host", me.node);
                return refused(Rejected::Invalid(problem));
            }
            self.members.send_replace(vec![me]);
            let (announcements, members) = (Arc::clone(&self.announcements), self.members.clone());
            let mine = announcements.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::spawn(async move {
                tokio::time::sleep(ttl).await;
                if announcements.load(Ordering::SeqCst) == mine {
                    members.send_replace(Vec::new());
                }
            });
            Ok(())
        })
    }

    fn members(&self) -> watch::Receiver<Vec<NodeInfo>> {
        self.members.subscribe()
    }

    fn call<'a>(&'a self, node: &'a str, request: Value) -> Later<'a, Result<Value>> {
        let known = self.members.borrow().iter().any(|member| member.node == node);
        match known {
            true => (self.control)(request),
            false => Box::pin(async move { refused(Rejected::Absent(format!("host {node}"))) }),
        }
    }
}
