//! Agreement of two sources.

use serde::{Deserialize, Serialize};

use super::{Finding, Rule};
use crate::bars::Bars;
use crate::error::{Error, Result};
use crate::read::RawBars;

/// How two sources of one instrument agree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceComparison {
    /// Times that both have.
    pub num_common: usize,
    /// Times that only the first has, between the first and the last common time.
    pub num_only_first: usize,
    /// Times that only the second has, between the first and the last common time.
    pub num_only_second: usize,
    /// Common times at which a price differs by more than the tolerance.
    pub num_disagreements: usize,
    /// Largest relative difference of a price.
    pub max_difference: f64,
    /// The disagreements, at most 1,000 of them, with the line of the first source.
    pub findings: Vec<Finding>,
}

/// Compares the prices of two sources at their common times; `tolerance` is relative, such as 0.001.
///
/// Both must be in the order of time, as validation leaves them.
///
/// # Errors
/// [`Error::Invalid`] where the tolerance is negative or a source is out of order.
pub fn compare_sources(first: &RawBars, second: &Bars, tolerance: f64) -> Result<SourceComparison> {
    if tolerance.is_nan() || tolerance < 0.0 {
        return Err(Error::invalid("tolerance", tolerance, "a number of at least 0"));
    }
    let (a, b) = (first.bars.time_ms(), second.time_ms());
    for (name, time_ms) in [("first source", a), ("second source", b)] {
        if let Some(at) = time_ms.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(Error::invalid(name, time_ms[at + 1], "times in increasing order; validate it first"));
        }
    }
    let mut out = SourceComparison::default();
    let (mut i, mut j, mut since_common) = (0, 0, (0, 0));
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => {
                since_common.0 += 1;
                i += 1;
                continue;
            }
            std::cmp::Ordering::Greater => {
                since_common.1 += 1;
                j += 1;
                continue;
            }
            std::cmp::Ordering::Equal => {}
        }
        if out.num_common > 0 {
            out.num_only_first += since_common.0;
            out.num_only_second += since_common.1;
        }
        since_common = (0, 0);
        out.num_common += 1;
        let bars = &first.bars;
        let fields = [
            ("open", bars.open()[i], second.open()[j]),
            ("high", bars.high()[i], second.high()[j]),
            ("low", bars.low()[i], second.low()[j]),
            ("close", bars.close()[i], second.close()[j]),
        ];
        let differences = fields.map(|(field, x, y)| (field, x, y, (x - y).abs() / x.abs().max(y.abs())));
        let worst = differences.into_iter().max_by(|x, y| x.3.total_cmp(&y.3));
        if let Some((field, x, y, difference)) = worst {
            out.max_difference = out.max_difference.max(difference);
            if difference > tolerance {
                out.num_disagreements += 1;
                if out.findings.len() < 1000 {
                    out.findings.push(Finding {
                        rule: Rule::Disagreement,
                        severity: Rule::Disagreement.severity(),
                        line: first.lines[i],
                        time_ms: Some(a[i]),
                        field: field.to_owned(),
                        value: x.to_string(),
                        expected: format!("within {tolerance} of {y}, the other source"),
                    });
                }
            }
        }
        i += 1;
        j += 1;
    }
    Ok(out)
}
