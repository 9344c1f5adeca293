//! Random graphs: a list of steps, each of which adds nodes to what is there. Any list gives a valid graph, so that a list that
//! fails shrinks to a short one.

use moola_onnx::writer::{Attribute, Dim, Direction, GraphBuilder, Value};
use proptest::prelude::*;

/// A step, by numbers that are taken modulo what there is to choose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    kind: u8,
    from: u8,
    choice: u32,
}

/// What a graph is made of.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) rows: usize,
    /// Shapes of the inputs without the batch.
    pub(crate) inputs: Vec<Vec<usize>>,
    steps: Vec<Step>,
    has_second_output: bool,
}

pub(crate) fn recipe() -> impl Strategy<Value = Recipe> {
    let step = (any::<u8>(), any::<u8>(), any::<u32>()).prop_map(|(kind, from, choice)| Step { kind, from, choice });
    let shape = proptest::collection::vec(1_usize..9, 1..4);
    let inputs = proptest::collection::vec(shape, 1..3);
    (1_usize..10, inputs, proptest::collection::vec(step, 1..10), any::<bool>())
        .prop_map(|(rows, inputs, steps, has_second_output)| Recipe { rows, inputs, steps, has_second_output })
}

/// Largest number of elements of a row.
const MAX_ELEMENTS: usize = 4096;

/// A value with its shape without the batch.
#[derive(Debug, Clone)]
struct Tensor {
    value: Value,
    shape: Vec<usize>,
}

impl Tensor {
    fn rank(&self) -> usize {
        self.shape.len()
    }

    fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// Digits of a number in mixed radix: choices.
struct Choices(u32);

impl Choices {
    fn below(&mut self, count: usize) -> usize {
        let count = u32::try_from(count.max(1)).unwrap_or(1);
        let digit = self.0 % count;
        self.0 /= count;
        digit as usize
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

struct Generator {
    graph: GraphBuilder,
    pool: Vec<Tensor>,
    constants: u64,
}

/// Writes the graph.
pub(crate) fn write(recipe: &Recipe) -> Vec<u8> {
    let mut generator = Generator { graph: GraphBuilder::new("random"), pool: Vec::new(), constants: 0 };
    for (index, shape) in recipe.inputs.iter().enumerate() {
        let value = generator.graph.input(&format!("x{index}"), &dims(shape));
        generator.pool.push(Tensor { value, shape: shape.clone() });
    }
    for step in &recipe.steps {
        let from = generator.pool[usize::from(step.from) % generator.pool.len()].clone();
        if let Some(made) = generator.step(step.kind, &from, &mut Choices(step.choice))
            && made.shape.iter().product::<usize>() <= MAX_ELEMENTS
        {
            generator.pool.push(made);
        }
    }
    let Generator { mut graph, pool, .. } = generator;
    let last = pool.len() - 1;
    graph.output(pool[last].value, "y", &dims(&pool[last].shape));
    // An output twice would be two nodes of one name.
    if recipe.has_second_output && last > recipe.inputs.len() {
        let middle = &pool[(recipe.inputs.len() + last) / 2];
        if middle.value != pool[last].value {
            graph.output(middle.value, "z", &dims(&middle.shape));
        }
    }
    graph.finish().expect("a graph")
}

fn dims(shape: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch).chain(shape.iter().map(|size| Dim::Fixed(*size))).collect()
}

impl Generator {
    fn weight(&mut self, shape: &[usize], limit: f32) -> Value {
        self.constants += 1;
        let data = moola_tests::models::random(self.constants, shape.iter().product(), limit);
        self.graph.initializer_f32(&format!("w{}", self.constants), shape, &data)
    }

    fn ints(&mut self, numbers: &[i64]) -> Value {
        self.constants += 1;
        self.graph.initializer_i64(&format!("i{}", self.constants), &[numbers.len()], numbers)
    }

    fn one(&mut self, op: &str, inputs: &[Value], attributes: &[(&str, Attribute)]) -> Value {
        self.graph.node(op, inputs, 1, attributes)[0]
    }

