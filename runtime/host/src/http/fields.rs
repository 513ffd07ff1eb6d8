//! Fields of a JSON object read by type and bound: a wrong one is a problem that names it.
//!
//! `null` counts as absent, as OpenAI's own clients send it.

use super::problem::{Problem, Result};
use serde_json::{Map, Value};

/// An object's fields.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Where the object lies in the body: empty at the top, else `parameters.` and the like.
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// Fields of the body itself.
    pub fn top(map: &'a Map<String, Value>) -> Self {
        Self { map, path: "" }
    }

    /// Fields of an object inside the body; `path` ends in a dot.
    pub fn below(map: &'a Map<String, Value>, path: &'a str) -> Self {
        Self { map, path }
    }

    /// A field's full name.
    pub fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// A field as it is.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// Refuses a field whose value `harmless` does not take.
    ///
    /// # Errors
    /// 400 `unsupported`.
    pub fn refuse(&self, field: &str, harmless: impl Fn(&Value) -> bool, why: &str) -> Result<()> {
        match self.get(field) {
            Some(value) if !harmless(value) => Err(Problem::unsupported(self.name(field), why)),
            _ => Ok(()),
        }
    }

    fn wrong(&self, field: &str, problem: &str) -> Problem {
        Problem::invalid(self.name(field), problem)
    }

    /// A string of at most `max` bytes.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn text(&self, field: &str, max: usize) -> Result<Option<&'a str>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.wrong(field, "must be a string"))?;
        if text.len() > max {
            return Err(self.wrong(field, &format!("has {} bytes; at most {max}", text.len())));
        }
        Ok(Some(text))
    }

    /// True or false.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn flag(&self, field: &str) -> Result<Option<bool>> {
        self.get(field)
            .map(|value| value.as_bool().ok_or_else(|| self.wrong(field, "must be true or false")))
            .transpose()
    }

    /// A whole number from `low` to `high`.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn integer(&self, field: &str, low: i64, high: i64) -> Result<Option<i64>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = whole(value).ok_or_else(|| self.wrong(field, "must be a whole number"))?;
        if !(low..=high).contains(&number) {
            return Err(self.wrong(field, &format!("is {number}; give {low} to {high}")));
        }
        Ok(Some(number))
    }

    /// A whole number from `low` to `high`, as a count.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn count(&self, field: &str, low: u32, high: u32) -> Result<Option<u32>> {
        let number = self.integer(field, i64::from(low), i64::from(high))?;
        Ok(number.map(|number| u32::try_from(number).expect("it is within bounds of u32")))
    }

    /// A number from `low` to `high`.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn number(&self, field: &str, low: f32, high: f32) -> Result<Option<f32>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| self.wrong(field, "must be a number"))?;
        // Compared before it is made narrower, where 1e308 would become infinite.
        if !(number >= f64::from(low) && number <= f64::from(high)) {
            return Err(self.wrong(field, &format!("is {number}; give {low} to {high}")));
        }
        Ok(Some(number as f32))
    }

    /// A list of at most `max` items.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn list(&self, field: &str, max: usize) -> Result<Option<&'a [Value]>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| self.wrong(field, "must be a list"))?;
        if items.len() > max {
            return Err(self.wrong(field, &format!("has {} items; at most {max}", items.len())));
        }
        Ok(Some(items))
    }

    /// An object.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.get(field)
            .map(|value| value.as_object().ok_or_else(|| self.wrong(field, "must be an object")))
            .transpose()
    }
}

/// A number without a fraction; `16.0` counts, since some clients know no integers.
fn whole(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    // Past 2^63 the bounds refuse it anyway; saturating keeps the sign.
    (number.fract() == 0.0).then_some(number as i64)
}
