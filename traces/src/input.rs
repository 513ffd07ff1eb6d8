//! Bytes to lines: opens a file, unpacks gzip or zstd by its magic bytes, and hands out lines of bounded length.
//!
//! A line may be at most [`LINE_BYTES_MAX`] long, so that a file without line ends fails in bounded memory. It
//! leaves out what a line means.

use crate::record::TraceError;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest line read, bytes. A Mooncake row of 126,000 tokens has 2 KB; 1 MiB is a bound against broken files.
pub const LINE_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES: usize = 1 << 18;

/// Counts the bytes taken from the file, before unpacking, for progress.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Lines of a file, one at a time.
pub struct Lines {
    inner: Box<dyn Read + Send>,
    file: PathBuf,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    done: bool,
    line: u64,
    taken: Arc<AtomicU64>,
    size: u64,
    /// Where the line last returned begins in `buf`.
    last_from: usize,
    /// Text of the comment lines (`# ...`) before the first row, without the mark.
    pub comments: Vec<String>,
}

/// Unpacks `inner` by its magic bytes: gzip (any number of members), zstd, or as it is.
fn unpack<R: Read + Send + 'static>(inner: R) -> io::Result<Box<dyn Read + Send>> {
    let mut inner = BufReader::with_capacity(CHUNK_BYTES, inner);
    let head = inner.fill_buf()?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(inner))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(inner)?)
    } else {
        Box::new(inner)
    })
}

