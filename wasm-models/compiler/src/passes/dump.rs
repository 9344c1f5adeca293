//! The IR as text.
//!
//! ```text
//! %5: float32 [4, 3] = relu(matmul(a, b) + c) | a = %0, b = const %1, c = const %2 as [4, 3] by [0, 1]  # dense
//! ```
//!
//! Operands that are no whole values are shown as views: their shape, the element that they begin at, and their strides.

use std::fmt::Write as _;

use crate::ir::{Binary, Data, Expr, Graph, Node, Op, Operand, Packing, Scalar, Trees, Unary};

/// One line per input, node and output.
pub(crate) fn text(graph: &Graph) -> String {
    let mut text = String::new();
    for &input in &graph.inputs {
        let value = graph.value(input);
        let _ = writeln!(text, "{input}: {} {:?} = input `{}`", value.dtype.name(), value.shape, value.name);
    }
    for node in &graph.nodes {
        let outputs = node.outputs.iter().map(|output| match output {
            Some(id) => format!("{id}: {} {:?}", graph.value(*id).dtype.name(), graph.value(*id).shape),
            None => "_".to_owned(),
        });
        let inputs =
            node.inputs.iter().enumerate().map(|(at, input)| format!("{} = {}", leaf(at), operand(graph, input)));
        let (outputs, inputs) = (outputs.collect::<Vec<_>>().join(", "), inputs.collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "{outputs} = {} | {inputs}  # {}", operation(node), node.name);
    }
    for (name, id) in &graph.outputs {
        let _ = writeln!(text, "output `{name}` = {id}");
    }
    text
}

/// The letter of an input.
fn leaf(index: usize) -> String {
    match u8::try_from(index) {
        Ok(small @ 0..26) => char::from(b'a' + small).to_string(),
        _ => format!("i{index}"),
    }
}

fn operand(graph: &Graph, operand: &Operand) -> String {
    let value = graph.value(operand.value);
    let mut text = if value.data.is_some() { format!("const {}", operand.value) } else { operand.value.to_string() };
    if operand.offset == 0 && operand.shape == value.shape && operand.is_contiguous() {
        if let Some(data) = &value.data
            && data.len() == 1
        {
            let _ = write!(text, " ({})", number(data));
        }
        return text;
    }
    let _ = write!(text, " as {:?}", operand.shape);
    if operand.offset != 0 {
        let _ = write!(text, " from {}", operand.offset);
    }
    if !operand.is_contiguous() {
        let _ = write!(text, " by {:?}", operand.strides);
    }
    text
}

fn number(data: &Data) -> String {
    match data {
        Data::F32(x) => format!("{:?}", x[0]),
        Data::F64(x) => format!("{:?}", x[0]),
        Data::I32(x) => x[0].to_string(),
        Data::I64(x) => x[0].to_string(),
        Data::Bool(x) => x[0].to_string(),
        Data::I8(x) => x[0].to_string(),
    }
}

fn operation(node: &Node) -> String {
    let with = |settings: &[(&str, String)], packing: Packing| {
        let mut settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if let Packing::Panels { width } = packing {
            settings.push(format!("panels {width}"));
        }
        if settings.is_empty() { String::new() } else { format!("; {}", settings.join(", ")) }
    };
    match &node.op {
        Op::Map(expr) => expression(expr, "").0,
        Op::MatMul { epilogue, packing } => then(epilogue, &format!("matmul(a, b{})", with(&[], *packing))),
        Op::Conv { stride, dilation, before, groups, epilogue, packing } => {
            let usual =
                [("stride", *stride, 1), ("dilation", *dilation, 1), ("before", *before, 0), ("groups", *groups, 1)];
            let settings = usual.iter().filter(|(_, value, usual)| value != usual);
            let settings: Vec<_> = settings.map(|(name, value, _)| (*name, value.to_string())).collect();
            then(epilogue, &format!("conv(a, b{})", with(&settings, *packing)))
        }
        Op::Recurrent { cell, hidden, reverse, clip, packing } => {
            let mut settings = vec![("hidden", hidden.to_string())];
            if *reverse {
                settings.push(("reverse", String::new()));
            }
            if let Some(clip) = clip {
                settings.push(("clip", clip.to_string()));
            }
            format!("{cell:?}{}", with(&settings, *packing))
        }
        Op::Reduce { kind, axes } => format!("{}(a; last {axes})", format!("{kind:?}").to_lowercase()),
        Op::Softmax { log } => if *log { "log_softmax(a)" } else { "softmax(a)" }.to_owned(),
        Op::Normalize { epsilon } => format!("normalize(a; epsilon {epsilon:?})"),
        Op::Gather { axis } => format!("gather(a, b; axis {axis})"),
        Op::Concat { axis } => format!("concat(axis {axis})"),
        Op::Pad { before, fill } => format!("pad(a; before {before:?}, {})", scalar(*fill)),
        Op::Trees(trees) => {
            let Trees { trees, num_scores, aggregate, .. } = &**trees;
            format!("trees(a; {} trees, {num_scores} scores, {aggregate:?})", trees.len())
        }
    }
}

