//! Rows of floats, four at a time.

use super::loops::{pieces, places};
use crate::emit::{At, F32x4, Func, I32};
use crate::error::Result;

/// Floats along one axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) pointer: I32,
    /// Bytes from one to the next.
    pub(super) stride: isize,
    pub(super) count: usize,
    /// Whether a few bytes behind the last may be read.
    pub(super) slack: bool,
}

/// Four floats of a row.
pub(super) struct Piece<'a> {
    pub(super) values: F32x4,
    /// Its number in an unrolled turn.
    pub(super) number: usize,
    /// How many of the four belong to the row: less than 4 for the last alone.
    pub(super) count: usize,
    others: &'a [I32],
}

impl Piece<'_> {
    /// A pointer to the first of the four floats of another contiguous row, in the first piece of an unrolled turn.
    pub(super) fn pointer(&self, other: usize) -> I32 {
        self.others[other]
    }

    /// The place of the same four floats of another contiguous row.
    pub(super) fn at(&self, other: usize) -> At {
        At::from(self.others[other], 16 * self.number as u32)
    }
}

impl Row {
    /// Runs `body` for every four floats. `others` point to contiguous rows.
    pub(super) fn pieces(
        self,
        f: &mut Func,
        unroll: usize,
        others: &[I32],
        body: &mut dyn FnMut(&mut Func, &Piece<'_>),
    ) -> Result<()> {
        f.scope(|f| {
            let pointer = f.copy(self.pointer);
            let others: Vec<I32> = others.iter().map(|other| f.copy(*other)).collect();
            let moves: Vec<(I32, i32)> =
                others.iter().map(|other| (*other, 16)).chain([(pointer, self.stride as i32 * 4)]).collect();
            pieces(f, self.count / 4, unroll, &moves, &mut |f, number| {
                let values = self.load(f, pointer, number, 4);
                body(f, &Piece { values, number, count: 4, others: &others });
                Ok(())
            })?;
            let count = self.count % 4;
            if count > 0 {
                let values = self.load(f, pointer, 0, count);
                body(f, &Piece { values, number: 0, count, others: &others });
            }
            Ok(())
        })
    }

    fn load(self, f: &mut Func, pointer: I32, number: usize, count: usize) -> F32x4 {
        match self.stride {
            4 if count == 4 || self.slack => f.load_f32x4(At::from(pointer, 16 * number as u32)),
            4 => f.load_lanes(At::from(pointer, 16 * number as u32), count),
            0 => f.load_splat(At::from(pointer, 0)),
            _ => {
                let places = places(f, pointer, self.stride, 4 * number, count);
                f.gather_f32x4(std::array::from_fn(|lane| places[lane.min(count - 1)]))
            }
        }
    }
}

/// `values` in the first `count` lanes, `rest` in the others.
pub(super) fn filled(f: &mut Func, values: F32x4, count: usize, rest: F32x4) -> F32x4 {
    if count >= 4 {
        return values;
    }
    let mask = f.first_lanes(count);
    f.select(mask, values, rest)
}

/// Combines the four lanes, `(0, 2)` with `(1, 3)`: the result is in all of them.
pub(super) fn across(f: &mut Func, x: F32x4, op: fn(&mut Func, F32x4, F32x4) -> F32x4) -> F32x4 {
    let other = f.shuffle(x, [2, 3, 0, 1]);
    let x = op(f, x, other);
    let other = f.shuffle(x, [1, 0, 3, 2]);
    op(f, x, other)
}

/// Combines some vectors, halves first.
pub(super) fn combined(f: &mut Func, all: &[F32x4], op: fn(&mut Func, F32x4, F32x4) -> F32x4) -> F32x4 {
    match all {
        [one] => *one,
        _ => {
            let (low, high) = all.split_at(all.len() / 2);
            let (low, high) = (combined(f, low, op), combined(f, high, op));
            op(f, low, high)
        }
    }
}