    /// Appends an operator; `None` where it does not fit the shape.
    fn step(&mut self, kind: u8, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let (x, shape) = (from.value, from.shape.clone());
        let same = |value| Some(Tensor { value, shape: from.shape.clone() });
        match kind % 20 {
            0 | 1 => same(self.unary(x, choose)),
            2 | 3 => self.binary(from, choose),
            4 => self.dense(from, choose),
            5 => self.square(from),
            6 => self.convolution(from, choose),
            7 | 8 => self.recurrent(from, choose),
            9 => {
                let axis = 1 + choose.below(from.rank()) as i64;
                if from.rank() == 0 {
                    return None;
                }
                // tract moves the steps of a later Slice or Conv before a Softmax along the same axis, which changes its sums. Not where
                // there is a second reader.
                let softmax = self.graph.softmax(x, axis);
                let axes = self.ints(&[axis]);
                let sum = self.one("ReduceSum", &[softmax, axes], &[]);
                same(self.one("Mul", &[softmax, sum], &[]))
            }
            10 => {
                let last = *shape.last()?;
                let (scale, shift) = (self.weight(&[last], 1.0), self.weight(&[last], 1.0));
                // A small epsilon would blow up the rounding of rows that are all equal.
                same(self.graph.layer_norm(x, scale, shift, 0.1))
            }
            11 => self.reduction(from, choose),
            12 => self.transpose(from, choose),
            13 => self.reshape(from, choose),
            14 => self.slice(from, choose),
            15 => self.concat(from, choose),
            16 => self.split(from, choose),
            17 => self.pad(from, choose),
            18 => self.gather(from, choose),
            _ => self.choice(from, choose),
        }
    }

    fn unary(&mut self, x: Value, choose: &mut Choices) -> Value {
        let op = choose.of(&[
            "Relu",
            "Tanh",
            "Sigmoid",
            "Neg",
            "Abs",
            "Erf",
            "Softplus",
            "Softsign",
            "Elu",
            "Selu",
            "LeakyRelu",
            "HardSigmoid",
            "HardSwish",
            "Exp",
            "Sqrt",
            "Log",
            "Reciprocal",
            "Clip",
            "Identity",
            "Celu",
        ]);
        match op {
            // Of numbers that stay small and away from poles.
            "Exp" | "Sqrt" | "Log" | "Reciprocal" => {
                let small = self.graph.sigmoid(x);
                let shift = self.weight(&[], 0.1);
                let one = self.graph.initializer_f32(&format!("one{}", self.constants), &[], &[0.5]);
                let away = self.graph.add(one, shift);
                let positive = self.graph.add(small, away);
                self.one(op, &[positive], &[])
            }
            "Clip" => {
                let name = self.constants;
                self.constants += 1;
                let low = self.graph.initializer_f32(&format!("low{name}"), &[], &[-0.5]);
                let high = self.graph.initializer_f32(&format!("high{name}"), &[], &[0.75]);
                self.one("Clip", &[x, low, high], &[])
            }
            _ => self.one(op, &[x], &[]),
        }
    }

