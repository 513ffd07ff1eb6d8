//! Example functions of `functions/` where the model's side can be staged: the tool loop with a page that is really fetched.

use crate::bed::{Bed, Caller, code, limits, small};
use crate::web::{Table, server};
use coldframe_sandbox::outbound::Outbound;
use coldframe_sandbox::services::Message;
use coldframe_sandbox::{Allowed, Grants, Request, Route, SandboxOptions};
use std::sync::{Arc, Mutex};

const TOOL_LOOP: &[u8] = include_bytes!("../../../../functions/tool-loop/tool-loop.wasm");

/// Where the example looks things up.
const PAGES: &str = "https://en.wikipedia.org/api/rest_v1/page/summary/";

/// The example with another address of the same length in place of its own: nothing here can answer for the real one.
fn looking_up_at(port: u16) -> (Vec<u8>, String) {
    let base = format!("http://pages.test:{port}/");
    let pages = format!("{base}{}/", "x".repeat(PAGES.len() - base.len() - 1));
    let mut bytes = TOOL_LOOP.to_vec();
    let at = bytes.windows(PAGES.len()).position(|window| window == PAGES.as_bytes());
    let at = at.expect("the example looks pages up at Wikipedia");
    bytes[at..at + PAGES.len()].copy_from_slice(pages.as_bytes());
    (bytes, pages)
}

#[tokio::test]
async fn the_tool_loop_puts_what_it_fetched_before_the_model() {
    let page = "{\"title\": \"Penguins\", \"extract\": \"Penguins eat krill.\"}";
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
    let (port, seen) = server(Box::leak(answer.into_boxed_str())).await;
    let (component, pages) = looking_up_at(port);
    let resolver = Arc::new(Table::new(&[("pages.test", "127.0.0.1")]));
    let outbound = Outbound { resolver, loopback: true };
    let sandbox = small(SandboxOptions { outbound, ..SandboxOptions::default() });
    let allowed = Allowed::parse(&[format!("http://pages.test:{port}")]).expect("a pattern");
    let grants = Grants { outbound: allowed, ..Grants::default() };
    let function = sandbox.load(&component, limits(), grants).await.expect("it loads");

    let answers = ["{\"page\": \"Penguins\"}", "They eat krill."].map(str::to_owned);
    let bed = Arc::new(Bed { tokens: 64, answers: Mutex::new(answers.into()), ..Bed::default() });
    let caller = Caller::default();
    let turn = Message { role: "user".to_owned(), content: "What do penguins eat?".to_owned() };
    let request = Request { messages: vec![turn], ..Request::new("r1", Route::Chat) };
    let end = function.call(request, bed.clone(), Box::new(caller.clone())).await;

    assert_eq!(code(&end), "ok", "{end:?}");
    assert_eq!((end.usage.http_calls, end.usage.generations), (1, 2));
    assert_eq!(caller.got.lock().expect("unpoisoned").text(), "They eat krill.");
    let asked = bed.asked.lock().expect("unpoisoned");
    assert!(asked[1].contains("Penguins eat krill."), "{}", asked[1]);
    let path = pages.split_at(pages.find("/x").expect("a path")).1;
    let seen = seen.lock().expect("unpoisoned").join("");
    assert!(seen.starts_with(&format!("GET {path}Penguins HTTP/1.1\r\n")), "{seen}");
    assert!(bed.log().iter().any(|line| line.contains("status 200")), "{:?}", bed.log());
}
