//! What chat templates expect of Python: its methods, `tojson` as `json.dumps` writes, `strftime_now`, `None`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// Deepest value that `tojson` writes; JSON that was parsed is no deeper.
const DEPTH_MAX: usize = 128;
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Adds all of it to an environment, `strftime_now` excepted, which needs a time.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(format_value);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
}

/// Python writes its constants with capitals.
fn format_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.write_str("None").map_err(Error::from),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let _ = (options.get::<Option<Value>>("ensure_ascii")?, options.get::<Option<Value>>("separators")?);
    let _ = options.get::<Option<Value>>("sort_keys")?;
    options.assert_all_used()?;
    let indent = indent.filter(|indent| !indent.is_none()).map(|indent| match indent.as_usize() {
        Some(spaces) => " ".repeat(spaces.min(16)),
        None => indent.as_str().unwrap_or_default().to_owned(),
    });
    let mut json = Json { out: String::new(), indent };
    json.write(&value, 0)?;
    Ok(json.out)
}

struct Json {
    out: String,
    indent: Option<String>,
}

impl Json {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined => {
                Err(Error::new(ErrorKind::UndefinedError, "tojson: the value is undefined"))
            }
            ValueKind::Map => {
                let keys = value.try_iter()?.map(Some);
                self.list(('{', '}'), keys, depth, |json, key| {
                    let key = key.unwrap_or_default();
                    json.scalar(&Value::from(key.to_string()))?;
                    json.out.push_str(": ");
                    json.write(&value.get_item(&key)?, depth + 1)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(Some);
                self.list(('[', ']'), items, depth, |json, item| {
                    json.write(&item.unwrap_or_default(), depth + 1)
                })
            }
            _ => self.scalar(value),
        }
    }

    fn list(
        &mut self,
        (open, close): (char, char),
        items: impl Iterator<Item = Option<Value>>,
        depth: usize,
        mut write: impl FnMut(&mut Self, Option<Value>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.out.push_str(if self.indent.is_some() { "," } else { ", " });
            }
            empty = false;
            self.line(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn scalar(&mut self, value: &Value) -> Result<(), Error> {
        let text = match value.kind() {
            ValueKind::None => "null".to_owned(),
            ValueKind::Bool => value.is_true().to_string(),
            // The engine prints numbers as Python does: 1.0 stays 1.0.
            ValueKind::Number => value.to_string(),
            ValueKind::String => serde_json::Value::from(value.as_str().unwrap_or_default()).to_string(),
            kind => {
                let what = format!("tojson: a {kind} has no JSON form");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        };
        self.out.push_str(&text);
        Ok(())
    }
}

/// A JSON value for a template, its fields in their order.
pub(super) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (_, Some(value)) => Value::from(value),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(from_json).collect::<Vec<_>>().into(),
        serde_json::Value::Object(fields) => from_fields(fields),
    }
}

/// A JSON object's fields for a template.
pub(super) fn from_fields(fields: &serde_json::Map<String, serde_json::Value>) -> Value {
    Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), from_json(value))))
}

/// The function `strftime_now` at a time.
pub(super) fn strftime(now: SystemTime) -> impl Fn(String) -> Result<String, Error> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    move |format| Moment::at(seconds).format(&format)
}

/// A time in UTC, taken apart.
struct Moment {
    year: i64,
    month: usize,
    day: i64,
    day_of_year: i64,
    weekday: usize,
    second: u64,
}

impl Moment {
    /// From seconds since 1970; the calendar is Howard Hinnant's `civil_from_days`.
    fn at(seconds: u64) -> Self {
        let days = (seconds / 86_400) as i64;
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * from_march + 2) / 153;
        let day = from_march - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let day_of_year = if month <= 2 { from_march - 306 + 1 } else { from_march + 60 + i64::from(leap) };
        let weekday = (days + 4).rem_euclid(7) as usize;
        Self { year, month: month as usize, day, day_of_year, weekday, second: seconds % 86_400 }
    }

    fn format(&self, format: &str) -> Result<String, Error> {
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => out.push_str(&self.field(letters.next())?),
                other => out.push(other),
            }
        }
        Ok(out)
    }

    fn field(&self, letter: Option<char>) -> Result<String, Error> {
        let (hour, minute, second) = (self.second / 3600, self.second / 60 % 60, self.second % 60);
        Ok(match letter {
            Some('Y') => self.year.to_string(),
            Some('y') => format!("{:02}", self.year % 100),
            Some('m') => format!("{:02}", self.month),
            Some('B') => MONTHS[self.month - 1].into(),
            Some('b' | 'h') => MONTHS[self.month - 1][..3].into(),
            Some('d') => format!("{:02}", self.day),
            Some('e') => format!("{:2}", self.day),
            Some('j') => format!("{:03}", self.day_of_year),
            Some('A') => DAYS[self.weekday].into(),
            Some('a') => DAYS[self.weekday][..3].into(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('F') => self.format("%Y-%m-%d")?,
            Some('T') => self.format("%H:%M:%S")?,
            Some('Z') => "UTC".into(),
            Some('z') => "+0000".into(),
            Some('%') => "%".into(),
            other => {
                let what =
                    format!("strftime_now: %{} is not known", other.map(String::from).unwrap_or_default());
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expected: &str) {
        let all = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %y %I %p %%";
        assert_eq!(Moment::at(seconds).format(all).unwrap(), expected);
    }

    #[test]
    fn times_are_told_as_python_tells_them() {
        check(0, "1970-01-01 00:00:00 Thu Thursday Jan January 001 70 12 AM %");
        check(951_827_696, "2000-02-29 12:34:56 Tue Tuesday Feb February 060 00 12 PM %");
        check(1_735_689_599, "2024-12-31 23:59:59 Tue Tuesday Dec December 366 24 11 PM %");
        check(1_772_323_200, "2026-03-01 00:00:00 Sun Sunday Mar March 060 26 12 AM %");
        assert!(Moment::at(0).format("%Q").is_err() && Moment::at(0).format("%").is_err());
    }
}
