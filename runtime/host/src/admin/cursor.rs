//! Cursors of lists: opaque, bound to the list and to the tenant they were given out for.
//!
//! A cursor is a position and a MAC over it. One that was made for another tenant or another list, or by hand, is as
//! absent as anything else of another tenant.

use super::error::{AdminError, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the MAC that are kept: enough that guessing is hopeless.
const MAC_BYTES: usize = 16;

/// Makes and reads cursors.
#[derive(Clone)]
pub struct Cursors {
    key: [u8; 32],
}

impl Cursors {
    /// With a secret that only hosts of one fleet know.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// A cursor for what follows `position` in `list`.
    pub fn give(&self, list: &str, position: &str) -> String {
        format!("{}{}", hex(&self.mac(list, position)), hex(position.as_bytes()))
    }

    /// The position.
    ///
    /// # Errors
    /// `not_found`.
    pub fn take(&self, list: &str, cursor: &str) -> Result<String> {
        let read = || {
            let bytes = unhex(cursor)?;
            let (mac, position) = bytes.split_at_checked(MAC_BYTES)?;
            let position = std::str::from_utf8(position).ok()?;
            let mut right = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is taken");
            right.update(&framed(list, position));
            right.verify_truncated_left(mac).ok()?;
            Some(position.to_owned())
        };
        read().ok_or_else(|| AdminError::absent("cursor; begin the list anew").about("cursor"))
    }

    fn mac(&self, list: &str, position: &str) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is taken");
        mac.update(&framed(list, position));
        mac.finalize().into_bytes()[..MAC_BYTES].to_vec()
    }
}

/// Length before text, so that no two pairs give the same bytes.
fn framed(list: &str, position: &str) -> Vec<u8> {
    let mut all = (list.len() as u64).to_le_bytes().to_vec();
    all.extend_from_slice(list.as_bytes());
    all.extend_from_slice(position.as_bytes());
    all
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    (text.len().is_multiple_of(2) && text.len() <= 4096)
        .then(|| pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::Cursors;

    #[test]
    fn a_cursor_serves_its_own_list_only() {
        let cursors = Cursors::new([7; 32]);
        let cursor = cursors.give("acme/functions", "pirate");
        assert_eq!(cursors.take("acme/functions", &cursor).as_deref(), Ok("pirate"));
        assert!(cursors.take("evil/functions", &cursor).is_err());
        for bad in ["", "00", "zz", &cursor[1..], &format!("{cursor}00")] {
            assert!(cursors.take("acme/functions", bad).is_err(), "{bad}");
        }
        assert!(Cursors::new([8; 32]).take("acme/functions", &cursor).is_err());
    }
}
