//! The vocabulary as bytes: what each token spells and what kind of token it is.

/// What a token may be made from and shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A piece of text.
    Plain,
    /// One byte, for text that no piece covers.
    Byte,
    /// Matched as a whole in any text, and shown as text.
    Added,
    /// Steers the model: never made from a user's text, and not shown.
    Control,
    /// A hole in the vocabulary.
    Unused,
}

/// Every token's bytes in one buffer, and its kind.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    longest: usize,
}

impl Table {
    /// An empty table with room.
    pub fn with_capacity(tokens: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(tokens * 8),
            ends: Vec::with_capacity(tokens),
            kinds: Vec::with_capacity(tokens),
            longest: 1,
        }
    }

    /// Appends the next token, which `write` spells.
    pub fn push(&mut self, kind: TokenKind, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.longest = self.longest.max(self.bytes.len() - start);
        self.ends.push(self.bytes.len() as u32);
        self.kinds.push(kind);
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// What a token spells; empty past the vocabulary.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// A token's kind; [`TokenKind::Unused`] past the vocabulary.
    pub fn kind(&self, id: u32) -> TokenKind {
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Unused)
    }

    /// Whether merging may make it.
    pub fn is_plain(&self, id: u32) -> bool {
        matches!(self.kind(id), TokenKind::Plain | TokenKind::Added)
    }

    /// Whether it stands for one byte.
    pub fn is_byte(&self, id: u32) -> bool {
        self.kind(id) == TokenKind::Byte
    }

    /// Bytes of the longest token.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

/// Appends the bytes that GPT-2's letters stand for; a letter that stands for none is kept as it is written.
pub(super) fn unmap_letters(text: &str, out: &mut Vec<u8>) {
    for letter in text.chars() {
        match letter_byte(letter) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The byte of one of GPT-2's letters: printable Latin-1 stands for itself, the 68 others follow from U+0100.
fn letter_byte(letter: char) -> Option<u8> {
    match u32::from(letter) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Appends a SentencePiece token's text: its bars are spaces.
pub(super) fn unmap_bars(text: &str, out: &mut Vec<u8>) {
    for (index, part) in text.split('\u{2581}').enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(part.as_bytes());
    }
}

/// The byte of a token written `<0x0A>`.
pub(super) fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_cover_every_byte_once() {
        let mut seen: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(letter_byte).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(letter_byte('Ġ'), Some(b' '));
        assert_eq!(letter_byte('Ċ'), Some(b'\n'));
    }

    #[test]
    fn bytes_and_bars_are_read() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        assert_eq!(fallback_byte("<0x0A"), None);
        let mut out = Vec::new();
        unmap_bars("\u{2581}a\u{2581}\u{2581}b", &mut out);
        assert_eq!(out, b" a  b");
    }
}
