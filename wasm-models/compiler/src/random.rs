//! Random graphs: compiled modules against the imported graph computed directly, row by row.
//!
//! `PROPTEST_CASES=5000 cargo test -p moola-wasm-compiler --lib random` runs more.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::ir::{DType, Data};
use crate::testkit::{Attr, OnnxModel, Running};
use crate::{Options, Variant, eval, import};

/// A step, by numbers that are taken modulo what there is to choose.
#[derive(Debug, Clone, Copy)]
struct Step {
    kind: u8,
    from: u8,
    choice: u64,
}

/// What a graph is made of.
#[derive(Debug, Clone)]
struct Recipe {
    /// Shapes of the inputs without the batch.
    inputs: Vec<Vec<usize>>,
    steps: Vec<Step>,
    has_second_output: bool,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let step = (any::<u8>(), any::<u8>(), any::<u64>()).prop_map(|(kind, from, choice)| Step { kind, from, choice });
    let inputs = prop::collection::vec(prop::collection::vec(1_usize..9, 1..4), 1..3);
    (inputs, prop::collection::vec(step, 1..12), any::<bool>()).prop_map(|(inputs, steps, has_second_output)| Recipe {
        inputs,
        steps,
        has_second_output,
    })
}

/// Largest number of elements of a row.
const MAX_ELEMENTS: usize = 2000;
const MAX_ROWS: usize = 7;

/// Numbers in -1..1 that look random.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Digits of a number in mixed radix: choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, count: usize) -> usize {
        let count = count.max(1) as u64;
        let digit = self.0 % count;
        self.0 /= count;
        digit as usize
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn order(&mut self, count: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..count).collect();
        std::iter::repeat_with(|| left.remove(self.below(left.len()))).take(count).collect()
    }
}

/// A value, and its shape without the batch.
type Tensor = (String, Vec<usize>);

struct Generator {
    model: OnnxModel,
    pool: Vec<Tensor>,
    names: u64,
}

/// The file, its batch open or of a size.
fn write(recipe: &Recipe, batch: Option<usize>) -> Vec<u8> {
    let mut it = Generator { model: OnnxModel::new(17), pool: Vec::new(), names: 0 };
    for (index, shape) in recipe.inputs.iter().enumerate() {
        let dims: Vec<Option<usize>> = std::iter::once(batch).chain(shape.iter().map(|size| Some(*size))).collect();
        it.model = it.model.input(&format!("x{index}"), DType::F32, &dims);
        it.pool.push((format!("x{index}"), shape.clone()));
    }
    for step in &recipe.steps {
        // Often the latest, so that there are chains.
        let from = if step.from < 128 { it.pool.len() - 1 } else { usize::from(step.from) % it.pool.len() };
        let from = it.pool[from].clone();
        let made = it.step(step.kind, &from.0, &from.1, &mut Choices(step.choice));
        it.pool.extend(made.filter(|(_, shape)| shape.iter().product::<usize>() <= MAX_ELEMENTS));
    }
    let last = it.pool.len() - 1;
    let middle = (recipe.inputs.len() + last) / 2;
    let second = (recipe.has_second_output && middle < last).then_some(middle);
    for (index, place) in std::iter::once(last).chain(second).enumerate() {
        let output = format!("y{index}");
        it.model = it.model.node("Identity", &[&it.pool[place].0], &[&output], &[]).output(&output);
    }
    it.model.bytes()
}

fn ints(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|size| *size as i64).collect()
}

impl Generator {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    fn edit(&mut self, change: impl FnOnce(OnnxModel) -> OnnxModel) {
        self.model = change(std::mem::take(&mut self.model));
    }

    /// Constants of about `1 / sqrt(fan_in)`.
    fn weights(&mut self, shape: &[usize], fan_in: usize) -> String {
        let name = self.name();
        let limit = 1.0 / (fan_in.max(1) as f32).sqrt();
        let data = numbers(shape.iter().product(), self.names).into_iter().map(|x| x * limit).collect();
        self.edit(|model| model.constant(&name, shape, &Data::F32(data)));
        name
    }

