//! Tree ensembles: a branch-free descent through a packed table, several trees or rows at a time.
//!
//! A row is copied into slots first; what slots and table hold is said in `passes/pack_trees.rs`. Four rows go down one tree together,
//! a single row down four trees, so that no step waits for the one before it. Weights are added tree by tree in either case.

mod number;
#[cfg(test)]
mod tests;

use number::Number;
use wasm_encoder::{BlockType, InstructionSink, MemArg};

use super::Cx;
use crate::emit::{At, F32, F32x4, F64, Func, I32, Local as _};
use crate::error::{CompileError, Result};
use crate::ir::{Aggregate, DType, Graph, Node, Operand, TreeForm, TreeTable, Trees};
use crate::passes::pack_trees::{entry_bytes, neutral};

/// Rows that go down a tree together.
const BLOCK: usize = 4;
/// Trees of a chunk of the linked form, and trees that a single row goes down together.
const CHUNK: usize = 4;
/// Bytes of a chunk of the linked form.
const CHUNK_BYTES: usize = 20;
/// Sums that are kept in registers.
const MAX_SUMS: usize = 8;
/// Features that are copied without a loop.
const MAX_UNROLLED: usize = 32;

pub(super) fn scratch_bytes(graph: &Graph, node: &Node, trees: &Trees) -> usize {
    let Some(table) = &trees.table else { return 0 };
    let sizes = Sizes::new(graph, &node.inputs[0], trees, table);
    BLOCK * (sizes.slots + sizes.sums)
}

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, trees: &Trees) -> Result<()> {
    let Some(output) = node.outputs[0] else { return Ok(()) };
    let (Some(table), [input, packed]) = (&trees.table, node.inputs.as_slice()) else {
        return Err(CompileError::node(&node.name, "its trees are not packed"));
    };
    let sizes = Sizes::new(cx.graph, input, trees, table);
    let kernel = Kernel { trees, table, sizes, at: cx.address(packed), scratch: cx.scratch(), input };
    let size = cx.dtype(input).size();
    let source = f.address(cx.address(input));
    let target = f.address(cx.result(output));
    let row = (input.strides[0] * size as isize) as i32;
    let scores = (trees.num_scores * size) as i32;
    for (count, rows) in [(input.shape[0] / BLOCK, BLOCK), (input.shape[0] % BLOCK, 1)] {
        let moves = [(source, row * rows as i32), (target, scores * rows as i32)];
        f.walk(count, &moves, |f| match cx.dtype(input) {
            DType::F64 => kernel.block::<F64, F64>(f, rows, source, target),
            _ => kernel.block::<F32, F32x4>(f, rows, source, target),
        });
    }
    Ok(())
}

/// Bytes of scratch memory for a row.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    slots: usize,
    sums: usize,
}

impl Sizes {
    fn new(graph: &Graph, input: &Operand, trees: &Trees, table: &TreeTable) -> Self {
        let size = graph.dtype(input).size();
        let copies = if table.maps_nan { 2 } else { 1 };
        let slots = (size * (1 + copies * input.shape[1])).next_multiple_of(16);
        let sums = if table.leaf_weights > 1 { (size * trees.num_scores).next_multiple_of(16) } else { 0 };
        Self { slots, sums }
    }
}

/// Where the sums of a row are.
enum Sums<V> {
    Locals(Vec<V>),
    Memory(u32),
}

/// A row on its way down a tree.
#[derive(Clone, Copy)]
struct Walker {
    /// Where it is: bytes from the start of the level or of all nodes.
    place: I32,
    row: usize,
}

struct Kernel<'a> {
    trees: &'a Trees,
    table: &'a TreeTable,
    sizes: Sizes,
    at: u32,
    scratch: u32,
    input: &'a Operand,
}