    fn binary(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let op = choose.of(&["Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "PRelu"]);
        let mates: Vec<Tensor> = self.pool.iter().filter(|mate| mate.shape == from.shape).cloned().collect();
        let x = self.graph.tanh(from.value);
        if !matches!(op, "Div" | "PRelu") && choose.coin() {
            let mate = &mates[choose.below(mates.len())];
            return Some(Tensor { value: self.one(op, &[x, mate.value], &[]), shape: from.shape.clone() });
        }
        // A constant that broadcasts, over the batch too.
        let dropped = choose.below(from.rank() + 1);
        let shape: Vec<usize> =
            from.shape.iter().skip(dropped).map(|size| if choose.coin() { 1 } else { *size }).collect();
        let mut constant = self.weight(&shape, 1.0);
        if op == "Div" {
            let two = self.weight(&[], 0.1);
            let constant_exp = self.one("Exp", &[constant], &[]);
            let two = self.one("Abs", &[two], &[]);
            constant = self.graph.add(constant_exp, two);
        }
        let inputs = if choose.coin() && op != "PRelu" && op != "Div" { [constant, x] } else { [x, constant] };
        Some(Tensor { value: self.one(op, &inputs, &[]), shape: from.shape.clone() })
    }

    fn dense(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let inputs = *from.shape.last()?;
        let outputs = 1 + choose.below(17);
        let limit = 1.0 / (inputs as f32).sqrt();
        let mut shape = from.shape.clone();
        *shape.last_mut()? = outputs;
        let value = if from.rank() == 1 && choose.coin() {
            let transposed = choose.coin();
            let sizes = if transposed { [outputs, inputs] } else { [inputs, outputs] };
            let (w, b) = (self.weight(&sizes, limit), self.weight(&[outputs], 1.0));
            self.graph.gemm(from.value, w, choose.coin().then_some(b), transposed)
        } else {
            let w = self.weight(&[inputs, outputs], limit);
            self.graph.matmul(from.value, w)
        };
        Some(Tensor { value, shape })
    }

    /// `x xᵀ`: a product of two values.
    fn square(&mut self, from: &Tensor) -> Option<Tensor> {
        let rank = from.rank();
        if rank < 2 {
            return None;
        }
        let x = self.graph.tanh(from.value);
        let mut perm: Vec<i64> = (0..=rank as i64).collect();
        perm.swap(rank - 1, rank);
        let transposed = self.graph.transpose(x, &perm);
        let mut shape = from.shape.clone();
        shape[rank - 1] = shape[rank - 2];
        Some(Tensor { value: self.graph.matmul(x, transposed), shape })
    }

    fn convolution(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let [channels, steps] = from.shape[..] else { return None };
        let (width, dilation, stride) = (1 + choose.below(4), 1 + choose.below(3), 1 + choose.below(2));
        let reach = dilation * (width - 1);
        let pads = [(0, 0), (reach, 0), (reach / 2, reach - reach / 2), (1, 2)][choose.below(4)];
        let groups = if choose.coin() { channels } else { 1 };
        let filters = groups * (1 + choose.below(5));
        let padded = steps + pads.0 + pads.1;
        if padded <= reach {
            return None;
        }
        let limit = 1.0 / ((channels / groups * width) as f32).sqrt();
        let (w, b) = (self.weight(&[filters, channels / groups, width], limit), self.weight(&[filters], 1.0));
        let attributes = [
            ("dilations", Attribute::Ints(vec![dilation as i64])),
            ("group", Attribute::Int(groups as i64)),
            ("kernel_shape", Attribute::Ints(vec![width as i64])),
            ("pads", Attribute::Ints(vec![pads.0 as i64, pads.1 as i64])),
            ("strides", Attribute::Ints(vec![stride as i64])),
        ];
        let inputs = if choose.coin() { vec![from.value, w, b] } else { vec![from.value, w] };
        let value = self.one("Conv", &inputs, &attributes);
        Some(Tensor { value, shape: vec![filters, (padded - reach - 1) / stride + 1] })
    }

    fn recurrent(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let [steps, features] = from.shape[..] else { return None };
        let hidden = 1 + choose.below(7);
        let (is_gru, is_both, has_bias) = (choose.coin(), choose.coin(), choose.coin());
        let (gates, directions) = (if is_gru { 3 } else { 4 }, if is_both { 2 } else { 1 });
        let takes_all = choose.coin();
        let limit = 1.0 / (hidden as f32).sqrt();
        let x = self.graph.transpose(from.value, &[1, 0, 2]);
        let w = self.weight(&[directions, gates * hidden, features], limit);
        let r = self.weight(&[directions, gates * hidden, hidden], limit);
        let b = has_bias.then(|| self.weight(&[directions, 2 * gates * hidden], limit));
        let (y, y_h) = if is_gru {
            let attributes = [
                ("direction", Attribute::Str(if is_both { "bidirectional" } else { "forward" }.to_owned())),
                ("hidden_size", Attribute::Int(hidden as i64)),
                ("linear_before_reset", Attribute::Int(choose.below(2) as i64)),
            ];
            let outputs = self.graph.node("GRU", &[x, w, r, b.unwrap_or(Value::NONE)], 2, &attributes);
            (outputs[0], outputs[1])
        } else {
            let direction = if is_both { Direction::Bidirectional } else { Direction::Forward };
            let outputs = self.graph.lstm(x, w, r, b, hidden, direction);
            (outputs.y, outputs.y_h)
        };
        let width = directions * hidden;
        if takes_all {
            let y = self.graph.transpose(y, &[2, 0, 1, 3]);
            let value = self.graph.reshape(y, &[0, steps as i64, width as i64]);
            return Some(Tensor { value, shape: vec![steps, width] });
        }
        let state = self.graph.transpose(y_h, &[1, 0, 2]);
        Some(Tensor { value: self.graph.reshape(state, &[-1, width as i64]), shape: vec![width] })
    }

    fn reduction(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        if from.rank() == 0 {
            return None;
        }
        let axis = choose.below(from.rank());
        let keeps = choose.coin();
        let op = choose.of(&["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"]);
        let x = self.graph.tanh(from.value);
        let at = if choose.coin() { axis as i64 + 1 } else { axis as i64 - from.rank() as i64 };
        let keepdims = ("keepdims", Attribute::Int(i64::from(keeps)));
        let value = if op == "ReduceSum" {
            let axes = self.ints(&[at]);
            self.one(op, &[x, axes], &[keepdims])
        } else {
            self.one(op, &[x], &[("axes", Attribute::Ints(vec![at])), keepdims])
        };
        let mut shape = from.shape.clone();
        if keeps {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
        Some(Tensor { value, shape })
    }

    fn transpose(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let mut left: Vec<usize> = (0..from.rank()).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            order.push(left.remove(choose.below(left.len())));
        }
        let perm: Vec<i64> = std::iter::once(0).chain(order.iter().map(|axis| *axis as i64 + 1)).collect();
        let shape = order.iter().map(|axis| from.shape[*axis]).collect();
        Some(Tensor { value: self.graph.transpose(from.value, &perm), shape })
    }

    fn reshape(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let count: usize = from.shape.iter().product();
        let divisors: Vec<usize> = (1..=count.min(16)).filter(|size| count.is_multiple_of(*size)).collect();
        let first = choose.of(&divisors);
        let shape = match choose.below(4) {
            0 => vec![count],
            1 => vec![first, count / first],
            2 => vec![first, 1, count / first],
            _ => {
                let axis = choose.below(from.rank() + 1);
                let value = self.graph.unsqueeze(from.value, &[axis as i64 + 1]);
                let mut shape = from.shape.clone();
                shape.insert(axis, 1);
                return (shape.len() <= 4).then_some(Tensor { value, shape });
            }
        };
        let batch = if choose.coin() { 0 } else { -1 };
        let sizes: Vec<i64> = std::iter::once(batch).chain(shape.iter().map(|size| *size as i64)).collect();
        Some(Tensor { value: self.graph.reshape(from.value, &sizes), shape })
    }

    fn slice(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        if from.rank() == 0 {
            return None;
        }
        let axis = choose.below(from.rank());
        let size = from.shape[axis];
        let start = choose.below(size);
        let end = start + 1 + choose.below(size - start);
        let step = 1 + choose.below(3);
        let backward = choose.coin();
        let len = (end - start).div_ceil(step);
        let bounds = if backward {
            // From the last down to before the first.
            [end as i64 - 1, if start == 0 { i64::MIN } else { start as i64 - 1 }, -(step as i64)]
        } else {
            [start as i64, if end == size { i64::MAX } else { end as i64 }, step as i64]
        };
        let inputs = [
            from.value,
            self.ints(&bounds[..1]),
            self.ints(&bounds[1..2]),
            self.ints(&[axis as i64 + 1]),
            self.ints(&bounds[2..]),
        ];
        let mut shape = from.shape.clone();
        shape[axis] = len;
        Some(Tensor { value: self.one("Slice", &inputs, &[]), shape })
    }

    fn concat(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        if from.rank() == 0 {
            return None;
        }
        let mates: Vec<Tensor> = self.pool.iter().filter(|mate| mate.shape == from.shape).cloned().collect();
        let mate = &mates[choose.below(mates.len())];
        let axis = choose.below(from.rank());
        let mut shape = from.shape.clone();
        shape[axis] *= 3;
        let tanh = self.graph.tanh(from.value);
        Some(Tensor { value: self.graph.concat(&[from.value, mate.value, tanh], axis as i64 + 1), shape })
    }

    fn split(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        if from.rank() == 0 {
            return None;
        }
        let axis = choose.below(from.rank());
        let size = from.shape[axis];
        if size < 2 {
            return None;
        }
        let first = 1 + choose.below(size - 1);
        let sizes = self.ints(&[first as i64, (size - first) as i64]);
        let at = axis as i64 + 1;
        let parts = self.graph.node("Split", &[from.value, sizes], 2, &[("axis", Attribute::Int(at))]);
        if choose.coin() {
            let mut shape = from.shape.clone();
            shape[axis] = first;
            return Some(Tensor { value: parts[0], shape });
        }
        Some(Tensor { value: self.graph.concat(&[parts[1], parts[0]], at), shape: from.shape.clone() })
    }

    fn pad(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        let rank = from.rank();
        let mode = choose.of(&["constant", "edge", "reflect"]);
        let mut pads = vec![0; 2 * (rank + 1)];
        let mut shape = from.shape.clone();
        for axis in 0..rank {
            let most = if mode == "reflect" { from.shape[axis] - 1 } else { 3 };
            let (before, after) = (choose.below(most.min(2) + 1), choose.below(most.min(2) + 1));
            pads[axis + 1] = before as i64;
            pads[rank + 1 + axis + 1] = after as i64;
            shape[axis] += before + after;
        }
        let pads = self.ints(&pads);
        let value = self.one("Pad", &[from.value, pads], &[("mode", Attribute::Str(mode.to_owned()))]);
        Some(Tensor { value, shape })
    }

    fn gather(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        if from.rank() == 0 {
            return None;
        }
        let axis = choose.below(from.rank());
        let size = from.shape[axis] as i64;
        let mut shape = from.shape.clone();
        if choose.coin() {
            shape.remove(axis);
            let index = choose.below(2 * size as usize) as i64 - size;
            return Some(Tensor { value: self.graph.select(from.value, axis as i64 + 1, index), shape });
        }
        let picked: Vec<i64> =
            (0..1 + choose.below(4)).map(|_| choose.below(2 * size as usize) as i64 - size).collect();
        shape[axis] = picked.len();
        let indices = self.ints(&picked);
        Some(Tensor { value: self.graph.gather(from.value, indices, axis as i64 + 1), shape })
    }

    /// `Where` by a comparison of an input, which has the same bits in every engine; or normalisation by given statistics.
    fn choice(&mut self, from: &Tensor, choose: &mut Choices) -> Option<Tensor> {
        if choose.coin() && from.rank() == 2 {
            let channels = from.shape[0];
            let mut inputs = vec![from.value];
            inputs.extend((0..3).map(|_| self.weight(&[channels], 1.0)));
            let variance = self.weight(&[channels], 1.0);
            inputs.push(self.one("Exp", &[variance], &[]));
            let value = self.one("BatchNormalization", &inputs, &[("epsilon", Attribute::Float(1e-3))]);
            return Some(Tensor { value, shape: from.shape.clone() });
        }
        let input = self.pool[0].clone();
        let limit = self.weight(&[], 1.0);
        let op = choose.of(&["Greater", "Less", "GreaterOrEqual", "LessOrEqual"]);
        let condition = self.one(op, &[input.value, limit], &[]);
        let other = self.weight(&[input.last()], 1.0);
        let x = if input.shape == from.shape { from.value } else { self.graph.tanh(input.value) };
        let value = self.one("Where", &[condition, x, other], &[]);
        Some(Tensor { value, shape: input.shape })
    }
}
