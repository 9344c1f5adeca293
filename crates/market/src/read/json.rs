//! Bars from JSON lines or a JSON array.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Builder, Cell, MAX_BAR_COLUMNS, MAX_EXTRA_COLUMNS, RawBars, ReadOptions, check_extra, shorten, skip_bom};
use crate::error::{Error, Result};

/// Rows whose keys together make the header.
const HEADER_ROWS: usize = 100;

/// Reads bars from JSON lines, or from a JSON array of objects.
///
/// Keys are found as in [`read_csv`](super::read_csv); a key may be missing from a row.
///
/// # Errors
/// [`Error::Invalid`] where the first rows lack a required key, where there are more than
/// [`MAX_EXTRA_COLUMNS`] keys besides those of a bar, or where rows of several instruments are mixed.
pub fn read_json(bytes: &[u8], options: &ReadOptions) -> Result<RawBars> {
    let bytes = skip_bom(bytes);
    let rows = if bytes.trim_ascii_start().first() == Some(&b'[') { elements(bytes)? } else { lines(bytes) };
    let mut names: Vec<String> = Vec::new();
    let mut first_error = None;
    for (_, row) in rows.iter().take(HEADER_ROWS) {
        match serde_json::from_slice::<Row<'_>>(row) {
            Ok(Row(fields)) => {
                for (name, _) in fields {
                    if !names.iter().any(|known| *known == name) {
                        names.push(name.into_owned());
                        // Here, because looking a name up takes longer the more there are.
                        if names.len() > MAX_EXTRA_COLUMNS + MAX_BAR_COLUMNS {
                            check_extra(names.len() - MAX_BAR_COLUMNS)?;
                        }
                    }
                }
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    if names.is_empty() {
        let found = first_error.map_or_else(|| "empty".to_owned(), |error| error.to_string());
        return Err(Error::invalid("file", found, "objects with the keys of a bar, one per line or in an array"));
    }
    let mut builder = Builder::new(names, options, rows.len())?;
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for (line, row) in rows {
        let Row(fields) = match serde_json::from_slice(row) {
            Ok(fields) => fields,
            Err(error) => {
                let value = shorten(&String::from_utf8_lossy(row), 80);
                builder.bad_row(line, "row".to_owned(), value, format!("is not an object of values: {error}"), row);
                continue;
            }
        };
        cells.clear();
        cells.resize(builder.names.len(), Cell::Missing);
        for (index, (name, cell)) in fields.into_iter().enumerate() {
            let column = match builder.names.get(index) {
                Some(expected) if *expected == name => index,
                _ => match builder.names.iter().position(|known| *known == name) {
                    Some(column) => column,
                    None => {
                        cells.push(Cell::Missing);
                        builder.add_column(name.into_owned())?
                    }
                },
            };
            cells[column] = cell;
        }
        builder.row(line, row, |column| cells.get(column).cloned().unwrap_or(Cell::Missing))?;
    }
    builder.finish()
}

/// Lines that are not blank, with their numbers.
fn lines(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let numbered = bytes.split(|&byte| byte == b'\n').zip(1..);
    numbered.map(|(line, number)| (number, line.trim_ascii())).filter(|(_, line)| !line.is_empty()).collect()
}

/// The elements of an array, with the lines they start on.
fn elements(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>> {
    let mut rows = Vec::new();
    let (mut line, mut depth, mut start, mut start_line) = (1_u64, 0_usize, None, 1);
    let (mut in_string, mut escaped) = (false, false);
    for (index, &byte) in bytes.iter().enumerate() {
        if byte == b'\n' {
            line += 1;
        }
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if depth == 1 {
            if matches!(byte, b',' | b']') {
                if let Some(start) = start.take() {
                    rows.push((start_line, bytes[start..index].trim_ascii_end()));
                }
            } else if start.is_none() && !byte.is_ascii_whitespace() {
                (start, start_line) = (Some(index), line);
            }
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && !byte.is_ascii_whitespace() {
            let rest = bytes[index + 1..].trim_ascii();
            if !rest.is_empty() {
                return Err(Error::invalid(
                    "file",
                    shorten(&String::from_utf8_lossy(rest), 40),
                    format!("nothing after the array that ends on line {line}"),
                ));
            }
        }
    }
    if depth > 0 {
        return Err(Error::invalid("file", format!("an array that does not end by line {line}"), "a whole JSON array"));
    }
    Ok(rows)
}

/// One object of plain values.
struct Row<'a>(Vec<(Cow<'a, str>, Cell<'a>)>);

impl<'de> Deserialize<'de> for Row<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Row<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(Key(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Row(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl<'de> Deserialize<'de> for Cell<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Cell<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text or null")
            }

            fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
                Ok(Cell::Missing)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Cell<'de>, E> {
                Ok(Cell::Integer(i64::from(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Cell<'de>, E> {
                Ok(Cell::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Cell<'de>, E> {
                Ok(i64::try_from(value).map_or(Cell::Number(value as f64), Cell::Integer))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Cell<'de>, E> {
                Ok(Cell::Number(value))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
                Ok(Cell::Text(text.as_bytes()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
                Ok(Cell::Owned(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Cell::Owned("[...]".to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Cell::Owned("{...}".to_owned()))
            }
        }
        deserializer.deserialize_any(Value)
    }
}