    fn ints(&mut self, numbers: &[i64]) -> String {
        let name = self.name();
        self.edit(|model| model.constant(&name, &[numbers.len()], &Data::I64(numbers.to_vec())));
        name
    }

    fn nodes(&mut self, op: &str, inputs: &[&str], outputs: usize, attributes: &[(&str, Attr<'_>)]) -> Vec<String> {
        let names: Vec<String> = (0..outputs).map(|_| self.name()).collect();
        let outputs: Vec<&str> = names.iter().map(String::as_str).collect();
        self.edit(|model| model.node(op, inputs, &outputs, attributes));
        names
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attr<'_>)]) -> String {
        self.nodes(op, inputs, 1, attributes).remove(0)
    }

    fn transposed(&mut self, x: &str, order: &[i64]) -> String {
        self.node("Transpose", &[x], &[("perm", Attr::Ints(order))])
    }

    fn reshaped(&mut self, x: &str, sizes: &[i64]) -> String {
        let sizes = self.ints(sizes);
        self.node("Reshape", &[x, &sizes], &[])
    }

    /// Appends operators; `None` where they do not fit the shape.
    fn step(&mut self, kind: u8, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let same = |name: String| Some((name, shape.to_vec()));
        let rank = shape.len();
        match kind % 25 {
            0 => {
                let op = choose.of(&["Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Erf", "Softplus", "Identity"]);
                same(self.node(op, &[x], &[]))
            }
            1 | 2 => same(self.binary(x, shape, choose)),
            3 => self.dense(x, shape, choose),
            4 => self.square(x, shape),
            5 | 6 => self.convolution(x, shape, choose),
            7 => self.recurrent(x, shape, choose),
            8 if rank > 0 => {
                let axis = 1 + choose.below(rank) as i64;
                let op = choose.of(&["Softmax", "Softmax", "LogSoftmax"]);
                same(self.node(op, &[x], &[("axis", Attr::Int(axis))]))
            }
            9 if rank > 0 => {
                let axis = choose.below(rank);
                let (scale, shift) = (self.weights(&shape[axis..], 1), self.weights(&shape[axis..], 1));
                let attributes = [("axis", Attr::Int(1 + axis as i64)), ("epsilon", Attr::Float(0.1))];
                same(self.node("LayerNormalization", &[x, &scale, &shift], &attributes))
            }
            10 if rank > 0 => same(self.written_norm(x, rank as i64)),
            11 => self.reduction(x, shape, choose),
            12 => {
                let order = choose.order(rank);
                let perm: Vec<i64> = std::iter::once(0).chain(order.iter().map(|axis| *axis as i64 + 1)).collect();
                Some((self.transposed(x, &perm), order.iter().map(|axis| shape[*axis]).collect()))
            }
            13 => self.reshape(x, shape, choose),
            14 if rank > 0 => self.slice(x, shape, choose),
            15 if rank > 0 => self.concat(x, shape, choose),
            16 if rank > 0 => self.split(x, shape, choose),
            17 if rank > 0 => self.pad(x, shape, choose),
            18 if rank > 0 => self.gather(x, shape, choose),
            19 => self.pool(x, shape, choose),
            20 => self.attention(x, shape, choose),
            21 if rank > 1 => {
                // A constant on the left.
                let (k, outputs) = (shape[rank - 2], 1 + choose.below(9));
                let w = self.weights(&[outputs, k], k);
                let mut made = shape.to_vec();
                made[rank - 2] = outputs;
                Some((self.node("MatMul", &[&w, x], &[]), made))
            }
            22 if rank > 0 => {
                let [scale, shift, mean] = [0; 3].map(|_| self.weights(&[shape[0]], 1));
                let variance = self.node("Abs", &[&scale], &[]);
                let epsilon = [("epsilon", Attr::Float(0.1))];
                same(self.node("BatchNormalization", &[x, &scale, &shift, &mean, &variance], &epsilon))
            }
            23 if rank > 1 => {
                let (scale, shift) = (self.weights(&[shape[0]], 1), self.weights(&[shape[0]], 1));
                same(self.node("InstanceNormalization", &[x, &scale, &shift], &[("epsilon", Attr::Float(0.1))]))
            }
            24 if rank > 0 => {
                // Repeats what has size 1.
                let made: Vec<usize> =
                    shape.iter().map(|size| if *size == 1 { 1 + choose.below(5) } else { *size }).collect();
                let sizes = self.ints(&std::iter::once(1).chain(ints(&made)).collect::<Vec<_>>());
                Some((self.node("Expand", &[x, &sizes], &[]), made))
            }
            _ => None,
        }
    }

    fn binary(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> String {
        let op = choose.of(&["Add", "Sub", "Mul", "Max", "Min"]);
        let mates: Vec<String> = self.pool.iter().filter(|mate| mate.1 == shape).map(|mate| mate.0.clone()).collect();
        let mate = if choose.coin() {
            choose.of(&mates)
        } else {
            // A constant that broadcasts, over the batch too.
            let dropped = choose.below(shape.len() + 1);
            let sizes: Vec<usize> =
                shape.iter().skip(dropped).map(|size| if choose.coin() { 1 } else { *size }).collect();
            self.weights(&sizes, 1)
        };
        if choose.coin() { self.node(op, &[&mate, x], &[]) } else { self.node(op, &[x, &mate], &[]) }
    }

    fn dense(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let (inputs, outputs) = (*shape.last()?, 1 + choose.below(9));
        let mut made = shape.to_vec();
        *made.last_mut()? = outputs;
        if choose.coin() {
            // Rows become part of a longer dimension.
            let flat = self.reshaped(x, &[-1, inputs as i64]);
            let w = self.weights(&[outputs, inputs], inputs);
            let b = self.weights(&[outputs], 1);
            let y = self.node("Gemm", &[&flat, &w, &b], &[("transB", Attr::Int(1))]);
            let sizes: Vec<i64> = std::iter::once(-1).chain(ints(&made)).collect();
            return Some((self.reshaped(&y, &sizes), made));
        }
        let w = self.weights(&[inputs, outputs], inputs);
        Some((self.node("MatMul", &[x, &w], &[]), made))
    }

    /// `x x^T / k`: a product of two values.
    fn square(&mut self, x: &str, shape: &[usize]) -> Option<Tensor> {
        let [.., m, _] = shape[..] else { return None };
        let rank = shape.len();
        let mut perm: Vec<i64> = (0..=rank as i64).collect();
        perm.swap(rank - 1, rank);
        let x = self.node("Tanh", &[x], &[]);
        let y = self.transposed(&x, &perm);
        let mut made = shape.to_vec();
        made[rank - 1] = m;
        Some((self.node("MatMul", &[&x, &y], &[]), made))
    }

    /// Heads that are part of the batch.
    fn attention(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let [tokens, width] = shape[..] else { return None };
        let divisors: Vec<usize> = (1..=width).filter(|count| width.is_multiple_of(*count)).collect();
        let heads = choose.of(&divisors);
        let [tokens, size, heads] = [tokens, width / heads, heads].map(|size| size as i64);
        let mut parts = Vec::new();
        for _ in 0..3 {
            let w = self.weights(&[width, width], width);
            let y = self.node("MatMul", &[x, &w], &[]);
            let y = self.reshaped(&y, &[0, tokens, heads, size]);
            let y = self.transposed(&y, &[0, 2, 1, 3]);
            parts.push(self.reshaped(&y, &[-1, tokens, size]));
        }
        let keys = self.transposed(&parts[1], &[0, 2, 1]);
        let scores = self.node("MatMul", &[&parts[0], &keys], &[]);
        let scores = self.node("Softmax", &[&scores], &[("axis", Attr::Int(-1))]);
        let y = self.node("MatMul", &[&scores, &parts[2]], &[]);
        let y = self.reshaped(&y, &[-1, heads, tokens, size]);
        let y = self.transposed(&y, &[0, 2, 1, 3]);
        Some((self.reshaped(&y, &[-1, tokens, width as i64]), shape.to_vec()))
    }

    fn convolution(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let (&channels, sizes) = shape.split_first().filter(|(_, sizes)| !sizes.is_empty())?;
        let divisors: Vec<usize> = (1..=channels).filter(|count| channels % count == 0).collect();
        let groups = choose.of(&divisors);
        let filters = groups * (1 + choose.below(5));
        let (mut made, mut taps) = (vec![filters], Vec::new());
        let (mut strides, mut dilations, mut before, mut after) = (vec![], vec![], vec![], vec![]);
        for &size in sizes {
            let (width, dilation, stride) = (1 + choose.below(4), 1 + choose.below(3), 1 + choose.below(3));
            let reach = dilation * (width - 1);
            let pads = choose.of(&[(0, 0), (0, 0), (reach, 0), (reach / 2, reach - reach / 2), (1, 2), (0, 5)]);
            made.push(((size + pads.0 + pads.1).checked_sub(reach + 1)?) / stride + 1);
            taps.push(width);
            strides.push(stride as i64);
            dilations.push(dilation as i64);
            before.push(pads.0 as i64);
            after.push(pads.1 as i64);
        }
        let pads = [before, after].concat();
        let per_group = channels / groups;
        let sizes = [&[filters, per_group][..], &taps].concat();
        let w = self.weights(&sizes, per_group * taps.iter().product::<usize>());
        let b = self.weights(&[filters], 1);
        let attributes = [
            ("dilations", Attr::Ints(&dilations)),
            ("group", Attr::Int(groups as i64)),
            ("pads", Attr::Ints(&pads)),
            ("strides", Attr::Ints(&strides)),
        ];
        let inputs = [x, &w, &b];
        let inputs = if choose.coin() { &inputs[..] } else { &inputs[..2] };
        Some((self.node("Conv", inputs, &attributes), made))
    }

    fn recurrent(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let [steps, features] = shape[..] else { return None };
        let states: Vec<Tensor> = self.pool.iter().filter(|(_, shape)| shape.len() == 1).cloned().collect();
        let state = if choose.coin() && !states.is_empty() { Some(choose.of(&states)) } else { None };
        let hidden = state.as_ref().map_or_else(|| 1 + choose.below(8), |(_, shape)| shape[0]).min(16);
        let state = state.filter(|(_, shape)| shape[0] == hidden);
        let (op, gates) = choose.of(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
        let direction = choose.of(&["forward", "reverse", "bidirectional"]);
        let directions = if direction == "bidirectional" { 2 } else { 1 };
        let w = self.weights(&[directions, gates * hidden, features], features);
        let r = self.weights(&[directions, gates * hidden, hidden], hidden);
        let b = if choose.coin() { self.weights(&[directions, 2 * gates * hidden], 1) } else { String::new() };
        let is_batch_first = choose.below(3) == 0;
        let state = state.map(|(state, _)| {
            let axis = self.ints(&[i64::from(is_batch_first)]);
            let state = self.node("Unsqueeze", &[&state, &axis], &[]);
            let axis = i64::from(is_batch_first);
            let copies = vec![state.as_str(); directions];
            self.node("Concat", &copies, &[("axis", Attr::Int(axis))])
        });
        let mut attributes = vec![
            ("direction", Attr::Text(direction)),
            ("hidden_size", Attr::Int(hidden as i64)),
            ("layout", Attr::Int(i64::from(is_batch_first))),
        ];
        if op == "GRU" {
            attributes.push(("linear_before_reset", Attr::Int(choose.below(2) as i64)));
        }
        let x = if is_batch_first { x.to_owned() } else { self.transposed(x, &[1, 0, 2]) };
        let inputs = [x, w, r, b, String::new(), state.unwrap_or_default()];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let y = self.nodes(op, &inputs, if op == "LSTM" { 3 } else { 2 }, &attributes);
        let width = directions * hidden;
        if choose.coin() {
            let all = if is_batch_first { y[0].clone() } else { self.transposed(&y[0], &[2, 0, 1, 3]) };
            return Some((self.reshaped(&all, &[0, steps as i64, width as i64]), vec![steps, width]));
        }
        let last = if op == "LSTM" && choose.coin() { &y[2] } else { &y[1] };
        let last = if is_batch_first { last.clone() } else { self.transposed(last, &[1, 0, 2]) };
        Some((self.reshaped(&last, &[-1, width as i64]), vec![width]))
    }

    /// Normalisation along the last dimension as means, squares and roots.
    fn written_norm(&mut self, x: &str, axis: i64) -> String {
        let axes = [axis];
        let mean = self.node("ReduceMean", &[x], &[("axes", Attr::Ints(&axes))]);
        let centered = self.node("Sub", &[x, &mean], &[]);
        let squares = self.node("Mul", &[&centered, &centered], &[]);
        let variance = self.node("ReduceMean", &[&squares], &[("axes", Attr::Ints(&axes))]);
        let epsilon = self.name();
        self.edit(|model| model.constant(&epsilon, &[], &Data::F32(vec![0.1])));
        let sum = self.node("Add", &[&variance, &epsilon], &[]);
        let root = self.node("Sqrt", &[&sum], &[]);
        self.node("Div", &[&centered, &root], &[])
    }

    fn reduction(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let rank = shape.len();
        let order = choose.order(rank);
        let axes = &order[..(1 + choose.below(2)).min(rank)];
        let keeps = choose.coin();
        let op = choose.of(&["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceLogSumExp"]);
        if axes.is_empty() {
            return None;
        }
        let at: Vec<i64> =
            axes.iter().map(|axis| if choose.coin() { *axis as i64 + 1 } else { *axis as i64 - rank as i64 }).collect();
        let keepdims = ("keepdims", Attr::Int(i64::from(keeps)));
        let name = if op == "ReduceSum" {
            let axes = self.ints(&at);
            self.node(op, &[x, &axes], &[keepdims])
        } else {
            self.node(op, &[x], &[("axes", Attr::Ints(&at)), keepdims])
        };
        let sizes = shape.iter().enumerate();
        let made = sizes.filter_map(|(axis, size)| match axes.contains(&axis) {
            true => keeps.then_some(1),
            false => Some(*size),
        });
        Some((name, made.collect()))
    }

    fn reshape(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let count: usize = shape.iter().product();
        let divisors: Vec<usize> = (1..=count).filter(|size| count.is_multiple_of(*size)).collect();
        let first = choose.of(&divisors);
        let rest = count / first;
        let made = match choose.below(4) {
            0 => vec![count],
            1 => vec![first, rest],
            2 => vec![first, 1, rest],
            _ => {
                let divisors: Vec<usize> = (1..=rest).filter(|size| rest.is_multiple_of(*size)).collect();
                let second = choose.of(&divisors);
                vec![first, second, rest / second]
            }
        };
        let batch = if choose.coin() { 0 } else { -1 };
        let sizes: Vec<i64> = std::iter::once(batch).chain(ints(&made)).collect();
        Some((self.reshaped(x, &sizes), made))
    }

    fn slice(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let mut made = shape.to_vec();
        let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
        for axis in choose.order(shape.len()).into_iter().take(1 + choose.below(2)) {
            let size = shape[axis];
            let start = choose.below(size);
            let end = start + 1 + choose.below(size - start);
            let step = 1 + choose.below(3);
            made[axis] = (end - start).div_ceil(step);
            if choose.coin() {
                starts.push(end as i64 - 1);
                ends.push(if start == 0 { i64::MIN } else { start as i64 - 1 });
                steps.push(-(step as i64));
            } else {
                starts.push(start as i64);
                ends.push(if end == size { i64::MAX } else { end as i64 });
                steps.push(step as i64);
            }
            axes.push(axis as i64 + 1);
        }
        let inputs = [x.to_owned(), self.ints(&starts), self.ints(&ends), self.ints(&axes), self.ints(&steps)];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Some((self.node("Slice", &inputs, &[]), made))
    }

    fn concat(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let axis = choose.below(shape.len());
        let fits = |mate: &&Tensor| {
            mate.1.len() == shape.len() && (0..shape.len()).all(|own| own == axis || mate.1[own] == shape[own])
        };
        let mates: Vec<Tensor> = self.pool.iter().filter(fits).cloned().collect();
        let mut parts = vec![(x.to_owned(), shape.to_vec())];
        for _ in 0..=choose.below(2) {
            parts.insert(choose.below(parts.len() + 1), choose.of(&mates));
        }
        let mut made = shape.to_vec();
        made[axis] = parts.iter().map(|part| part.1[axis]).sum();
        let names: Vec<&str> = parts.iter().map(|part| part.0.as_str()).collect();
        Some((self.node("Concat", &names, &[("axis", Attr::Int(axis as i64 + 1))]), made))
    }

    /// Splits and joins in another order.
    fn split(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let axis = choose.below(shape.len());
        let size = shape[axis];
        if size < 2 {
            return None;
        }
        let first = 1 + choose.below(size - 1);
        let sizes = self.ints(&[first as i64, (size - first) as i64]);
        let parts = self.nodes("Split", &[x, &sizes], 2, &[("axis", Attr::Int(axis as i64 + 1))]);
        let mut made = shape.to_vec();
        if choose.coin() {
            let joined = [parts[1].as_str(), &parts[0]];
            return Some((self.node("Concat", &joined, &[("axis", Attr::Int(axis as i64 + 1))]), made));
        }
        made[axis] = size - first;
        Some((parts[1].clone(), made))
    }

    fn pad(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let (mut before, mut after, mut made) = (vec![0], vec![0], shape.to_vec());
        for size in &mut made {
            let pads = choose.of(&[(0, 0), (1, 0), (0, 2), (2, 3)]);
            before.push(pads.0);
            after.push(pads.1);
            *size += (pads.0 + pads.1) as usize;
        }
        let pads = self.ints(&[before, after].concat());
        if choose.coin() {
            let fill = self.weights(&[], 1);
            return Some((self.node("Pad", &[x, &pads, &fill], &[]), made));
        }
        Some((self.node("Pad", &[x, &pads], &[]), made))
    }

    fn gather(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let axis = choose.below(shape.len());
        let size = shape[axis];
        let mut made = shape.to_vec();
        let place = |choose: &mut Choices| {
            let place = choose.below(size) as i64;
            if choose.coin() { place - size as i64 } else { place }
        };
        let indices = if choose.coin() {
            let (name, index) = (self.name(), place(choose));
            self.edit(|model| model.constant(&name, &[], &Data::I64(vec![index])));
            made.remove(axis);
            name
        } else {
            let places: Vec<i64> = (0..1 + choose.below(4)).map(|_| place(choose)).collect();
            made[axis] = places.len();
            self.ints(&places)
        };
        Some((self.node("Gather", &[x, &indices], &[("axis", Attr::Int(axis as i64 + 1))]), made))
    }

    fn pool(&mut self, x: &str, shape: &[usize], choose: &mut Choices) -> Option<Tensor> {
        let (&channels, sizes) = shape.split_first().filter(|(_, sizes)| !sizes.is_empty())?;
        let op = choose.of(&["MaxPool", "AveragePool"]);
        let (mut made, mut taps, mut strides, mut before) = (vec![channels], vec![], vec![], vec![]);
        let mut after = vec![];
        for &size in sizes {
            let (width, stride) = (1 + choose.below(3), 1 + choose.below(3));
            let pads = choose.of(&[(0, 0), (width - 1, 0), (0, width - 1)]);
            made.push((size + pads.0 + pads.1).checked_sub(width)? / stride + 1);
            taps.push(width as i64);
            strides.push(stride as i64);
            before.push(pads.0 as i64);
            after.push(pads.1 as i64);
        }
        let pads = [before, after].concat();
        let attributes =
            [("kernel_shape", Attr::Ints(&taps)), ("strides", Attr::Ints(&strides)), ("pads", Attr::Ints(&pads))];
        Some((self.node(op, &[x], &attributes), made))
    }
}

fn floats(data: &Data) -> Vec<f32> {
    match data {
        Data::F32(data) => data.clone(),
        other => panic!("{other:?}"),
    }
}

/// What the rows of some inputs give.
struct Expected {
    given: Vec<Vec<f32>>,
    /// Of each row, its outputs.
    rows: Vec<Vec<Vec<f32>>>,
}

impl Expected {
    /// By the graph of one row.
    fn new(onnx: &[u8], inputs: &[Vec<usize>], seed: u64) -> Result<Self, TestCaseError> {
        let imported = import::import(onnx, &Options::default()).map_err(|error| fail(&error))?;
        let graph = &imported.graphs.last().ok_or_else(|| fail(&"no graph"))?.1;
        let sizes = inputs.iter().map(|shape| shape.iter().product::<usize>());
        let given: Vec<Vec<f32>> =
            sizes.zip(1..).map(|(size, index)| numbers(size * MAX_ROWS, seed * 10 + index)).collect();
        let row = |row: usize| {
            let part = |x: &Vec<f32>| Data::F32(x[row * (x.len() / MAX_ROWS)..][..x.len() / MAX_ROWS].to_vec());
            eval::graph(graph, &given.iter().map(part).collect::<Vec<_>>()).iter().map(floats).collect()
        };
        Ok(Self { rows: (0..MAX_ROWS).map(row).collect(), given })
    }

    /// Runs some rows by themselves, and in a block: the bits are the same.
    fn check_bits(&self, module: &mut Running, rows: usize) -> Result<(), TestCaseError> {
        let mut outputs = |from: usize, count: usize| {
            let part =
                |x: &Vec<f32>| Data::F32(x[from * (x.len() / MAX_ROWS)..][..count * (x.len() / MAX_ROWS)].to_vec());
            module.run(count, &self.given.iter().map(part).collect::<Vec<_>>())
        };
        let single: Vec<Vec<Data>> = (0..rows).map(|row| outputs(row, 1)).collect();
        for (output, block) in outputs(0, rows).into_iter().enumerate() {
            let single: Vec<u8> = single.iter().flat_map(|row| row[output].to_bytes()).collect();
            prop_assert!(block.to_bytes() == single, "output {}: other bits in a block", output);
        }
        Ok(())
    }

    /// Runs some rows; `batch` is what the module calls rows.
    fn check(&self, module: &mut Running, rows: usize, batch: usize) -> Result<(), TestCaseError> {
        let parts = self.given.iter().map(|x| Data::F32(x[..rows * (x.len() / MAX_ROWS)].to_vec()));
        let outputs = module.run(batch, &parts.collect::<Vec<_>>());
        for (output, actual) in outputs.iter().enumerate() {
            let (actual, expected) = (floats(actual), self.rows[..rows].iter().flat_map(|row| row[output].clone()));
            let expected: Vec<f32> = expected.collect();
            prop_assert_eq!(actual.len(), expected.len());
            let scale = expected.iter().fold(0.1f32, |scale, x| scale.max(x.abs()));
            for (place, (a, e)) in actual.iter().zip(&expected).enumerate() {
                let is_close = (a - e).abs() <= 2e-4 * scale;
                prop_assert!(is_close, "{} rows, output {}, {}: {} for {} of {}", rows, output, place, a, e, scale);
            }
        }
        Ok(())
    }
}

fn fail(reason: &impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(reason.to_string())
}

fn compiled(onnx: &[u8], variant: Variant) -> Result<Running, TestCaseError> {
    let options = Options { max_rows: MAX_ROWS, variant, ..Options::default() };
    Ok(Running::new(&crate::compile(onnx, &options).map_err(|error| fail(&error))?.wasm))
}

/// Blocks and single rows of a model with an open batch.
fn check(onnx: &[u8], inputs: &[Vec<usize>], seed: u64) -> Result<Expected, TestCaseError> {
    let expected = Expected::new(onnx, inputs, seed)?;
    let variant = if seed.is_multiple_of(2) { Variant::Simd128 } else { Variant::RelaxedSimd };
    let mut module = compiled(onnx, variant)?;
    for rows in [1, 4, MAX_ROWS] {
        expected.check(&mut module, rows, rows)?;
    }
    expected.check_bits(&mut module, 4)?;
    Ok(expected)
}

fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn modules_compute_what_the_imported_graph_does(recipe in recipe(), seed in 0_u64..1000) {
        let expected = check(&write(&recipe, None), &recipe.inputs, seed)?;
        // A fixed batch, whose rows may lie anywhere.
        let rows = 2 + seed as usize % 3;
        expected.check(&mut compiled(&write(&recipe, Some(rows)), Variant::Simd128)?, rows, 1)?;
    }
}

#[test]
fn a_convolution_reads_one_position_of_a_softmax() {
    let (weights, bias) = (numbers(5, 1), numbers(5, 2));
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[None, Some(1), Some(2)])
        .constant("w", &[5, 1, 1], &Data::F32(weights.clone()))
        .constant("b", &[5], &Data::F32(bias.clone()))
        .node("Softmax", &["x"], &["s"], &[("axis", Attr::Int(2))])
        .node("Conv", &["s", "w", "b"], &["y"], &[("dilations", Attr::Ints(&[3])), ("strides", Attr::Ints(&[2]))])
        .output("y");
    let expected = check(&model.bytes(), &[vec![1, 2]], 0).expect("the same");
    for (x, row) in expected.given[0].chunks(2).zip(&expected.rows) {
        let first = 1.0 / (1.0 + (x[1] - x[0]).exp());
        let by_hand: Vec<f32> = weights.iter().zip(&bias).map(|(w, b)| w * first + b).collect();
        crate::testkit::assert_close(&row[0], &by_hand, 1e-5);
    }
}

#[test]
fn a_recurrent_layer_has_as_many_steps_as_states() {
    for axis in [1, 2] {
        let model = OnnxModel::new(17)
            .input("x", DType::F32, &[None, Some(7), Some(3)])
            .constant("w", &[1, 21, 3], &Data::F32(numbers(63, 1)))
            .constant("r", &[1, 21, 7], &Data::F32(numbers(147, 2)))
            .constant("b", &[1, 42], &Data::F32(numbers(42, 3)))
            .constant("sizes", &[2], &Data::I64(vec![-1, 7]))
            .node("Softmax", &["x"], &["s"], &[("axis", Attr::Int(axis))])
            .node("Transpose", &["s"], &["t"], &[("perm", Attr::Ints(&[1, 0, 2]))])
            .node("GRU", &["t", "w", "r", "b"], &["", "last"], &[("hidden_size", Attr::Int(7))])
            .node("Transpose", &["last"], &["l"], &[("perm", Attr::Ints(&[1, 0, 2]))])
            .node("Reshape", &["l", "sizes"], &["y"], &[])
            .output("y")
            .output("s");
        check(&model.bytes(), &[vec![7, 3]], 0).expect("the same");
    }
}
