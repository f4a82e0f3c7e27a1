//! Typed access to a table of a job file. Every error has a place and names the key.

use super::diagnostic::{SpannedError, suggestion};
use muster_protocol::limits;
use serde_json::{Map, Value};
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Deeper nesting of `params` is refused.
const PARAMS_DEPTH_MAX: usize = 32;

/// A value with its span in the text.
pub type Located<T> = (T, Range<usize>);

/// A table with a fixed set of keys.
pub struct Fields<'a> {
    what: &'static str,
    table: &'a DeTable<'a>,
    at: Range<usize>,
}

impl<'a> Fields<'a> {
    /// Refuses keys that are not in `keys`. `what` completes "unknown key `x` of ..".
    pub fn new(
        what: &'static str,
        table: &'a DeTable<'a>,
        at: Range<usize>,
        keys: &[&str],
    ) -> Result<Self, SpannedError> {
        let mut unknown: Vec<_> =
            table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())).collect();
        // The table is sorted by name; users expect the first error of the file.
        unknown.sort_by_key(|key| key.span().start);
        if let Some(key) = unknown.first() {
            let name = key.get_ref().as_ref();
            return Err(SpannedError::at(
                key.span(),
                format!("unknown key `{name}` of {what}{}", suggestion(name, keys.iter().copied())),
            ));
        }
        Ok(Fields { what, table, at })
    }

    /// The span of the table.
    pub fn span(&self) -> Range<usize> {
        self.at.clone()
    }

    pub fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// The span of a key; that of the table if the key is absent.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or(self.at.clone(), |(key, _)| key.span())
    }

    /// The error for a required key that is absent.
    pub fn missing(&self, key: &str) -> SpannedError {
        SpannedError::at(self.at.clone(), format!("missing key `{key}` of {}", self.what))
    }

    pub fn text(&self, key: &str) -> Result<Option<Located<String>>, SpannedError> {
        self.text_as(key, "a string")
    }

    /// A string in a format of its own, such as a duration; `expected` describes it.
    pub fn text_as(&self, key: &str, expected: &str) -> Result<Option<Located<String>>, SpannedError> {
        self.map(key, expected, |value| value.as_str().map(str::to_string))
    }

    pub fn boolean(&self, key: &str) -> Result<Option<Located<bool>>, SpannedError> {
        self.map(key, "true or false", DeValue::as_bool)
    }

    pub fn integer(
        &self,
        key: &str,
        within: RangeInclusive<i64>,
    ) -> Result<Option<Located<i64>>, SpannedError> {
        let Some((integer, at)) = self.map(key, "an integer", |value| value.as_integer().cloned())? else {
            return Ok(None);
        };
        Ok(Some((bounded(key, &integer, within, &at)?, at)))
    }

    /// An integer or a float.
    pub fn number(&self, key: &str) -> Result<Option<Located<f64>>, SpannedError> {
        self.map(key, "a number", |value| match value {
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64)
            }
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        })
    }

    pub fn texts(&self, key: &str) -> Result<Option<Located<Vec<Located<String>>>>, SpannedError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(array) = value.get_ref().as_array() else {
            return Err(type_error(key, "an array of strings", value));
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            let text = item.get_ref().as_str().ok_or_else(|| type_error(key, "an array of strings", item))?;
            texts.push((text.to_string(), item.span()));
        }
        Ok(Some((texts, value.span())))
    }

    pub fn table_of_texts(&self, key: &str) -> Result<Vec<(String, String)>, SpannedError> {
        let mut texts = Vec::new();
        for (name, value) in self.table_at(key, "a table of strings")? {
            let text = value
                .get_ref()
                .as_str()
                .ok_or_else(|| type_error(&format!("{key}.{name}"), "a string", value))?;
            texts.push((name, text.to_string()));
        }
        Ok(texts)
    }

    pub fn table_of_amounts(&self, key: &str) -> Result<Vec<(String, u32)>, SpannedError> {
        let mut amounts = Vec::new();
        for (name, value) in self.table_at(key, "a table of integers")? {
            let full = format!("{key}.{name}");
            let integer =
                value.get_ref().as_integer().ok_or_else(|| type_error(&full, "an integer", value))?;
            let amount = bounded(&full, integer, 0..=u32::MAX.into(), &value.span())?;
            amounts.push((
                name,
                u32::try_from(amount).map_err(|error| SpannedError::at(value.span(), error.to_string()))?,
            ));
        }
        Ok(amounts)
    }

    /// A table as JSON text of at most `bytes_max` bytes; empty if the key is absent.
    pub fn json(&self, key: &str, bytes_max: usize) -> Result<String, SpannedError> {
        let Some(value) = self.get(key) else { return Ok(String::new()) };
        if value.get_ref().as_table().is_none() {
            return Err(type_error(key, "a table", value));
        }
        let text = json_of(key, value, 0)?.to_string();
        if text.len() > bytes_max {
            return Err(SpannedError::at(
                self.key_span(key),
                format!("`{key}` has {} bytes as JSON; at most {bytes_max} are allowed", text.len()),
            ));
        }
        Ok(text)
    }

    fn table_at(
        &self,
        key: &str,
        expected: &str,
    ) -> Result<Vec<(String, &'a Spanned<DeValue<'a>>)>, SpannedError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let table = value.get_ref().as_table().ok_or_else(|| type_error(key, expected, value))?;
        Ok(table.iter().map(|(name, value)| (name.get_ref().to_string(), value)).collect())
    }

    fn map<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Result<Option<Located<T>>, SpannedError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value.get_ref()) {
            Some(read) => Ok(Some((read, value.span()))),
            None => Err(type_error(key, expected, value)),
        }
    }
}

