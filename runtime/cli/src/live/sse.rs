//! Server-sent events out of the pieces that a connection brings: only what OpenAI's streams use.

/// What is left of a stream between two pieces.
#[derive(Default)]
pub struct Events {
    line: Vec<u8>,
    data: Option<String>,
}

impl Events {
    /// Takes a piece; the data of every event that it ended.
    pub fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        for &byte in piece {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            self.take(&String::from_utf8_lossy(&line), &mut out);
        }
        out
    }

    fn take(&mut self, line: &str, out: &mut Vec<String>) {
        if line.is_empty() {
            out.extend(self.data.take());
        } else if let Some(data) = line.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            match &mut self.data {
                Some(held) => {
                    held.push('\n');
                    held.push_str(data);
                }
                None => self.data = Some(data.to_owned()),
            }
        }
        // Comments (": ping") and other fields say nothing here.
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    #[test]
    fn events_survive_any_cut() {
        let stream =
            ": ping\r\n\r\ndata: {\"a\": 1}\n\ndata:two\ndata: lines\n\nevent: x\ndata: [DONE]\n\ndata: open";
        let wanted = ["{\"a\": 1}", "two\nlines", "[DONE]"];
        for size in 1..stream.len() {
            let mut events = Events::default();
            let found: Vec<String> =
                stream.as_bytes().chunks(size).flat_map(|piece| events.push(piece)).collect();
            assert_eq!(found, wanted, "in pieces of {size}");
        }
    }
}
