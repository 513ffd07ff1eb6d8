//! Streams of bytes as readers, judged by their beginning, with the reason kept when one breaks.

use super::magic;
use crate::admin::error::{AdminError, Result};
use crate::store::Source;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// A request's or reply's body as it comes.
pub type BodyStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A stream, read.
pub struct ByteReader {
    stream: BodyStream,
    rest: Bytes,
    /// A stream may not be asked again after its end; a reader may.
    ended: bool,
}

impl ByteReader {
    /// Reads a stream.
    pub fn new(stream: BodyStream) -> Self {
        Self { stream, rest: Bytes::new(), ended: false }
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.stream.as_mut().poll_next(context)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(error));
                }
                None => self.ended = true,
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// Why a source broke, if it did.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<AdminError>>>);

impl Trouble {
    /// The reason.
    pub fn take(&self) -> Option<AdminError> {
        self.0.lock().ok()?.take()
    }

    fn keep(&self, error: &io::Error) {
        let found = error.get_ref().and_then(|inner| inner.downcast_ref::<AdminError>()).cloned();
        let found = found.unwrap_or_else(|| {
            AdminError::new(
                crate::admin::error::Kind::Invalid,
                "transfer_broken",
                format!("the transfer broke: {error}"),
            )
        });
        if let Ok(mut slot) = self.0.lock() {
            *slot = Some(found);
        }
    }
}

/// A source that remembers why it broke.
struct Watched {
    source: Source,
    trouble: Trouble,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.source.as_mut().poll_read(context, buffer));
        if let Err(error) = &read {
            self.trouble.keep(error);
        }
        Poll::Ready(read)
    }
}

/// Looks at the first bytes of a file that is kept as `name`; what is left to read is all of it.
///
/// # Errors
/// `forbidden_file`, or why the source broke.
pub async fn judged(name: &str, mut source: Source) -> Result<(Source, Trouble)> {
    let trouble = Trouble::default();
    let mut head = Vec::with_capacity(magic::HEAD);
    let read = (&mut source).take(magic::HEAD as u64).read_to_end(&mut head).await;
    if let Err(error) = read {
        trouble.keep(&error);
        return Err(trouble.take().unwrap_or_else(|| AdminError::internal("a lock is poisoned")));
    }
    magic::check(name, &head)?;
    let rest = Watched { source, trouble: trouble.clone() };
    Ok((Box::pin(AsyncReadExt::chain(io::Cursor::new(head), rest)), trouble))
}
