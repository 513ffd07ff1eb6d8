//! What the edge allows: bytes, time and numbers, each with its reason.

use std::time::Duration;

/// Limits of the server. All of them may be set; the defaults are meant for one machine behind no proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; past it no more are accepted until one ends. Below the usual 1,024 file descriptors with
    /// room for models and logs.
    pub connections: usize,
    /// Connections beyond that which get an answer from the probes only, so that a full server is not taken for dead.
    pub reserved: usize,
    /// How long a connection of the reserve may last.
    pub reserved_time: Duration,
    /// Time for the TLS handshake.
    pub handshake_time: Duration,
    /// Time for the head of a request, and for the first byte of a connection.
    pub header_time: Duration,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Headers of a request. Arbitrary; proxies add about twenty.
    pub headers: usize,
    /// Bytes of a JSON body: a prompt of a million tokens fits.
    pub body_bytes: usize,
    /// Time for a body.
    pub body_time: Duration,
    /// Bytes that all bodies being read take together.
    pub bodies_bytes: usize,
    /// Bytes of an upload (adapters, modules).
    pub upload_bytes: u64,
    /// Time between two pieces of an upload.
    pub upload_idle: Duration,
    /// How long a connection may stay without a request.
    pub idle: Duration,
    /// How long a client may take nothing of its reply.
    pub write_idle: Duration,
    /// How often a quiet stream gets a comment, so that proxies keep it.
    pub keep_alive: Duration,
    /// How long a call may take.
    pub request_time: Duration,
    /// How long requests may go on after the server was told to stop.
    pub grace: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Choices of a request (`n`).
    pub choices: u32,
    /// Prompts of a request, and prompts times choices.
    pub prompts: usize,
    /// Messages of a chat. Arbitrary.
    pub messages: usize,
    /// Tools of a chat, as OpenAI has it.
    pub tools: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 768,
            reserved: 8,
            reserved_time: Duration::from_secs(2),
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            header_bytes: 64 << 10,
            headers: 100,
            body_bytes: 4 << 20,
            body_time: Duration::from_secs(30),
            bodies_bytes: 256 << 20,
            upload_bytes: 1 << 30,
            upload_idle: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            write_idle: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            request_time: Duration::from_secs(600),
            grace: Duration::from_secs(30),
            streams: 128,
            choices: 16,
            prompts: 64,
            messages: 2048,
            tools: 128,
        }
    }
}
