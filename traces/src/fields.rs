//! Text to integers: token counts, decimal seconds and time stamps, exactly and without floats.
//!
//! Every parser answers with the reason a person needs to mend the row. It leaves out where the text came from.

/// Why a field is refused.
pub type Reason = String;

fn shown(text: &[u8]) -> String {
    // 40 bytes are enough to find the value in the file.
    let cut = &text[..text.len().min(40)];
    format!("`{}`{}", String::from_utf8_lossy(cut), if text.len() > 40 { "…" } else { "" })
}

fn odd_number(text: &[u8], want: &str) -> Reason {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_prefix(b"-").unwrap_or(&lower);
    if text.is_empty() {
        format!("is empty; expected {want}")
    } else if matches!(bare, b"nan" | b"inf" | b"infinity" | b"null" | b"none") {
        format!("is {}, not a finite number; expected {want}", shown(text))
    } else if text[0] == b'-' {
        format!("is negative ({}); expected {want}", shown(text))
    } else {
        format!("is {}; expected {want}", shown(text))
    }
}

/// A whole number up to 2^64 - 1.
#[inline]
pub fn parse_u64(text: &[u8]) -> Result<u64, Reason> {
    let mut value = 0u64;
    // 19 digits fit a u64 whatever they are.
    if text.is_empty() || text.len() > 19 {
        return parse_u64_slow(text);
    }
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(odd_number(text, "a whole number"));
        }
        value = value * 10 + u64::from(digit);
    }
    Ok(value)
}

#[cold]
fn parse_u64_slow(text: &[u8]) -> Result<u64, Reason> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let parsed = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    match parsed {
        Some(value) if digits => Ok(value),
        None if digits => Err(format!("overflows 64 bits ({})", shown(text))),
        _ => Err(odd_number(text, "a whole number")),
    }
}

/// A token count: a whole number up to 2^32 - 1.
#[inline]
pub fn parse_u32(text: &[u8]) -> Result<u32, Reason> {
    let value = parse_u64(text)?;
    u32::try_from(value).map_err(|_| format!("overflows 32 bits ({})", shown(text)))
}

/// A decimal such as `1.25` or `3e-05` times 10^`scale`, rounded half up to a whole number. Only integers are used,
/// so `0.1` at scale 9 is 100,000,000 and not near it.
pub fn parse_decimal(text: &[u8], scale: i32) -> Result<u64, Reason> {
    let bad = || odd_number(text, "a decimal number of at least 0");
    let unsigned = text.strip_prefix(b"+").unwrap_or(text);
    let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', unsigned) {
        None => (unsigned, 0),
        Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..]).ok_or_else(bad)?),
    };
    let mut value = 0u128;
    let (mut digits, mut decimals, mut point) = (0u32, 0i32, false);
    for &byte in mantissa {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                digits += 1;
                // Digits beyond the 30th are cut: halves round up, so what follows a half never matters.
                if value < 10u128.pow(30) {
                    value = value * 10 + u128::from(byte - b'0');
                    decimals += i32::from(point);
                } else {
                    decimals -= i32::from(!point);
                }
            }
            _ => return Err(bad()),
        }
    }
    if digits == 0 {
        return Err(bad());
    }
    if value == 0 {
        return Ok(0);
    }
    // `decimals` is bounded by the line length, `exponent` by its parser.
    let shift = scale + exponent - decimals;
    let overflow = || format!("overflows 64 bits ({})", shown(text));
    let scaled = if shift >= 0 {
        let factor = 10u128.checked_pow(shift as u32).ok_or_else(overflow)?;
        value.checked_mul(factor).ok_or_else(overflow)?
    } else if shift < -38 {
        0
    } else {
        let divisor = 10u128.pow(shift.unsigned_abs());
        let (whole, rest) = (value / divisor, value % divisor);
        whole + u128::from(rest >= divisor - rest)
    };
    u64::try_from(scaled).map_err(|_| overflow())
}

fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    // Four digits cover every finite double.
    if digits.is_empty() || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |sum, d| sum * 10 + i32::from(d - b'0'));
    Some(if negative { -value } else { value })
}

/// Decimal seconds to nanoseconds, exactly; digits beyond the ninth decimal round half up.
#[inline]
pub fn parse_seconds(text: &[u8]) -> Result<u64, Reason> {
    // The common shape: digits, a point, at most nine digits, and no overflow possible (9 digits are 31 years).
    let whole = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let plain = (1..=9).contains(&whole);
    if plain && whole == text.len() {
        return Ok(parse_u64(text)? * 1_000_000_000);
    }
    let fraction = text.get(whole + 1..).unwrap_or(&[]);
    if plain
        && text[whole] == b'.'
        && (1..=9).contains(&fraction.len())
        && fraction.iter().all(u8::is_ascii_digit)
    {
        return Ok(parse_u64(&text[..whole])? * 1_000_000_000 + fraction_ns(fraction));
    }
    parse_decimal(text, 9)
}

/// Up to nine checked digits after a decimal point, in billionths.
#[inline]
fn fraction_ns(digits: &[u8]) -> u64 {
    const POW: [u64; 10] =
        [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    digits.iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0')) * POW[digits.len()]
}

/// Turns `YYYY-MM-DD HH:MM:SS[.fraction][±HH:MM|Z]` into ns since 1970, remembering the last date.
#[derive(Default)]
pub struct Clock {
    date: [u8; 10],
    date_ns: u64,
}

impl Clock {
    /// Parses one time stamp; fractions of up to nine digits are exact.
    #[inline]
    pub fn parse(&mut self, text: &[u8]) -> Result<u64, Reason> {
        let bad = || {
            let hint = if text.is_empty() { "is empty".to_owned() } else { format!("is {}", shown(text)) };
            format!("{hint}; expected a time such as 2023-11-16 18:15:46.6805900")
        };
        if text.len() < 19 || text[13] != b':' || text[16] != b':' || (text[10] != b' ' && text[10] != b'T') {
            return Err(bad());
        }
        if text[..10] != self.date {
            self.date_ns = days_since_1970(&text[..10]).ok_or_else(bad)? * 86_400_000_000_000;
            self.date.copy_from_slice(&text[..10]);
        }
        let two = |at: usize| -> Option<u64> {
            let (a, b) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
            (a <= 9 && b <= 9).then(|| u64::from(a) * 10 + u64::from(b))
        };
        let (Some(h), Some(m), Some(s)) = (two(11), two(14), two(17)) else { return Err(bad()) };
        // 60 is a leap second.
        if h > 23 || m > 59 || s > 60 {
            return Err(bad());
        }
        let mut ns = self.date_ns + ((h * 60 + m) * 60 + s) * 1_000_000_000;
        let mut rest = &text[19..];
        if let Some(tail) = rest.strip_prefix(b".") {
            let digits = tail.iter().position(|b| !b.is_ascii_digit()).unwrap_or(tail.len());
            if digits == 0 || digits > 9 {
                return Err(bad());
            }
            ns += fraction_ns(&tail[..digits]);
            rest = &tail[digits..];
        }
        if rest.is_empty() || rest == b"Z" || rest == b"+00:00" {
            return Ok(ns);
        }
        zone_ns(rest).and_then(|zone| ns.checked_add_signed(-zone)).ok_or_else(bad)
    }
}

fn zone_ns(text: &[u8]) -> Option<i64> {
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if text.len() != 6 || text[3] != b':' {
        return None;
    }
    let hours = parse_u64(&text[1..3]).ok().filter(|h| *h < 24)?;
    let minutes = parse_u64(&text[4..6]).ok().filter(|m| *m < 60)?;
    Some(sign * (hours * 60 + minutes) as i64 * 60_000_000_000)
}

/// Days from 1970-01-01 to a `YYYY-MM-DD` date of the years 1970 to 2500 (ns since 1970 fit a u64 until 2554).
fn days_since_1970(text: &[u8]) -> Option<u64> {
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = parse_u64(&text[..4]).ok().filter(|y| (1970..=2500).contains(y))?;
    let month = parse_u64(&text[5..7]).ok().filter(|m| (1..=12).contains(m))?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let day = parse_u64(&text[8..10]).ok().filter(|d| (1..=lengths[month as usize - 1]).contains(d))?;
    let before = year - 1;
    // 719,162 days lie before 1970 in the proleptic Gregorian calendar counted from year 1.
    let years = before * 365 + before / 4 - before / 100 + before / 400 - 719_162;
    Some(years + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1)
}

/// An id from a text: the number itself when it is one, otherwise 64 bits of FNV-1a. 0 stands for the empty text.
pub fn id_of(text: &[u8]) -> u64 {
    if text.is_empty() {
        return 0;
    }
    parse_u64(text).unwrap_or_else(|_| {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        text.iter().fold(0xcbf2_9ce4_8422_2325, step).max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        let check = |text: &str, want: Result<u64, &str>| match (parse_u64(text.as_bytes()), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
            (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
            (got, want) => panic!("{text}: {got:?}, expected {want:?}"),
        };
        check("0", Ok(0));
        check("18446744073709551615", Ok(u64::MAX));
        check("18446744073709551616", Err("overflows"));
        check("-3", Err("negative"));
        check("12.5", Err("whole number"));
        check("NaN", Err("not a finite number"));
        check("", Err("empty"));
        check("1 ", Err("whole number"));
        assert!(parse_u32(b"4294967296").expect_err("33 bits").contains("32 bits"));
    }

    #[test]
    fn decimal_seconds_are_exact() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(parse_seconds(text.as_bytes()).ok(), want, "{text}");
            // The fast path and the general one agree.
            assert_eq!(parse_decimal(text.as_bytes(), 9).ok(), want, "{text}");
        };
        check("0.1", Some(100_000_000));
        check("12", Some(12_000_000_000));
        check("0.123456789", Some(123_456_789));
        check("0.1234567894999", Some(123_456_789));
        check("0.0000000005", Some(1));
        check("0.07949090003967285", Some(79_490_900));
        check("1e-05", Some(10_000));
        check("1.5E3", Some(1_500_000_000_000));
        check("+2.", Some(2_000_000_000));
        check(".5", Some(500_000_000));
        check("18446744073.709551615", Some(u64::MAX));
        check("18446744073.709551616", None);
        check("1e9999", None);
        check("0e9999", Some(0));
        check("1e-9999", Some(0));
        check("99999999999999999999999999999999999999999", None);
        check("0.00000000000000000000000000000000000000000000000000001", Some(0));
        check("-1", None);
        check("nan", None);
        check("", None);
        check(".", None);
        check("1.2.3", None);
        check("1e", None);
    }

    #[test]
    fn time_stamps() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(Clock::default().parse(text.as_bytes()).ok(), want, "{text}");
        };
        check("1970-01-02 00:00:01", Some(86_401_000_000_000));
        check("2023-11-16 18:15:46.6805900", Some(1_700_158_546_680_590_000));
        check("2024-05-10 00:00:00.009930+00:00", Some(1_715_299_200_009_930_000));
        check("2024-05-10T02:00:00+02:00", Some(1_715_299_200_000_000_000));
        check("2024-05-10 00:00:00Z", Some(1_715_299_200_000_000_000));
        check("2024-02-29 00:00:00", Some(1_709_164_800_000_000_000));
        check("2023-02-29 00:00:00", None);
        check("2023-11-16 24:00:00", None);
        check("1969-12-31 00:00:00", None);
        check("2023-11-16 18:15:46.", None);
        check("2023-11-16 18:15:46+0200", None);
        check("1970-01-01 00:00:00+01:00", None);
        check("later", None);
    }
}