impl Lines {
    /// Opens `path`, unpacking it when it is gzip or zstd.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let io_error = |source| TraceError::Io { file: path.to_owned(), source };
        let file = File::open(path).map_err(io_error)?;
        let meta = file.metadata().map_err(io_error)?;
        if meta.is_dir() {
            let source = io::Error::other("is a folder; name one trace file");
            return Err(io_error(source));
        }
        Self::from_reader(file, path, meta.len())
    }

    /// Lines of any reader; `size` is its packed size in bytes, 0 when unknown.
    pub fn from_reader<R: Read + Send + 'static>(
        inner: R,
        name: &Path,
        size: u64,
    ) -> Result<Self, TraceError> {
        let taken = Arc::new(AtomicU64::new(0));
        let inner = unpack(Counted { inner, taken: taken.clone() })
            .map_err(|source| TraceError::Io { file: name.to_owned(), source })?;
        let buf = vec![0; CHUNK_BYTES];
        Ok(Self {
            inner,
            file: name.to_owned(),
            buf,
            start: 0,
            end: 0,
            done: false,
            line: 0,
            taken,
            size,
            last_from: 0,
            comments: vec![],
        })
    }

    /// The file's name.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Number of the line last returned, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Share of the packed bytes read, 0..=1; `None` when the size is unknown.
    pub fn progress(&self) -> Option<f64> {
        let taken = self.taken.load(Ordering::Relaxed) as f64;
        (self.size > 0).then(|| (taken / self.size as f64).min(1.0))
    }

    /// The next line without its line end (`\n` or `\r\n`); a byte-order mark before the first is dropped.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TraceError> {
        let mut seen = 0;
        let (from, to) = loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buf[self.start + seen..self.end]) {
                let from = self.start;
                let to = from + seen + at;
                self.start = to + 1;
                break (from, to);
            }
            seen = self.end - self.start;
            if seen > LINE_BYTES_MAX {
                return Err(self.fault(format!(
                    "the line is longer than {LINE_BYTES_MAX} bytes; this is not a trace, or its line ends are lost"
                )));
            }
            if self.done {
                if seen == 0 {
                    return Ok(None);
                }
                let from = self.start;
                self.start = self.end;
                break (from, self.end);
            }
            self.fill()?;
        };
        self.line += 1;
        self.last_from = from;
        let mut line = &self.buf[from..to];
        if line.len() > LINE_BYTES_MAX {
            self.line -= 1;
            return Err(
                self.fault(format!("the line is longer than {LINE_BYTES_MAX} bytes; cut it or drop it"))
            );
        }
        if self.line == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Puts the line last returned back, once.
    pub fn unread(&mut self) {
        self.start = self.last_from;
        self.line -= 1;
    }

    /// True when the content begins with these few bytes; asked before the first line.
    pub fn begins_with(&mut self, magic: &[u8]) -> Result<bool, TraceError> {
        while self.end - self.start < magic.len() && !self.done {
            self.fill()?;
        }
        Ok(self.buf[self.start..self.end].starts_with(magic))
    }

    /// Moves leading comment lines to `comments`, leaving the first other line to be read.
    pub fn take_comments(&mut self) -> Result<(), TraceError> {
        while let Some(line) = self.next_line()? {
            if !line.starts_with(b"#") {
                self.unread();
                break;
            }
            let text = String::from_utf8_lossy(line[1..].trim_ascii()).into_owned();
            // Our writers put a few dozen lines there; beyond 1,000 (arbitrary) they are read over.
            if self.comments.len() < 1000 {
                self.comments.push(text);
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), TraceError> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buf.len() {
            // Doubling ends at twice the line limit, because next_line refuses longer lines first.
            self.buf.resize(self.buf.len() * 2, 0);
        }
        loop {
            match self.inner.read(&mut self.buf[self.end..]) {
                Ok(0) => self.done = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.read_fault(e)),
            }
            return Ok(());
        }
    }

    fn read_fault(&self, source: io::Error) -> TraceError {
        use io::ErrorKind as K;
        match source.kind() {
            K::UnexpectedEof | K::InvalidInput | K::InvalidData | K::Other => self.fault(format!(
                "the packed data after this line is cut short or damaged ({source}); fetch or copy the file again, \
                 and check it with `gzip -t` or `zstd -t`"
            )),
            _ => TraceError::Io { file: self.file.clone(), source },
        }
    }

    /// A format error at the line after the last good one.
    pub fn fault(&self, reason: String) -> TraceError {
        TraceError::Format { file: self.file.clone(), line: self.line + 1, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(bytes: Vec<u8>) -> Result<Vec<String>, TraceError> {
        let mut lines = Lines::from_reader(io::Cursor::new(bytes), Path::new("x"), 0)?;
        let mut all = vec![];
        while let Some(line) = lines.next_line()? {
            all.push(String::from_utf8_lossy(line).into_owned());
        }
        Ok(all)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        out.write_all(text).expect("memory");
        out.finish().expect("memory")
    }

    #[test]
    fn line_ends() {
        let check = |text: &str, want: &[&str]| assert_eq!(lines(text.into()).expect("reads"), want);
        check("", &[]);
        check("a", &["a"]);
        check("a\n", &["a"]);
        check("a\r\nb", &["a", "b"]);
        check("\u{feff}a\n\nb\n", &["a", "", "b"]);
    }

    #[test]
    fn packed_inputs() {
        let mut two = gzip(b"a\nb");
        two.extend(gzip(b"c\n"));
        assert_eq!(lines(two).expect("two members"), ["a", "bc"]);
        let zst = zstd::encode_all(&b"x\ny\n"[..], 1).expect("memory");
        assert_eq!(lines(zst).expect("zstd"), ["x", "y"]);
    }

    #[test]
    fn cut_packed_inputs_say_so() {
        let text: Vec<u8> = (0..50_000u32)
            .flat_map(|i| format!("{},{i}\n", i.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        let mut gz = gzip(&text);
        gz.truncate(gz.len() / 2);
        let mut zst = zstd::encode_all(&text[..], 1).expect("memory");
        zst.truncate(zst.len() / 2);
        for packed in [gz, zst] {
            let error = lines(packed).expect_err("cut").to_string();
            assert!(error.starts_with("x:") && error.contains("cut short"), "{error}");
        }
    }

    #[test]
    fn an_endless_line_fails_in_bounded_memory() {
        // Ten billion bytes, were they all read.
        let endless = io::repeat(b'7').take(10_000_000_000);
        let mut lines = Lines::from_reader(endless, Path::new("long"), 0).expect("opens");
        let error = lines.next_line().expect_err("too long").to_string();
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
        assert!(lines.buf.len() <= 4 * LINE_BYTES_MAX);
    }
}
