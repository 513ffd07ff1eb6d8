//! The dashboard at `/`: one page, made of the files beside this one, with nothing fetched from anywhere else.
//!
//! The page holds no data: its script asks the API with the key that the user enters and that stays in their tab. Style
//! and script are named by a nonce, so that nothing that finds its way into the page can run.

use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::openapi::{Describe, HTML};
use crate::http::problem::{Problem, Result};
use crate::http::router::{Access, Route};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// Scripts in the order they run in; they share one scope.
const SCRIPTS: [&str; 6] = [
    include_str!("base.js"),
    include_str!("draw.js"),
    include_str!("now.js"),
    include_str!("register.js"),
    include_str!("try.js"),
    include_str!("start.js"),
];

/// Its route.
pub fn routes() -> Vec<Route> {
    let describe = Describe::new("Server", "The dashboard").reply(200, HTML, json!({"type": "string"}));
    vec![Route::new(Method::GET, "/", Access::Public, page, describe)]
}

/// The page.
///
/// # Errors
/// The system gives no random numbers.
pub async fn page(_ask: Ask) -> Result<Reply> {
    let nonce = nonce()?;
    let mut reply = body::bytes(StatusCode::OK, "text/html; charset=utf-8", render(&nonce));
    let headers = reply.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy(&nonce)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(reply)
}

fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Problem::internal(&format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the page may do: run its own script, look as its own style says, ask this server.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'"
    )
}

fn render(nonce: &str) -> String {
    let script = SCRIPTS.concat();
    PAGE.replace("{{nonce}}", nonce)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &format!("(() => {{\n\"use strict\";\n{script}}})();\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_fetches_nothing_and_runs_only_what_it_names() {
        let page = render("abc");
        assert!(!page.contains("{{"), "every place is filled");
        assert_eq!(page.matches("nonce=\"abc\"").count(), 2, "one style, one script");
        assert_eq!(page.matches("<script").count(), 1);
        for forbidden in ["style=\"", " onclick=", " onload=", "innerHTML", "eval(", "src=\"http", "@import"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        // In quotes or brackets an address is one that something asks; names of namespaces are none.
        let opened = ["\"http", "'http", "(http"];
        let addresses = opened.iter().flat_map(|open| page.split(open).skip(1));
        let asked: Vec<_> = addresses.filter(|rest| !rest.starts_with("://www.w3.org/")).collect();
        assert!(
            asked.is_empty(),
            "{:?}",
            asked.first().map(|rest| rest.chars().take(80).collect::<String>())
        );
    }
}
