//! The register-blocked product that matrix products and convolutions share.
//!
//! A tile of `R` rows by `V` vectors of four columns is summed in locals: per step along `k` a scalar of each row, spread over four
//! lanes, times `V` vectors of weights. Every number of the output is one sum in the order of `k`, whatever tile it falls in, so a
//! row's bits do not depend on how many rows there are. Where rows are no multiple of `R`, the last tile begins earlier and writes
//! some rows a second time, with the same numbers.

use super::expr::{self, Leaf};
use crate::emit::{At, F32x4, Func, I32};
use crate::error::Result;
use crate::ir::Expr;

/// Steps along `k` per turn of a loop.
const UNROLL: usize = 4;

/// Up to so many steps along `k` there is no loop.
const STRAIGHT: usize = 8;

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

    fn vector(&self, index: usize) -> usize {
        let bytes = if self.is_i8 { 4 } else { 16 };
        index / self.per_panel * self.panel_bytes + index % self.per_panel * bytes
    }
}

/// Weights that are copied to scratch memory before they are used: as panels of width 4.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repack {
    /// The scratch memory.
    pub(super) to: u32,
    /// Bytes from one `k` to the next.
    pub(super) step: i32,
    /// Bytes from one column to the next.
    pub(super) column: i32,
}

impl Repack {
    /// Bytes of scratch memory.
    pub(super) fn bytes(k: usize, n: usize) -> usize {
        n.div_ceil(4).saturating_mul(k).saturating_mul(16)
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
type Pointers = Vec<I32>;
const A: usize = 0;
const WEIGHTS: usize = 1;
const OUT: usize = 2;

/// What a tile covers.
#[derive(Debug, Clone, Copy)]
struct Tile {
    rows: usize,
    vectors: usize,
    /// Columns of the last vector.
    last: usize,
}

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
        if let Some(repack) = self.repack {
            // As far out as the weights allow.
            let first_fixed = self.weights.steps.iter().rposition(|step| *step != 0).map_or(0, |last| last + 1);
            if axis == first_fixed {
                self.copy_weights(f, repack, pointers[WEIGHTS]);
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
        let tile = tile_shape(rows, self.n.div_ceil(4), self.layout.per_panel);
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
        let mut steps = vec![0, self.layout.vector(tile.vectors) as i32, 16 * tile.vectors as i32];
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

    fn tile(&self, f: &mut Func, pointers: &Pointers, tile: Tile) -> Result<()> {
        f.scope(|f| {
            let sums: Vec<F32x4> = (0..tile.rows * tile.vectors).map(|_| f.splat(0.0)).collect();
            let (a, weights) = (f.copy(pointers[A]), f.copy(pointers[WEIGHTS]));
            self.sum(f, &self.depth, (a, weights), tile, &sums);
            self.finish(f, pointers, tile, &sums)
        })
    }

    /// Adds up the products along some axes of `k`; returns by how much it moved the pointers.
    fn sum(&self, f: &mut Func, depth: &[(usize, i32)], from: (I32, I32), tile: Tile, sums: &[F32x4]) -> (i32, i32) {
        let step = self.layout.step;
        let total: usize = depth.iter().map(|(count, _)| count).product();
        if total <= STRAIGHT || depth.is_empty() {
            let mut offsets = vec![0];
            for &(count, step) in depth {
                offsets = offsets.iter().flat_map(|at| (0..count as i32).map(move |i| at + i * step)).collect();
            }
            self.products(f, from, &offsets, tile, sums);
            return (0, 0);
        }
        let (count, a_step) = depth[0];
        if let [_] = depth {
            let steps: Vec<i32> = (0..UNROLL as i32).map(|i| i * a_step).collect();
            let (turns, rest) = (count / UNROLL, count % UNROLL);
            let moves = [(from.0, a_step * UNROLL as i32), (from.1, step * UNROLL as i32)];
            f.walk(turns, &moves, |f| self.products(f, from, &steps, tile, sums));
            self.products(f, from, &steps[..rest], tile, sums);
            let done = (turns * UNROLL) as i32;
            return (done * a_step, done * step);
        }
        let inner = (total / count) as i32;
        f.repeat(count, |f| {
            let moved = self.sum(f, &depth[1..], from, tile, sums);
            f.advance(from.0, a_step - moved.0);
            f.advance(from.1, inner * step - moved.1);
        });
        (count as i32 * a_step, count as i32 * inner * step)
    }

    /// One step along `k` for each of `offsets`, the bytes from `a` on.
    fn products(&self, f: &mut Func, (a, weights): (I32, I32), offsets: &[i32], tile: Tile, sums: &[F32x4]) {
        let row_step = self.a.steps.last().copied().unwrap_or(0);
        let lowest = offsets.iter().min().copied().unwrap_or(0) + ((tile.rows as i32 - 1) * row_step).min(0);
        f.scope(|f| {
            let lowest = lowest.min(0);
            let a = if lowest < 0 { f.moved(a, lowest) } else { a };
            for (number, offset) in offsets.iter().enumerate() {
                let x = |row: usize| At::from(a, (offset + row as i32 * row_step - lowest) as u32);
                let w = |vector: usize| {
                    At::from(weights, (number as i32 * self.layout.step) as u32 + self.layout.vector(vector) as u32)
                };
                f.scope(|f| {
                    if tile.rows == 1 {
                        let x = f.load_splat(x(0));
                        for (vector, sum) in sums.iter().enumerate() {
                            let w = self.load_weights(f, w(vector));
                            f.accumulate(*sum, x, w);
                        }
                        return;
                    }
                    let w: Vec<F32x4> = (0..tile.vectors).map(|vector| self.load_weights(f, w(vector))).collect();
                    for row in 0..tile.rows {
                        let x = f.load_splat(x(row));
                        for (w, sum) in w.iter().zip(&sums[row * tile.vectors..]) {
                            f.accumulate(*sum, x, *w);
                        }
                    }
                });
            }
        });
    }

    fn load_weights(&self, f: &mut Func, at: At) -> F32x4 {
        if self.layout.is_i8 { f.load_i8x4_as_f32x4(at) } else { f.load_f32x4(at) }
    }

    /// Epilogue and stores.
    fn finish(&self, f: &mut Func, pointers: &Pointers, tile: Tile, sums: &[F32x4]) -> Result<()> {
        let axis = self.axes.len() - 1;
        for vector in 0..tile.vectors {
            let lanes = if vector + 1 == tile.vectors { tile.last } else { 4 };
            // What is the same for all rows is loaded once.
            let mut shared = vec![None; self.extras.len()];
            for row in 0..tile.rows {
                let sum = sums[row * tile.vectors + vector];
                let value = expr::f32x4(f, self.epilogue, &mut |f, leaf| match leaf {
                    Leaf::Result => sum,
                    Leaf::Input(index) => {
                        let number = index - self.first_extra;
                        let extra = &self.extras[number];
                        let row_step = extra.stream.steps[axis];
                        if let (0, Some(known)) = (row_step, shared[number]) {
                            return known;
                        }
                        let bytes = row as i32 * row_step + 4 * vector as i32 * extra.column;
                        let loaded = load_columns(f, pointers[3 + number], bytes, extra, lanes);
                        shared[number] = Some(loaded);
                        loaded
                    }
                })?;
                let bytes = row as i32 * self.out.steps[axis] + 16 * vector as i32;
                f.store_lanes(At::from(pointers[OUT], bytes as u32), value, lanes);
            }
        }
        Ok(())
    }

    /// Copies weights to `[n / 4][k][4]`.
    fn copy_weights(&self, f: &mut Func, repack: Repack, from: I32) {
        let (k, n) = (self.k(), self.n);
        f.scope(|f| {
            let (from, to) = (f.copy(from), f.address(repack.to));
            f.walk(n / 4, &[(from, repack.column.wrapping_mul(4))], |f| copy_vector(f, repack, k, from, to, 4));
            if n % 4 > 0 {
                copy_vector(f, repack, k, from, to, n % 4);
            }
        });
    }
}

type Body<'a> = dyn FnMut(&mut Func, &Pointers, Tile) -> Result<()> + 'a;

/// Rows and vectors of a tile: up to eight sums.
fn tile_shape(rows: usize, vectors: usize, per_panel: usize) -> Tile {
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
    let vectors = vectors.div_ceil(groups.max(1)).next_multiple_of(per_panel);
    Tile { rows: block, vectors, last: 4 }
}

fn last_columns(n: usize) -> usize {
    if n.is_multiple_of(4) { 4 } else { n % 4 }
}

/// Copies of those pointers that move.
fn moving(f: &mut Func, pointers: &Pointers, steps: &[i32]) -> Pointers {
    pointers.iter().zip(steps).map(|(pointer, step)| if *step == 0 { *pointer } else { f.copy(*pointer) }).collect()
}

/// Four columns of an input of the epilogue, `bytes` behind a pointer.
fn load_columns(f: &mut Func, pointer: I32, bytes: i32, extra: &Extra, lanes: usize) -> F32x4 {
    let at = |f: &mut Func, bytes: i32| match u32::try_from(bytes) {
        Ok(offset) => At::from(pointer, offset),
        Err(_) => At::from(f.moved(pointer, bytes), 0),
    };
    let first = at(f, bytes);
    match extra.column {
        0 => f.load_splat(first),
        4 if extra.is_constant => f.load_lanes(first, lanes),
        4 => f.load_f32x4(first),
        column => {
            let result = f.load_lanes(first, 1);
            for lane in 1..lanes {
                let next = at(f, bytes + lane as i32 * column);
                f.load_lane(result, lane as u8, next);
            }
            result
        }
    }
}

/// Copies `lanes` columns to `[k][4]` and moves `to` behind them.
fn copy_vector(f: &mut Func, repack: Repack, k: usize, from: I32, to: I32, lanes: usize) {
    f.scope(|f| {
        let lowest = repack.column.wrapping_mul(lanes as i32 - 1).min(0);
        let from = f.moved(from, lowest);
        let column = |lane: usize| (lane as i32 * repack.column - lowest) as u32;
        let mut rest = k;
        if repack.step == 4 && lanes == 4 {
            // Four by four numbers at a time, transposed.
            f.walk(k / 4, &[(from, 16), (to, 64)], |f| {
                let c: Vec<F32x4> = (0..4).map(|lane| f.load_f32x4(At::from(from, column(lane)))).collect();
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
            rest = k % 4;
        }
        f.walk(rest, &[(from, repack.step), (to, 16)], |f| {
            let value = if repack.column == 4 {
                f.load_lanes(At::from(from, 0), lanes)
            } else {
                let value = f.load_lanes(At::from(from, column(0)), 1);
                for lane in 1..lanes {
                    f.load_lane(value, lane as u8, At::from(from, column(lane)));
                }
                value
            };
            f.store_f32x4(At::from(to, 0), value);
        });
    });
}
