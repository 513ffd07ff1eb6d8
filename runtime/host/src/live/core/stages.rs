//! What each instance holds: pieces that arrive, are waited for, and leave when the last call lets go.
//!
//! A piece is a shared future: whoever needs it awaits the same load. The book of what is where is the core's; here are
//! only the bytes behind it.

use super::seam::{Arrived, Executors, FunctionInfo, Held};
use crate::call::Later;
use coldframe_policy::artifact::Class;
use coldframe_policy::units::{BackboneId, DeviceId, FunctionId};
use futures_util::FutureExt;
use futures_util::future::Shared;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often a piece that is still held is looked at. Arbitrary: far below any load.
const LOOK: Duration = Duration::from_millis(2);

/// A piece on its way or in place.
pub(super) type Stage = Shared<Later<'static, Result<Arrived, String>>>;

/// A piece that may be there already: found at once if so, else as [`stage`].
pub(super) fn stage_or_there(mut load: Later<'static, Result<Arrived, String>>) -> Stage {
    match load.as_mut().now_or_never() {
        Some(there) => {
            let there: Later<'static, Result<Arrived, String>> = Box::pin(std::future::ready(there));
            there.shared()
        }
        None => stage(load),
    }
}

/// A piece that is loaded by this future, which makes progress from now on.
pub(super) fn stage(load: Later<'static, Result<Arrived, String>>) -> Stage {
    let task = tokio::spawn(load);
    let joined: Later<'static, Result<Arrived, String>> =
        Box::pin(async move { task.await.unwrap_or_else(|error| Err(format!("the load failed: {error}"))) });
    joined.shared()
}

/// Pieces of one instance.
#[derive(Default)]
pub(super) struct Stages {
    /// Counts its starts: a report about an earlier one is about nothing.
    pub(super) epoch: u64,
    pub(super) device: DeviceId,
    pub(super) backbone: BackboneId,
    pub(super) function: Option<FunctionId>,
    /// By class and, for code and adapters, function.
    pub(super) pieces: BTreeMap<(Class, Option<FunctionId>), Stage>,
}

/// Lets a piece go; returns when nobody holds it any more.
pub(super) async fn release(stage: Stage, of: Option<(Arc<dyn Executors>, Arc<FunctionInfo>)>) {
    let Ok(Arrived { held, .. }) = stage.await else { return };
    if let Some((executors, function)) = of {
        executors.leaving(function, held.clone()).await;
    }
    let weak: Weak<_> = Arc::downgrade(&held);
    drop(held);
    dead(&weak).await;
}

/// Waits until nobody holds something any more.
pub(super) async fn dead<T: ?Sized>(weak: &Weak<T>) {
    while weak.strong_count() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

/// What is awaited before a call runs.
pub(super) struct Needs {
    pub(super) backbone: Stage,
    pub(super) adapters: Option<Stage>,
    pub(super) code: Option<Stage>,
}

impl Needs {
    /// Awaits all of it.
    pub(super) async fn pieces(self) -> Result<super::seam::Pieces, String> {
        let held = |arrived: Arrived| -> Held { arrived.held };
        let backbone = self.backbone.await.map(held)?;
        let adapters = match self.adapters {
            Some(stage) => Some(stage.await.map(held)?),
            None => None,
        };
        let code = match self.code {
            Some(stage) => Some(stage.await.map(held)?),
            None => None,
        };
        Ok(super::seam::Pieces { backbone, adapters, code })
    }
}
