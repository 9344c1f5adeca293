//! The tiles of a product: sums in locals, and what is made of them.
//!
//! Four numbers of a row that follow one another are loaded together and spread by shuffles: measured, that beats four loads.

use wasm_encoder::BlockType;

use super::expr::{self, Leaf};
use super::product::{A, Extra, OUT, Pointers, Product, WEIGHTS};
use crate::Variant;
use crate::emit::{At, F32x4, Func, I32};
use crate::error::Result;

/// Steps along `k` per turn of a loop.
const UNROLL: usize = 4;

/// Up to so many steps along `k` there is no loop.
const STRAIGHT: usize = 8;

/// Vectors of a single row between two [`barrier`]s.
const PER_BARRIER: usize = 4;

/// What a tile covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) vectors: usize,
    /// Columns of the last vector.
    pub(super) last: usize,
    /// Is 0; see [`barrier`].
    pub(super) stop: I32,
}

impl Product<'_> {
    /// Writes the code of a tile at some pointers.
    pub(super) fn tile(&self, f: &mut Func, pointers: &Pointers, tile: Tile) -> Result<()> {
        f.scope(|f| {
            let sums: Vec<F32x4> = (0..tile.rows * tile.vectors).map(|_| f.splat(0.0)).collect();
            let (a, weights) = (f.copy(pointers[A]), f.copy(pointers[WEIGHTS]));
            f.sink().block(BlockType::Empty);
            self.sum(f, &self.depth, (a, weights), tile, &sums, 0);
            f.sink().end();
            self.finish(f, pointers, tile, &sums)
        })
    }

    /// Adds up the products along some axes of `k`; returns by how much it moved the pointers.
    fn sum(
        &self,
        f: &mut Func,
        depth: &[(usize, i32)],
        from: (I32, I32),
        tile: Tile,
        sums: &[F32x4],
        labels: u32,
    ) -> (i32, i32) {
        let step = self.layout.step;
        let total: usize = depth.iter().map(|(count, _)| count).product();
        if total <= STRAIGHT || depth.is_empty() {
            let mut offsets = vec![0];
            for &(count, step) in depth {
                offsets = offsets.iter().flat_map(|at| (0..count as i32).map(move |i| at + i * step)).collect();
            }
            self.products(f, from, &offsets, tile, sums, labels);
            return (0, 0);
        }
        let (count, a_step) = depth[0];
        if let [_] = depth {
            let steps: Vec<i32> = (0..UNROLL as i32).map(|i| i * a_step).collect();
            let (turns, rest) = (count / UNROLL, count % UNROLL);
            let moves = [(from.0, a_step * UNROLL as i32), (from.1, step * UNROLL as i32)];
            f.walk(turns, &moves, |f| self.products(f, from, &steps, tile, sums, labels + u32::from(turns > 1)));
            self.products(f, from, &steps[..rest], tile, sums, labels);
            let done = (turns * UNROLL) as i32;
            return (done * a_step, done * step);
        }
        let inner = (total / count) as i32;
        f.repeat(count, |f| {
            let moved = self.sum(f, &depth[1..], from, tile, sums, labels + u32::from(count > 1));
            f.advance(from.0, a_step - moved.0);
            f.advance(from.1, inner * step - moved.1);
        });
        (count as i32 * a_step, count as i32 * inner * step)
    }

    /// One step along `k` for each of `offsets`, the bytes from `a` on.
    fn products(
        &self,
        f: &mut Func,
        (a, weights): (I32, I32),
        offsets: &[i32],
        tile: Tile,
        sums: &[F32x4],
        labels: u32,
    ) {
        let row_step = self.a.steps.last().copied().unwrap_or(0);
        let lowest = offsets.iter().min().copied().unwrap_or(0) + ((tile.rows as i32 - 1) * row_step).min(0);
        let lowest = lowest.min(0);
        f.scope(|f| {
            let a = if lowest < 0 { f.moved(a, lowest) } else { a };
            let mut fours = Vec::new();
            for (number, offset) in offsets.iter().enumerate() {
                let at = |row: usize| At::from(a, (offset + row as i32 * row_step - lowest) as u32);
                let w = |vector: usize| {
                    At::from(weights, (number as i32 * self.layout.step) as u32 + self.layout.vector(vector) as u32)
                };
                let lane = number % 4;
                if lane == 0 {
                    let follows =
                        offsets.get(number..number + 4).is_some_and(|it| it.windows(2).all(|it| it[1] == it[0] + 4));
                    let loads = follows && !self.by_column && (tile.rows > 1 || f.variant() == Variant::Simd128);
                    fours = (0..if loads { tile.rows } else { 0 }).map(|row| f.load_f32x4(at(row))).collect();
                }
                let x = |f: &mut Func, row: usize| match fours.get(row) {
                    Some(four) => f.shuffle(*four, [lane as u8; 4]),
                    None => spread(f, at(row)),
                };
                f.scope(|f| {
                    if self.by_column {
                        for vector in 0..tile.vectors {
                            let w = self.load_weights(f, w(vector));
                            for row in 0..tile.rows {
                                let x = f.load_f32x4(at(row).plus(16 * vector as u32));
                                f.accumulate(sums[row * tile.vectors + vector], x, w);
                            }
                            barrier(f, tile, labels);
                        }
                        return;
                    }
                    if tile.rows == 1 {
                        let x = x(f, 0);
                        for (vector, sum) in sums.iter().enumerate() {
                            let w = self.load_weights(f, w(vector));
                            f.accumulate(*sum, x, w);
                            if vector % PER_BARRIER == PER_BARRIER - 1 || vector + 1 == sums.len() {
                                barrier(f, tile, labels);
                            }
                        }
                        return;
                    }
                    let w: Vec<F32x4> = (0..tile.vectors).map(|vector| self.load_weights(f, w(vector))).collect();
                    for row in 0..tile.rows {
                        let x = x(f, row);
                        for (w, sum) in w.iter().zip(&sums[row * tile.vectors..]) {
                            f.accumulate(*sum, x, *w);
                        }
                    }
                    barrier(f, tile, labels);
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

/// A float in all four places. Measured with Cranelift: the one instruction for it takes a detour over an integer register, which only
/// fused multiplication does not notice.
fn spread(f: &mut Func, at: At) -> F32x4 {
    match f.variant() {
        Variant::Simd128 => {
            let value = f.load_f32(at);
            f.splat_f32(value)
        }
        Variant::RelaxedSimd => f.load_splat(at),
    }
}

/// Makes the engine's compiler add up what was multiplied so far.
///
/// Cranelift keeps loads in their order but puts arithmetic where its result is needed: of an unrolled loop it would first load
/// everything, more than there are registers. A branch out of the sum needs all sums. It is taken only where `run` has failed, when
/// the outputs mean nothing; else it costs a test. Fused multiplication of several rows is faster without (measured).
fn barrier(f: &mut Func, tile: Tile, labels: u32) {
    if tile.rows == 1 || f.variant() == Variant::Simd128 {
        f.get(tile.stop);
        f.sink().br_if(labels);
    }
}
