//! `coldframe:function/reply`: what goes to the caller, counted, checked and at the caller's pace.

use super::interface;
use crate::bindings::types;
use crate::call::{Call, enter};
use crate::convert::failure_out;
use crate::end::End;
use crate::request::Route;
use crate::services::{Failure, Reply};
use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::component::Linker;
use wasmtime::{Result, StoreContextMut};

type Store<'a> = StoreContextMut<'a, Call>;
type Done = Result<(), types::Failure>;

/// Headers that speak of the connection, which is the host's.
const OURS: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "te",
    "trailer",
];

/// Headers of one reply.
const HEADERS_MAX: usize = 64;

/// Longest reason of a finish; OpenAI's are one word.
const REASON_BYTES_MAX: usize = 32;

pub(super) fn link(linker: &mut Linker<Call>) -> Result<()> {
    let mut reply = linker.instance(&interface("reply"))?;
    reply.func_wrap("start", start)?;
    reply.func_wrap_async("write", |store, (text,): (String,)| {
        Box::new(write(store, text.into_bytes(), false))
    })?;
    reply
        .func_wrap_async("write-bytes", |store, (bytes,): (Vec<u8>,)| Box::new(write(store, bytes, true)))?;
    reply.func_wrap("finish", finish)
}

fn start(mut store: Store<'_>, (status, headers): (u16, Vec<types::Field>)) -> Result<(Done,)> {
    enter(&mut store, headers.iter().map(|field| field.name.len() + field.value.len()).sum())?;
    let call = store.data_mut();
    let headers = headers.into_iter().map(|field| (field.name, field.value)).collect();
    Ok((begin(call, status, headers).map_err(failure_out),))
}

fn begin(call: &mut Call, status: u16, headers: Vec<(String, String)>) -> Result<(), Failure> {
    if call.route != Route::Invoke {
        return Err(Failure::new("unsupported", "status and headers can be set on /invoke only"));
    }
    if call.started {
        return Err(Failure::new("invalid", "the reply has already begun"));
    }
    if !(200..=599).contains(&status) {
        return Err(Failure::new("invalid", format!("{status} is not a status of a reply")));
    }
    check(&headers)?;
    call.started = true;
    let started = call.reply.as_mut().ok_or_else(taken)?.start(status, headers);
    note(&mut call.closed, started)
}

async fn write(mut store: Store<'_>, bytes: Vec<u8>, raw: bool) -> Result<(Done,)> {
    enter(&mut store, bytes.len())?;
    let call = store.data_mut();
    if raw && call.route != Route::Invoke {
        return Ok((Err(failure_out(Failure::new("unsupported", "bytes can be written on /invoke only"))),));
    }
    count(&mut call.usage.output_bytes, bytes.len(), call.rules.limits.output_bytes)?;
    call.started = true;
    let written = match &mut call.reply {
        Some(reply) => reply.write(bytes).await,
        None => Err(taken()),
    };
    Ok((note(&mut call.closed, written).map_err(failure_out),))
}

fn finish(mut store: Store<'_>, (reason,): (String,)) -> Result<()> {
    enter(&mut store, reason.len())?;
    let is_word = reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if !is_word || reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(End::Trap { what: "the reason of `finish` is not one lower-case word".to_owned() }.into());
    }
    if let Some(reply) = &mut store.data_mut().reply {
        reply.finish(&reason);
    }
    Ok(())
}

/// Adds to the output, or ends the call where that is too much.
fn count(output_bytes: &mut u64, bytes: usize, limit: u64) -> Result<(), End> {
    let total = output_bytes.saturating_add(bytes as u64);
    if total > limit {
        return Err(End::Output { limit });
    }
    *output_bytes = total;
    Ok(())
}

fn note(closed: &mut bool, done: Result<(), Failure>) -> Result<(), Failure> {
    *closed |= done.as_ref().is_err_and(|failure| failure.code == "closed");
    done
}

fn taken() -> Failure {
    Failure::new("unsupported", "the response of wasi:http answers this call")
}

/// A reply's headers must be ones a server may send, and none of the connection's own.
fn check(headers: &[(String, String)]) -> Result<(), Failure> {
    let invalid = |why: String| Err(Failure::new("invalid", why));
    if headers.len() > HEADERS_MAX {
        return invalid(format!("a reply has at most {HEADERS_MAX} headers"));
    }
    for (name, value) in headers {
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
            return invalid("a header has a name that is none".to_owned());
        };
        if OURS.contains(&known.as_str()) {
            return invalid(format!("the header `{known}` is the host's"));
        }
        if HeaderValue::from_str(value).is_err() {
            return invalid(format!("the value of the header `{known}` cannot be sent"));
        }
    }
    Ok(())
}

/// The caller's side of a call, taken out of its store while a component of `wasi:http` answers.
pub(crate) struct Caller {
    reply: Option<Box<dyn Reply>>,
    output_bytes: u64,
    limit: u64,
    closed: bool,
}

impl Caller {
    pub(crate) fn take(call: &mut Call) -> Self {
        let limit = call.rules.limits.output_bytes;
        Self { reply: call.reply.take(), output_bytes: 0, limit, closed: false }
    }

    /// Puts it back and says how many bytes were written.
    pub(crate) fn give_back(self, call: &mut Call) -> u64 {
        call.reply = self.reply;
        call.closed |= self.closed;
        self.output_bytes
    }

    pub(crate) fn start(&mut self, status: u16, headers: &HeaderMap) -> Result<(), Failure> {
        let shown = headers.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Vec<_> = shown.map(|(name, value)| (name.to_string(), text(value))).collect();
        check(&headers)?;
        let started = self.reply.as_mut().ok_or_else(taken)?.start(status, headers);
        note(&mut self.closed, started)
    }

    pub(crate) async fn write(&mut self, bytes: Vec<u8>) -> Result<Result<(), Failure>, End> {
        count(&mut self.output_bytes, bytes.len(), self.limit)?;
        let written = match &mut self.reply {
            Some(reply) => reply.write(bytes).await,
            None => Err(taken()),
        };
        Ok(note(&mut self.closed, written))
    }
}
