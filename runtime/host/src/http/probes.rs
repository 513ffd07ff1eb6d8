//! Probes, facts, metrics, sleep: everything about the server rather than about a model.
//!
//! `/health` says that the process is up, `/startup` that start-up is over, `/ready` that calls can be answered; a
//! balancer that mixes them would restart a server that only loads.

use super::app::Stage;
use super::ask::Ask;
use super::body::{self, Reply};
use super::problem::{Problem, Result};
use http::StatusCode;
use serde_json::json;
use std::time::Duration;

/// The process is up.
///
/// # Errors
/// None.
pub async fn health(_ask: Ask) -> Result<Reply> {
    Ok(body::text(StatusCode::OK, "ok\n"))
}

/// Calls can be answered.
///
/// # Errors
/// 503 `not_ready`.
pub async fn ready(ask: Ask) -> Result<Reply> {
    if *ask.app.stage().borrow() != Stage::Serving {
        return Err(not_yet("draining", "the server stops"));
    }
    match ask.app.behind.machine.ready() {
        Ok(()) => Ok(body::text(StatusCode::OK, "ready\n")),
        Err(why) => Err(not_yet("not_ready", &why)),
    }
}

/// Start-up is over.
///
/// # Errors
/// 503 `not_started`.
pub async fn startup(ask: Ask) -> Result<Reply> {
    match ask.app.behind.machine.started() {
        Ok(()) => Ok(body::text(StatusCode::OK, "started\n")),
        Err(why) => Err(not_yet("not_started", &why)),
    }
}

fn not_yet(code: &str, why: &str) -> Problem {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, why);
    Problem { retry_after: Some(Duration::from_secs(1)), ..problem }
}

/// Facts about the server.
///
/// # Errors
/// None.
pub async fn info(ask: Ask) -> Result<Reply> {
    Ok(body::good(&ask.app.behind.machine.info()))
}

/// The version.
///
/// # Errors
/// None.
pub async fn version(_ask: Ask) -> Result<Reply> {
    Ok(body::good(&json!({"version": env!("CARGO_PKG_VERSION")})))
}

/// Metrics, as Prometheus reads them.
///
/// # Errors
/// None.
pub async fn metrics(ask: Ask) -> Result<Reply> {
    let text = ask.app.behind.observe.metrics().await;
    Ok(body::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}

/// Tags of `/sleep` and `/wake_up` that are known.
const TAGS: [&str; 2] = ["weights", "kv_cache"];

fn tags(pairs: &[(String, String)]) -> Result<Vec<String>> {
    let given = pairs.iter().filter(|(name, _)| name == "tags").map(|(_, tag)| tag.clone());
    given
        .map(|tag| match TAGS.contains(&tag.as_str()) {
            true => Ok(tag),
            false => Err(Problem::invalid("tags", "must be `weights` or `kv_cache`")),
        })
        .collect()
}

/// Gives memory back.
///
/// # Errors
/// 400 for another level than 0, 1 and 2.
pub async fn sleep(ask: Ask) -> Result<Reply> {
    let pairs = ask.query()?;
    let level = match pairs.iter().find(|(name, _)| name == "level").map(|(_, level)| level.as_str()) {
        None | Some("1") => 1,
        Some("0") => 0,
        Some("2") => 2,
        Some(_) => return Err(Problem::invalid("level", "must be 0, 1 or 2")),
    };
    ask.app.behind.machine.sleep(level, &tags(&pairs)?).await?;
    Ok(body::empty(StatusCode::OK))
}

/// Takes it again.
///
/// # Errors
/// 400 for an unknown tag.
pub async fn wake_up(ask: Ask) -> Result<Reply> {
    let tags = tags(&ask.query()?)?;
    ask.app.behind.machine.wake(&tags).await?;
    Ok(body::empty(StatusCode::OK))
}

/// Whether it sleeps.
///
/// # Errors
/// None.
pub async fn is_sleeping(ask: Ask) -> Result<Reply> {
    Ok(body::good(&json!({"is_sleeping": ask.app.behind.machine.is_sleeping()})))
}
