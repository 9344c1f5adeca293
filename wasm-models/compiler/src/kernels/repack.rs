//! Copies weights that cannot be read in place, in panels of four columns.

use crate::emit::{At, F32x4, Func, I32};

/// Weights that are copied to scratch memory before they are used: as panels of width 4.
#[derive(Debug, Clone)]
pub(super) struct Repack {
    /// The scratch memory.
    pub(super) to: u32,
    /// Along `k`: counts, and bytes from one to the next; outermost first.
    pub(super) depth: Vec<(usize, i32)>,
    /// Bytes from one column to the next.
    pub(super) column: i32,
}

impl Repack {
    /// Bytes of scratch memory.
    pub(super) fn bytes(k: usize, n: usize) -> usize {
        n.div_ceil(4).saturating_mul(k).saturating_mul(16)
    }

    /// Copies `n` columns from an address to `[n / 4][k][4]`.
    pub(super) fn emit(&self, f: &mut Func, n: usize, from: I32) {
        f.scope(|f| {
            let (from, to) = (f.copy(from), f.address(self.to));
            let (depth, column) = (&self.depth[..], self.column);
            f.walk(n / 4, &[(from, column.wrapping_mul(4))], |f| copy_vector(f, depth, column, from, to, 4));
            if !n.is_multiple_of(4) {
                copy_vector(f, depth, column, from, to, n % 4);
            }
        });
    }
}

/// Copies `lanes` columns to `[k][4]` and moves `to` behind them.
fn copy_vector(f: &mut Func, depth: &[(usize, i32)], column: i32, from: I32, to: I32, lanes: usize) {
    let (rest, step) = match depth {
        [] => (1, 0),
        [only] => *only,
        [(count, step), inner @ ..] => {
            return f.scope(|f| {
                let from = f.copy(from);
                f.walk(*count, &[(from, *step)], |f| copy_vector(f, inner, column, from, to, lanes));
            });
        }
    };
    f.scope(|f| {
        let lowest = column.wrapping_mul(lanes as i32 - 1).min(0);
        let from = f.moved(from, lowest);
        let place = |lane: usize| At::from(from, (lane as i32 * column - lowest) as u32);
        let mut rest = rest;
        if step == 4 && lanes == 4 {
            // Four by four numbers at a time, transposed.
            f.walk(rest / 4, &[(from, 16), (to, 64)], |f| {
                let c: Vec<F32x4> = (0..4).map(|lane| f.load_f32x4(place(lane))).collect();
                let (low, high) = ([0, 4, 1, 5], [2, 6, 3, 7]);
                let pairs = [(c[0], c[2], low), (c[1], c[3], low), (c[0], c[2], high), (c[1], c[3], high)];
                let p = pairs.map(|(a, b, order)| f.shuffle_two(a, b, order));
                for (row, (a, b, order)) in
                    [(p[0], p[1], low), (p[0], p[1], high), (p[2], p[3], low), (p[2], p[3], high)]
                        .into_iter()
                        .enumerate()
                {
                    let value = f.shuffle_two(a, b, order);
                    f.store_f32x4(At::from(to, 16 * row as u32), value);
                }
            });
            rest %= 4;
        }
        f.walk(rest, &[(from, step), (to, 16)], |f| {
            let value = if column == 4 {
                f.load_lanes(At::from(from, 0), lanes)
            } else {
                let value = f.load_lanes(place(0), 1);
                for lane in 1..lanes {
                    f.load_lane(value, lane as u8, place(lane));
                }
                value
            };
            f.store_f32x4(At::from(to, 0), value);
        });
    });
}
