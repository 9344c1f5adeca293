//! The register-blocked product that matrix products and convolutions share.
//!
//! A tile of `R` rows by `V` vectors of four columns is summed in locals: per step along `k` a scalar of each row, spread over four
//! lanes, times `V` vectors of weights. Every number of the output is one sum in the order of `k`, whatever tile it falls in, so a
//! row's bits do not depend on how many rows there are. Where rows are no multiple of `R`, the last tile begins earlier and writes
//! some rows a second time, with the same numbers.

use super::micro::Tile;
use super::repack::Repack;
use crate::emit::{Func, I32};
use crate::error::Result;
use crate::ir::Expr;
use crate::module::STATUS;

/// Weights of a panel group stay in the first cache up to this size: then rows are the outer loop.
const CACHED_BYTES: usize = 16 << 10;

/// Something in memory: where it begins, and the bytes from one row (of each axis of rows) to the next.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) at: u32,
    pub(super) steps: Vec<i32>,
}

/// How weights lie in memory. Vector `j` (columns `4 * j ..`) begins `j / per_panel` panels and `j % per_panel` vectors behind the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Bytes from one `k` to the next.
    pub(super) step: i32,
    /// Vectors of a panel.
    pub(super) per_panel: usize,
    /// Bytes of a panel.
    pub(super) panel_bytes: usize,
    /// 8-bit integers instead of floats.
    pub(super) is_i8: bool,
}

impl Layout {
    /// Panels `[n / width][k][width]`.
    pub(super) fn panels(k: usize, width: usize, is_i8: bool) -> Self {
        let size = if is_i8 { 1 } else { 4 };
        Self { step: (width * size) as i32, per_panel: width / 4, panel_bytes: k * width * size, is_i8 }
    }

    /// Rows of floats that follow one another, `step` bytes from one to the next.
    pub(super) fn rows(step: i32) -> Self {
        Self { step, per_panel: 1, panel_bytes: 16, is_i8: false }
    }

    pub(super) fn vector(&self, index: usize) -> usize {
        let bytes = if self.is_i8 { 4 } else { 16 };
        index / self.per_panel * self.panel_bytes + index % self.per_panel * bytes
    }
}

/// An input of the epilogue.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub(super) stream: Stream,
    /// Bytes from one column to the next.
    pub(super) column: i32,
    /// Whether nothing may be read behind its end.
    pub(super) is_constant: bool,
}

/// A product, `rows x k` times `k x n`, and what is made of it.
#[derive(Debug, Clone)]
pub(super) struct Product<'a> {
    /// Sizes of the axes of rows, outermost first. The weights do not move along the last.
    pub(super) axes: Vec<usize>,
    /// Columns.
    pub(super) n: usize,
    /// Along `k`: counts, and bytes of `a` from one to the next; outermost first.
    pub(super) depth: Vec<(usize, i32)>,
    pub(super) a: Stream,
    /// Column by column: `a` has a number for every column as well, and each is multiplied with its own.
    pub(super) by_column: bool,
    pub(super) weights: Stream,
    pub(super) layout: Layout,
    /// Where the weights have to be copied first; `layout` then says how they lie after that.
    pub(super) repack: Option<Repack>,
    /// Columns follow one another.
    pub(super) out: Stream,
    pub(super) epilogue: &'a Expr,
    /// From [`Product::first_extra`] on, as the epilogue counts.
    pub(super) extras: Vec<Extra>,
    /// Number that the epilogue gives the first of `extras`.
    pub(super) first_extra: usize,
}

/// Pointers: `a`, weights, output, then the epilogue's inputs.
pub(super) type Pointers = Vec<I32>;
pub(super) const A: usize = 0;
pub(super) const WEIGHTS: usize = 1;
pub(super) const OUT: usize = 2;