impl Kernel<'_> {
    /// Some rows; `T` is a number of their type, `V` one or several of them.
    fn block<T: Number, V: Number>(&self, f: &mut Func, rows: usize, source: I32, target: I32) {
        let row_stride = self.input.strides[0] * T::BYTES as isize;
        for row in 0..rows {
            f.scope(|f| {
                let from = f.moved(source, (row_stride * row as isize) as i32);
                self.fill::<T>(f, row, from);
            });
        }
        if self.table.leaf_weights > 1 {
            self.together::<T, V>(f, rows, target);
        } else {
            self.one_by_one::<T>(f, rows, target);
        }
    }

    fn slots(&self, row: usize) -> u32 {
        self.scratch + (row * self.sizes.slots) as u32
    }

    /// Copies a row into its slots.
    fn fill<T: Number>(&self, f: &mut Func, row: usize, from: I32) {
        let count = self.input.shape[1];
        let first = self.slots(row) + T::BYTES as u32;
        let nan = T::constant(f, f64::NAN);
        nan.store(f, At::fixed(self.slots(row)), 1);
        let step = self.input.strides[1];
        let fours = if T::BYTES == 4 && step == 1 { count / 4 } else { 0 };
        let to = f.address(first);
        if count <= MAX_UNROLLED {
            for four in 0..fours {
                f.scope(|f| self.copy::<F32x4>(f, At::from(from, 16 * four as u32), At::from(to, 16 * four as u32), 4));
            }
            f.advance(from, 16 * fours as i32);
            f.advance(to, 16 * fours as i32);
        } else {
            f.walk(fours, &[(from, 16), (to, 16)], |f| {
                self.copy::<F32x4>(f, At::from(from, 0), At::from(to, 0), 4);
            });
        }
        let moves = [(from, (step * T::BYTES as isize) as i32), (to, T::BYTES as i32)];
        f.walk(count - 4 * fours, &moves, |f| self.copy::<T>(f, At::from(from, 0), At::from(to, 0), 1));
    }

    fn copy<V: Number>(&self, f: &mut Func, from: At, to: At, lanes: usize) {
        let x = V::load(f, from);
        x.store(f, to, lanes);
        if self.table.maps_nan {
            let low = V::constant(f, f64::NEG_INFINITY);
            let x = x.unless_nan(f, low);
            x.store(f, to.plus((self.input.shape[1] * V::BYTES / lanes) as u32), lanes);
        }
    }

    /// Trees that count for one score each.
    fn one_by_one<T: Number>(&self, f: &mut Func, rows: usize, target: I32) {
        let base = f.address(self.at + self.table.base as u32);
        let to = f.copy(target);
        let trees = self.first_tree(f);
        for run in &self.table.runs {
            f.repeat(run.scores, |f| {
                let sums: Vec<T> = (0..rows).map(|_| T::constant(f, neutral(self.trees.aggregate))).collect();
                self.walk_trees::<T>(f, rows, run.trees, trees, |f, walker| {
                    let leaf = self.leaf::<T>(f, walker);
                    let weight = T::load(f, leaf);
                    let sum = self.join(f, sums[walker.row], weight);
                    f.set(sums[walker.row], sum);
                });
                let base_value = T::load(f, At::from(base, 0));
                for (row, sum) in sums.iter().enumerate() {
                    let score = self.score(f, *sum, base_value);
                    score.store(f, At::from(to, (row * self.trees.num_scores * T::BYTES) as u32), 1);
                }
                f.advance(base, T::BYTES as i32);
                f.advance(to, T::BYTES as i32);
            });
        }
    }

    /// Trees whose leaves have a weight for each score.
    fn together<T: Number, V: Number>(&self, f: &mut Func, rows: usize, target: I32) {
        let lanes = V::BYTES / T::BYTES;
        let num_scores = self.trees.num_scores;
        let parts = num_scores.div_ceil(lanes);
        let start = neutral(self.trees.aggregate);
        let sums: Vec<Sums<V>> = (0..rows)
            .map(|row| {
                if parts * rows <= MAX_SUMS {
                    return Sums::Locals((0..parts).map(|_| V::constant(f, start)).collect());
                }
                let at = self.scratch + (BLOCK * self.sizes.slots + row * self.sizes.sums) as u32;
                f.scope(|f| {
                    let (to, value) = (f.address(at), V::constant(f, start));
                    f.walk(parts, &[(to, V::BYTES as i32)], |f| value.store(f, At::from(to, 0), lanes));
                });
                Sums::Memory(at)
            })
            .collect();
        let trees = self.first_tree(f);
        for run in &self.table.runs {
            self.walk_trees::<T>(f, rows, run.trees, trees, |f, walker| {
                let leaf = self.leaves::<T>(f, walker);
                match &sums[walker.row] {
                    Sums::Locals(sums) => {
                        for (part, sum) in sums.iter().enumerate() {
                            let weights = V::load(f, leaf.plus((part * V::BYTES) as u32));
                            let joined = self.join(f, *sum, weights);
                            f.set(*sum, joined);
                        }
                    }
                    Sums::Memory(at) => {
                        let offset = f.i32(0);
                        let step = V::BYTES as i32;
                        f.walk(parts, &[(walker.place, step), (offset, step)], |f| {
                            let sum = V::load(f, At::from(offset, *at));
                            let weights = V::load(f, leaf);
                            self.join(f, sum, weights).store(f, At::from(offset, *at), lanes);
                        });
                    }
                }
            });
        }
        let tail = num_scores - (parts - 1) * lanes;
        for (row, sums) in sums.iter().enumerate() {
            f.scope(|f| {
                let base = f.address(self.at + self.table.base as u32);
                let to = f.moved(target, (row * num_scores * T::BYTES) as i32);
                let put = |f: &mut Func, sum: V, count: usize| {
                    let base_values = V::load(f, At::from(base, 0));
                    self.score(f, sum, base_values).store(f, At::from(to, 0), count);
                };
                match sums {
                    Sums::Locals(sums) => {
                        for (part, sum) in sums.iter().enumerate() {
                            f.scope(|f| put(f, *sum, if part + 1 < parts { lanes } else { tail }));
                            f.advance(base, V::BYTES as i32);
                            f.advance(to, V::BYTES as i32);
                        }
                    }
                    Sums::Memory(at) => {
                        let from = f.address(*at);
                        let step = V::BYTES as i32;
                        f.walk(parts - 1, &[(from, step), (base, step), (to, step)], |f| {
                            let sum = V::load(f, At::from(from, 0));
                            put(f, sum, lanes);
                        });
                        let sum = V::load(f, At::from(from, 0));
                        put(f, sum, tail);
                    }
                }
            });
        }
    }

    /// A pointer to the first tree, for [`Self::walk_trees`].
    fn first_tree(&self, f: &mut Func) -> I32 {
        match &self.table.form {
            TreeForm::Complete { .. } => f.i32(0),
            TreeForm::Linked { chunks, .. } => f.address(self.at + *chunks as u32),
        }
    }

    /// Sends all rows down the next `count` trees and calls `arrive` for each row and tree, in the order of the trees.
    fn walk_trees<T: Number>(
        &self,
        f: &mut Func,
        rows: usize,
        count: usize,
        trees: I32,
        arrive: impl Fn(&mut Func, Walker),
    ) {
        match &self.table.form {
            TreeForm::Complete { levels, .. } => {
                let together = if rows == 1 { CHUNK } else { 1 };
                for (turns, together) in [(count / together, together), (count % together, 1)] {
                    f.walk(turns, &[(trees, 8 * together as i32)], |f| {
                        let walkers: Vec<Walker> = (0..together * rows)
                            .map(|index| Walker { place: f.moved(trees, 8 * (index / rows) as i32), row: index % rows })
                            .collect();
                        for level in levels {
                            walkers.iter().for_each(|walker| self.step_complete(f, *level, *walker));
                        }
                        walkers.into_iter().for_each(|walker| f.scope(|f| arrive(f, walker)));
                    });
                }
            }
            TreeForm::Linked { is_narrow, nodes, .. } => {
                let nodes = self.at + *nodes as u32;
                f.walk(count.div_ceil(CHUNK), &[(trees, CHUNK_BYTES as i32)], |f| {
                    let together = if rows == 1 { CHUNK } else { 1 };
                    for first in (0..CHUNK).step_by(together) {
                        f.scope(|f| {
                            let left = f.load_i32(At::from(trees, 0));
                            let walkers: Vec<Walker> = (0..together * rows)
                                .map(|index| {
                                    let root = At::from(trees, 4 + 4 * (first + index / rows) as u32);
                                    Walker { place: f.load_i32(root), row: index % rows }
                                })
                                .collect();
                            f.sink().loop_(BlockType::Empty);
                            for _ in 0..2 {
                                for walker in &walkers {
                                    self.step_linked::<T>(f, nodes, *is_narrow, *walker);
                                }
                            }
                            let left = left.index();
                            f.sink().local_get(left).i32_const(1).i32_sub().local_tee(left).br_if(0).end();
                            walkers.into_iter().for_each(|walker| f.scope(|f| arrive(f, walker)));
                        });
                    }
                });
            }
        }
    }

    /// Entries are `(slot, threshold)`; the children of the entry at `place` are at twice that in the next level.
    fn step_complete(&self, f: &mut Func, level: usize, walker: Walker) {
        let entry = At::from(walker.place, self.at + level as u32);
        let slot = f.place(entry, 2);
        f.sink().i32_load(slot).f32_load(word(self.slots(walker.row)));
        let threshold = f.place(entry.plus(4), 2);
        f.sink().f32_load(threshold).f32_le().i32_const(3).i32_shl();
        let place = walker.place.index();
        f.sink().local_get(place).i32_const(1).i32_shl().i32_add().local_set(place);
    }

    /// Entries are `(threshold, slot, distance)`; the child to take is `distance` entries further on, or one more.
    fn step_linked<T: Number>(&self, f: &mut Func, nodes: u32, is_narrow: bool, walker: Walker) {
        let entry = At::from(walker.place, nodes);
        let size = T::BYTES as u32;
        let slot = f.place(entry.plus(size), if is_narrow { 1 } else { 2 });
        load_small(&mut f.sink(), is_narrow, slot, false);
        T::load_on_stack(f, word(self.slots(walker.row)));
        let threshold = f.place(entry, 2);
        T::load_on_stack(f, threshold);
        T::less_or_equal_on_stack(f);
        let distance = f.place(entry.plus(size + if is_narrow { 2 } else { 4 }), if is_narrow { 1 } else { 2 });
        load_small(&mut f.sink(), is_narrow, distance, true);
        let stride = entry_bytes(T::DTYPE, is_narrow) as i32;
        let place = walker.place.index();
        f.sink().i32_add().i32_const(stride).i32_mul().local_get(place).i32_add().local_set(place);
    }

    /// The only weight of the leaf that was reached.
    fn leaf<T: Number>(&self, f: &mut Func, walker: Walker) -> At {
        match &self.table.form {
            TreeForm::Complete { .. } => self.leaves::<T>(f, walker),
            TreeForm::Linked { nodes, .. } => At::from(walker.place, self.at + *nodes as u32),
        }
    }

    /// The weights of the leaf that was reached.
    fn leaves<T: Number>(&self, f: &mut Func, walker: Walker) -> At {
        match &self.table.form {
            TreeForm::Complete { leaves, .. } => {
                let place = walker.place.index();
                f.sink().local_get(place).i32_const(1).i32_shr_u();
                f.sink().i32_const(self.table.leaf_weights as i32).i32_mul().local_set(place);
                At::from(walker.place, self.at + *leaves as u32)
            }
            TreeForm::Linked { nodes, leaves, .. } => {
                let offset = f.load_i32(At::from(walker.place, self.at + *nodes as u32));
                f.set(walker.place, offset);
                At::from(walker.place, self.at + *leaves as u32)
            }
        }
    }

    fn join<V: Number>(&self, f: &mut Func, sum: V, weight: V) -> V {
        match self.trees.aggregate {
            Aggregate::Sum | Aggregate::Average => sum.add(f, weight),
            Aggregate::Min => sum.smaller(f, weight),
            Aggregate::Max => sum.larger(f, weight),
        }
    }

    /// The score of a sum; 0 and its base value where there is none.
    fn score<V: Number>(&self, f: &mut Func, sum: V, base: V) -> V {
        let score = match self.trees.aggregate {
            Aggregate::Sum => sum,
            Aggregate::Average => {
                let count = V::constant(f, self.trees.trees.len() as f64);
                sum.divide(f, count)
            }
            Aggregate::Min | Aggregate::Max => sum.finite_or_zero(f),
        };
        score.add(f, base)
    }
}

fn word(offset: u32) -> MemArg {
    MemArg { offset: offset.into(), align: 2, memory_index: 0 }
}

fn load_small(sink: &mut InstructionSink<'_>, is_narrow: bool, place: MemArg, is_signed: bool) {
    match (is_narrow, is_signed) {
        (true, true) => sink.i32_load16_s(place),
        (true, false) => sink.i32_load16_u(place),
        (false, _) => sink.i32_load(place),
    };
}
