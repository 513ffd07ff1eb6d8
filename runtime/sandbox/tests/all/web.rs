//! A resolver from a table and a server of one answer, for tests of the way out.

use coldframe_sandbox::outbound::Resolver;
use coldframe_sandbox::services::Later;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Names and their addresses, and how often one was asked for.
#[derive(Debug)]
pub struct Table {
    names: BTreeMap<String, Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Table {
    pub fn new(names: &[(&str, &str)]) -> Self {
        let address = |text: &str| text.parse().expect("an address");
        let row = |(name, addresses): &(&str, &str)| {
            ((*name).to_owned(), addresses.split(' ').map(address).collect())
        };
        Self { names: names.iter().map(row).collect(), asked: AtomicUsize::new(0) }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolver for Table {
    fn resolve<'a>(&'a self, host: &'a str, _port: u16) -> Later<'a, Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { self.names.get(host).cloned().unwrap_or_default() })
    }
}

/// A server on loopback that gives one answer to everyone and closes; its port and what it was sent.
pub async fn server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sent = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sent = sent.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read_buf(&mut head).await {
                        Ok(0) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
                sent.lock().expect("unpoisoned").push(String::from_utf8_lossy(&head).into_owned());
                let _gone = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (port, seen)
}