impl Product<'_> {
    /// Writes the code.
    pub(super) fn emit(mut self, f: &mut Func) -> Result<()> {
        if self.n == 0 || self.axes.contains(&0) {
            return Ok(());
        }
        self.merge_axes();
        self.merge_depth();
        let pointers: Pointers = self.streams().map(|stream| f.address(stream.at)).collect();
        self.outer(f, 0, &pointers)
    }

    fn streams(&self) -> impl Iterator<Item = &Stream> {
        [&self.a, &self.weights, &self.out].into_iter().chain(self.extras.iter().map(|extra| &extra.stream))
    }

    /// Steps of all pointers along an axis of rows.
    fn steps(&self, axis: usize) -> Vec<i32> {
        self.streams().map(|stream| stream.steps[axis]).collect()
    }

    /// Drops axes of size 1 and joins those that are walked as one.
    fn merge_axes(&mut self) {
        let mut sizes: Vec<usize> = Vec::new();
        let mut steps: Vec<Vec<i32>> = Vec::new();
        for (axis, &size) in self.axes.iter().enumerate().filter(|(_, size)| **size != 1) {
            let here = self.steps(axis);
            let joins = steps.last().is_some_and(|outer| {
                outer.iter().zip(&here).all(|(o, s)| i64::from(*o) == i64::from(*s) * size as i64)
            });
            if let (true, Some(last), Some(outer)) = (joins, sizes.last_mut(), steps.last_mut()) {
                *last *= size;
                *outer = here;
            } else {
                sizes.push(size);
                steps.push(here);
            }
        }
        if steps.last().is_none_or(|last| last[WEIGHTS] != 0) {
            sizes.push(1);
            steps.push(vec![0; 3 + self.extras.len()]);
        }
        self.axes = sizes;
        let streams = [&mut self.a, &mut self.weights, &mut self.out]
            .into_iter()
            .chain(self.extras.iter_mut().map(|extra| &mut extra.stream));
        for (number, stream) in streams.enumerate() {
            stream.steps = steps.iter().map(|axis| axis[number]).collect();
        }
    }

    /// Drops axes of `k` of size 1 and joins those that are walked as one.
    fn merge_depth(&mut self) {
        let mut merged: Vec<(usize, i32)> = Vec::new();
        for &(count, step) in self.depth.iter().filter(|(count, _)| *count != 1) {
            match merged.last_mut() {
                Some((total, last)) if i64::from(*last) == i64::from(step) * count as i64 => {
                    *total *= count;
                    *last = step;
                }
                _ => merged.push((count, step)),
            }
        }
        self.depth = merged;
    }

    fn k(&self) -> usize {
        self.depth.iter().map(|(count, _)| count).product()
    }

    /// The loops over all axes of rows but the last.
    fn outer(&self, f: &mut Func, axis: usize, pointers: &Pointers) -> Result<()> {
        let mut packed = pointers.clone();
        if let Some(repack) = &self.repack {
            // As far out as the weights allow.
            let first_fixed = self.weights.steps.iter().rposition(|step| *step != 0).map_or(0, |last| last + 1);
            if axis == first_fixed {
                repack.emit(f, self.n, pointers[WEIGHTS]);
            }
            if axis + 1 == self.axes.len() {
                packed[WEIGHTS] = f.address(repack.to);
            }
        }
        if axis + 1 == self.axes.len() {
            return self.block(f, &packed);
        }
        let steps = self.steps(axis);
        let moves: Vec<(I32, i32)> = pointers.iter().copied().zip(steps.iter().copied()).collect();
        let mut result = Ok(());
        f.walk(self.axes[axis], &moves, |f| result = self.outer(f, axis + 1, pointers));
        for (pointer, step) in moves {
            f.advance(pointer, step.wrapping_mul(self.axes[axis] as i32).wrapping_neg());
        }
        result
    }

    /// All rows of the last axis by all columns.
    fn block(&self, f: &mut Func, pointers: &Pointers) -> Result<()> {
        let rows = self.axes.last().copied().unwrap_or(1);
        let (rows, vectors) = tile_shape(rows, self.n.div_ceil(4), self.layout.per_panel);
        f.sink().global_get(STATUS);
        let tile = Tile { rows, vectors, last: 4, stop: f.take() };
        if self.k().saturating_mul(self.n).saturating_mul(4) <= CACHED_BYTES {
            self.each_rows(f, pointers, tile, &mut |f, pointers, tile| {
                self.each_columns(f, pointers, tile, &mut |f, pointers, tile| self.tile(f, pointers, tile))
            })
        } else {
            self.each_columns(f, pointers, tile, &mut |f, pointers, tile| {
                self.each_rows(f, pointers, tile, &mut |f, pointers, tile| self.tile(f, pointers, tile))
            })
        }
    }

    /// Runs `body` for every block of rows.
    fn each_rows(&self, f: &mut Func, pointers: &Pointers, tile: Tile, body: &mut Body<'_>) -> Result<()> {
        let axis = self.axes.len() - 1;
        let (rows, steps) = (self.axes[axis], self.steps(axis));
        if rows == tile.rows {
            return body(f, pointers, tile);
        }
        let mut result = Ok(());
        if rows % tile.rows == 0 {
            f.scope(|f| {
                let moving = moving(f, pointers, &steps);
                let moves: Vec<(I32, i32)> = moving
                    .iter()
                    .zip(&steps)
                    .map(|(pointer, step)| (*pointer, step.wrapping_mul(tile.rows as i32)))
                    .collect();
                f.walk(rows / tile.rows, &moves, |f| result = body(f, &moving, tile));
            });
        } else {
            f.range(rows.div_ceil(tile.rows), tile.rows, |f, row| {
                let row = f.min_u32(row, (rows - tile.rows) as u32);
                let at =
                    |(pointer, step): (&I32, &i32)| if *step == 0 { *pointer } else { f.indexed(*pointer, row, *step) };
                let pointers: Pointers = pointers.iter().zip(&steps).map(at).collect();
                result = body(f, &pointers, tile);
            });
        }
        result
    }

    /// Runs `body` for every group of vectors.
    fn each_columns(&self, f: &mut Func, pointers: &Pointers, tile: Tile, body: &mut Body<'_>) -> Result<()> {
        let vectors = self.n.div_ceil(4);
        let groups = self.n / 4 / tile.vectors;
        let rest = vectors - groups * tile.vectors;
        if groups == 0 || (groups == 1 && rest == 0) {
            return body(f, pointers, Tile { vectors, last: last_columns(self.n), ..tile });
        }
        let a_step = if self.by_column { 16 * tile.vectors as i32 } else { 0 };
        let mut steps = vec![a_step, self.layout.vector(tile.vectors) as i32, 16 * tile.vectors as i32];
        steps.extend(self.extras.iter().map(|extra| extra.column.wrapping_mul(4 * tile.vectors as i32)));
        f.scope(|f| {
            let moving = moving(f, pointers, &steps);
            let moves: Vec<(I32, i32)> = moving.iter().copied().zip(steps).collect();
            let mut result = Ok(());
            f.walk(groups, &moves, |f| result = body(f, &moving, tile));
            if rest > 0 && result.is_ok() {
                result = body(f, &moving, Tile { vectors: rest, last: last_columns(self.n), ..tile });
            }
            result
        })
    }
}

type Body<'a> = dyn FnMut(&mut Func, &Pointers, Tile) -> Result<()> + 'a;

/// Rows and vectors of a tile: up to eight sums.
fn tile_shape(rows: usize, vectors: usize, per_panel: usize) -> (usize, usize) {
    let (block, most) = match rows {
        1 => (1, 8),
        2 => (2, 4),
        3 => (3, 2),
        _ if vectors == 1 => (rows.min(8), 1),
        // Rows that are computed twice cost more than smaller tiles.
        _ if rows.div_ceil(3) * 10 < rows.div_ceil(4) * 12 => (3, 2),
        _ => (4, 2),
    };
    let groups = vectors.div_ceil(most);
    (block, vectors.div_ceil(groups.max(1)).next_multiple_of(per_panel))
}

fn last_columns(n: usize) -> usize {
    if n.is_multiple_of(4) { 4 } else { n % 4 }
}

/// Copies of those pointers that move.
fn moving(f: &mut Func, pointers: &Pointers, steps: &[i32]) -> Pointers {
    pointers.iter().zip(steps).map(|(pointer, step)| if *step == 0 { *pointer } else { f.copy(*pointer) }).collect()
}
