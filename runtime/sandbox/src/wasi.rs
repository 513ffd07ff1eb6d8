//! WASI 0.2 for guests whose toolchain imports it: an empty world. No files, environment, arguments or sockets; standard output
//! and error go to the function's log; clocks stand still and random numbers repeat unless granted.

use crate::call::{Call, Log};
use crate::hook::HookCall;
use crate::limits::Grants;
use crate::services::Level;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{
    Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
};

/// The finest a guest sees of any clock.
const RESOLUTION: Duration = Duration::from_millis(1);

/// Longest line of standard output before it is cut in two.
const LINE_BYTES_MAX: usize = 4 << 10;

/// A guest's WASI, made when it is first used: most guests never do.
pub(crate) struct Wasi {
    context: Option<Box<WasiCtx>>,
    log: Arc<Log>,
    clock: bool,
    random: bool,
}

impl Wasi {
    pub(crate) fn new(log: Arc<Log>, grants: &Grants) -> Self {
        Self { context: None, log, clock: grants.clock, random: grants.random }
    }

    fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiCtxView<'a> {
        let (log, clock, random) = (&self.log, self.clock, self.random);
        let ctx = self.context.get_or_insert_with(|| Box::new(context(log, clock, random)));
        WasiCtxView { ctx, table }
    }
}

fn context(log: &Arc<Log>, clock: bool, random: bool) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(LogStream::new(log.clone(), Level::Info))
        .stderr(LogStream::new(log.clone(), Level::Warn))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(64 << 10)
        .wall_clock(Clock::new(clock))
        .monotonic_clock(Clock::new(clock));
    if !random {
        builder.secure_random(Deterministic::new(vec![0]));
    }
    builder.insecure_random(Deterministic::new(vec![0])).insecure_random_seed(0);
    builder.build()
}

impl WasiView for Call {
    /// Each host call of WASI passes here, and is counted and charged here.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.usage.host_calls += 1;
        self.debt = self.debt.saturating_add(self.sandbox.options.charges.call);
        self.wasi.view(&mut self.table)
    }
}

impl WasiView for HookCall {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.view(&mut self.table)
    }
}

/// A clock in whole milliseconds, or one that stands at zero.
struct Clock {
    start: Option<Instant>,
}

impl Clock {
    fn new(granted: bool) -> Self {
        Self { start: granted.then(Instant::now) }
    }
}

fn whole_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }
    fn now(&self) -> Duration {
        if self.start.is_some() { Duration::from_millis(now_ms()) } else { Duration::ZERO }
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        u64::try_from(RESOLUTION.as_nanos()).expect("a millisecond fits")
    }
    fn now(&self) -> u64 {
        let passed = self.start.map(|start| whole_milliseconds(start.elapsed())).unwrap_or_default();
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Standard output or error as lines of the log.
#[derive(Clone)]
struct LogStream {
    log: Arc<Log>,
    level: Level,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    fn new(log: Arc<Log>, level: Level) -> Self {
        Self { log, level, line: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                self.log.write(self.level, &String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }

    fn flush_line(&self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.is_empty() {
            self.log.write(self.level, &String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if Arc::strong_count(&self.line) == 1 {
            self.flush_line();
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LINE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