/// An epilogue behind what it follows.
fn then(epilogue: &Expr, result: &str) -> String {
    if super::editor::uses(epilogue, &Expr::Result) == 1 {
        return expression(epilogue, result).0;
    }
    format!("{} with result = {result}", expression(epilogue, "result").0)
}

fn scalar(number: Scalar) -> String {
    match number {
        Scalar::F32(x) => format!("{x:?}"),
        Scalar::F64(x) => format!("{x:?}f64"),
        Scalar::I32(x) => format!("{x}i32"),
        Scalar::I64(x) => x.to_string(),
        Scalar::Bool(x) => x.to_string(),
    }
}

/// The text of an expression, and how tightly it binds: 0 alone, 1 comparisons, 2 sums, 3 products, 4 always.
fn expression(expr: &Expr, result: &str) -> (String, u8) {
    match expr {
        Expr::Input(index) => (leaf(*index), 4),
        Expr::Result => (result.to_owned(), 4),
        Expr::Const(number) => (scalar(*number), 4),
        Expr::Unary(Unary::Neg, x) => (format!("-{}", within(x, result, 4)), 3),
        Expr::Unary(op, x) => (format!("{}({})", format!("{op:?}").to_lowercase(), expression(x, result).0), 4),
        Expr::Binary(op, a, b) => {
            let (sign, binds) = match op {
                Binary::Add => ("+", 2),
                Binary::Sub => ("-", 2),
                Binary::Mul => ("*", 3),
                Binary::Div => ("/", 3),
                Binary::Equal => ("==", 1),
                Binary::Less => ("<", 1),
                Binary::LessOrEqual => ("<=", 1),
                _ => {
                    let (a, b) = (expression(a, result).0, expression(b, result).0);
                    return (format!("{}({a}, {b})", format!("{op:?}").to_lowercase()), 4);
                }
            };
            (format!("{} {sign} {}", within(a, result, binds), within(b, result, binds + 1)), binds)
        }
        Expr::Select(c, a, b) => {
            let parts = [c, a, b].map(|x| within(x, result, 1));
            (format!("{} ? {} : {}", parts[0], parts[1], parts[2]), 0)
        }
        Expr::Cast(dtype, x) => (format!("{}({})", dtype.name(), expression(x, result).0), 4),
    }
}

fn within(expr: &Expr, result: &str, binds: u8) -> String {
    let (text, own) = expression(expr, result);
    if own < binds { format!("({text})") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Net;
    use super::*;

    #[test]
    fn expressions_are_infix_and_whole_operands_are_short() {
        let mut net = Net::default();
        let x = net.input(&[4, 2]);
        let (w, b) = (net.weights(&[2, 3]), net.weights(&[3]));
        let y = net.matmul(&x, &w);
        let (a, b2) = (Expr::Input(0), Expr::Input(1));
        let sum = Expr::binary(Binary::Add, a.clone(), b2);
        let expr =
            Expr::binary(Binary::Mul, Expr::f32(0.5), Expr::binary(Binary::Sub, Expr::unary(Unary::Tanh, sum), a));
        let y = net.map(expr, &[&y, &b]);
        let graph = net.outputs(&[&y.sliced(0, 1, 2, 2)]);
        let expected = "\
%0: float32 [4, 2] = input `x0`
%3: float32 [4, 3] = matmul(a, b) | a = %0, b = const %1  # node0
%4: float32 [4, 3] = 0.5 * (tanh(a + b) - a) | a = %3, b = const %2 as [4, 3] by [0, 1]  # node1
%5: float32 [2, 3] = a | a = %4 as [2, 3] from 3 by [6, 1]  # node2
output `y0` = %5
";
        assert_eq!(text(&graph), expected);
    }
}
