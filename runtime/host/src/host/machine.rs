//! The state of the machine as probes and `/sleep` see it.

use super::control::Control;
use crate::admin::LiveControl;
use crate::call::Later;
use crate::http::app::Machine as Edge;
use crate::http::problem::{Problem, Result};
use coldframe_policy::units::BackboneId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Functions put to sleep by one request.
const FUNCTIONS_MAX: usize = 100_000;

/// The machine, for the edge.
pub struct State {
    /// What runs.
    pub control: Arc<Control>,
    /// Put to sleep as a whole.
    pub asleep: AtomicBool,
    /// Why the store takes no writes, where that is so.
    pub broken: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl State {
    async fn put_to_sleep(&self, level: u8) -> Result<()> {
        for function in self.control.catalog.functions(None, None, FUNCTIONS_MAX) {
            LiveControl::sleep(&*self.control, &function.names, level).await?;
        }
        Ok(())
    }
}

impl Edge for State {
    fn ready(&self) -> std::result::Result<(), String> {
        for (place, name) in self.control.backbones.iter().enumerate() {
            let number = BackboneId(u32::try_from(place).unwrap_or(u32::MAX));
            // One that left memory comes back with the next call.
            if let Some(model) = self.control.machine.model(number) {
                model.health().map_err(|_| format!("backbone `{name}` changed on disk and is fenced"))?;
            }
        }
        Ok(())
    }

    fn started(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    fn info(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "backbones": self.control.backbones(),
            "store": (self.broken)().map_or_else(|| "ok".to_owned(), |why| format!("read-only: {why}")),
        })
    }

    fn sleep<'a>(&'a self, level: u8, _: &'a [String]) -> Later<'a, Result<()>> {
        Box::pin(async move {
            if level > 2 {
                return Err(Problem::invalid("level", "0, 1 or 2"));
            }
            if level > 0 {
                self.put_to_sleep(level).await?;
            }
            self.asleep.store(true, Ordering::Relaxed);
            Ok(())
        })
    }

    fn wake<'a>(&'a self, _: &'a [String]) -> Later<'a, Result<()>> {
        Box::pin(async move {
            // The next call of each function brings it back; nothing is brought in ahead of it.
            self.asleep.store(false, Ordering::Relaxed);
            Ok(())
        })
    }

    fn is_sleeping(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }
}