/// A name is one line, neither empty nor too long.
pub fn check_name(key: &str, name: &str, at: Range<usize>) -> Result<(), SpannedError> {
    let limit = limits::NAME_BYTES_MAX;
    if name.is_empty() || name.len() > limit || name.contains(char::is_control) {
        return Err(SpannedError::at(at, format!("`{key}` must be one line of 1 to {limit} bytes")));
    }
    Ok(())
}

/// The error for a value of the wrong type.
pub fn type_error(key: &str, expected: &str, found: &Spanned<DeValue<'_>>) -> SpannedError {
    let found_word = match found.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    SpannedError::at(found.span(), format!("`{key}` must be {expected}, but is {found_word}"))
}

fn bounded(
    key: &str,
    integer: &DeInteger<'_>,
    within: RangeInclusive<i64>,
    at: &Range<usize>,
) -> Result<i64, SpannedError> {
    let number =
        i64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| within.contains(number));
    let (min, max) = (within.start(), within.end());
    number.ok_or_else(|| {
        SpannedError::at(at.clone(), format!("`{key}` must be from {min} to {max}, but is {integer}"))
    })
}

fn json_of(key: &str, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Value, SpannedError> {
    if depth > PARAMS_DEPTH_MAX {
        return Err(SpannedError::at(
            value.span(),
            format!("`{key}` is nested more than {PARAMS_DEPTH_MAX} deep"),
        ));
    }
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(integer) => Value::from(bounded(key, integer, i64::MIN..=i64::MAX, &value.span())?),
        DeValue::Float(float) => {
            let finite = float.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            let number = finite.ok_or_else(|| {
                SpannedError::at(value.span(), format!("`{key}` must be finite, but is {float}"))
            })?;
            Value::Number(number)
        }
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json_of(key, item, depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let mut object = Map::new();
            for (name, value) in table.iter() {
                let full = format!("{key}.{}", name.get_ref());
                object.insert(name.get_ref().to_string(), json_of(&full, value, depth + 1)?);
            }
            Value::Object(object)
        }
    })
}
