//! Months of the calendar in UTC, as far as bills need them.
//!
//! Days are counted as in the proleptic Gregorian calendar; leap seconds are nobody's.

use std::time::Duration;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A calendar month, counted from January of year 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(pub u64);

/// Days from 1 March of year 0 to 1 January 1970.
const EPOCH_DAYS: u64 = 719_468;

impl Month {
    /// The month of a moment, milliseconds since 1970.
    pub fn of(wall_ms: u64) -> Self {
        // Years from March, so that the leap day is the last: Hinnant, "chrono-compatible low-level date algorithms".
        let days = wall_ms / DAY_MS + EPOCH_DAYS;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        Self((era * 400 + year) * 12 + month_from_march + 2)
    }

    /// Its first moment, milliseconds since 1970; zero for months before.
    pub fn start_ms(self) -> u64 {
        let months = self.0.saturating_sub(2);
        let (years, month) = (months / 12, months % 12);
        let (era, year) = (years / 400, years % 400);
        let day = 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5;
        (era * 146_097 + day).saturating_sub(EPOCH_DAYS) * DAY_MS
    }
}

/// Time until the next month begins.
pub fn until_next_month(wall_ms: u64) -> Duration {
    let next = Month(Month::of(wall_ms).0 + 1).start_ms();
    Duration::from_millis(next.saturating_sub(wall_ms))
}
