//! Bars from columns of values, as columnar files hold them.

use super::{Builder, Cell, IgnoredColumn, RawBars, ReadOptions};
use crate::error::{Error, Result};

/// Values of one column; `None` where missing.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Times, milliseconds since the epoch.
    Time(Vec<Option<i64>>),
    /// Integers, which are epochs of any unit where they are read as times.
    Integer(Vec<Option<i64>>),
    /// Numbers.
    Number(Vec<Option<f64>>),
    /// Texts, read as in CSV.
    Text(Vec<Option<String>>),
    /// Values of a kind that has no place in bars, with its name.
    Unsupported(String),
}

impl Column {
    fn len(&self) -> Option<usize> {
        match self {
            Self::Time(values) | Self::Integer(values) => Some(values.len()),
            Self::Number(values) => Some(values.len()),
            Self::Text(values) => Some(values.len()),
            Self::Unsupported(_) => None,
        }
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Time(values) => values[row].map_or(Cell::Missing, Cell::Time),
            Self::Integer(values) => values[row].map_or(Cell::Missing, Cell::Integer),
            Self::Number(values) => values[row].map_or(Cell::Missing, Cell::Number),
            Self::Text(values) => values[row].as_ref().map_or(Cell::Missing, |text| Cell::Text(text.as_bytes())),
            Self::Unsupported(_) => Cell::Missing,
        }
    }
}

/// Reads bars from named columns; the line of a row is its number, from 1.
///
/// Names are found as in [`read_csv`](super::read_csv).
///
/// # Errors
/// [`Error::Invalid`] where columns differ in length or a required one is missing, or where rows of several
/// instruments are mixed.
pub fn read_columns(columns: Vec<(String, Column)>, options: &ReadOptions) -> Result<RawBars> {
    let mut unsupported = Vec::new();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, column) in columns {
        match column {
            Column::Unsupported(kind) => unsupported.push(IgnoredColumn { name, line: 1, value: kind }),
            column => {
                names.push(name);
                values.push(column);
            }
        }
    }
    let num_rows = values.first().and_then(Column::len).unwrap_or(0);
    if let Some(at) = values.iter().position(|column| column.len() != Some(num_rows)) {
        let found = format!("{} values", values[at].len().unwrap_or(0));
        return Err(Error::invalid(&names[at], found, format!("{num_rows} values, as in `{}`", names[0])));
    }
    let mut builder = Builder::new(names, options, num_rows)?;
    for row in 0..num_rows {
        // Written out only for a row that is refused.
        let raw = || {
            let cells: Vec<String> = values.iter().map(|column| column.cell(row).show()).collect();
            cells.join(",").into_bytes()
        };
        builder.row_with(row as u64 + 1, raw, |column| {
            values.get(column).map_or(Cell::Missing, |column: &Column| column.cell(row))
        })?;
    }
    let mut out = builder.finish()?;
    out.ignored_columns.extend(unsupported);
    Ok(out)
}
