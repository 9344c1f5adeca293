//! Compares the graph of a block of rows with that of a single row: the number of rows is a shape, never a number that is read.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::Arc;

use crate::error::{CompileError, Result};
use crate::ir::{Data, Expr, Graph, Node, Op, Operand, Scalar};

/// Checks that both graphs compute the same of each row.
///
/// # Errors
/// Names the node that reads the number of rows, or the input or output that is not as large as it should be.
pub(super) fn check(single: &Graph, block: &Graph, rows: usize) -> Result<()> {
    let inputs = single.inputs.iter().zip(&block.inputs).map(|(one, many)| ("input", *one, *many));
    let outputs = single.outputs.iter().zip(&block.outputs).map(|(one, many)| ("output", one.1, many.1));
    for (what, one, many) in inputs.chain(outputs) {
        let (one, many) = (single.value(one), block.value(many));
        let expected = [&[rows], one.shape.get(1..).unwrap_or_default()].concat();
        if many.shape != expected || one.dtype != many.dtype {
            return Err(CompileError::model(format!(
                "{what} `{}` has shape {:?} for {rows} rows, expected {expected:?}: the number of rows as its first dimension alone",
                many.name, many.shape
            )));
        }
    }
    let mut depends = vec![false; block.values.len()];
    block.inputs.iter().for_each(|id| depends[id.0] = true);
    for node in &block.nodes {
        let any = node.inputs.iter().any(|input| depends[input.value.0]);
        node.outputs.iter().flatten().for_each(|output| depends[output.0] = any);
    }
    let (ones, many) = (computing(single), computing(block));
    let differ = |node: &Node| {
        let reason = "the number of rows reaches the numbers of this node, expected numbers that do not depend on it";
        CompileError::node(&node.name, reason)
    };
    for (one, many) in ones.iter().zip(&many) {
        if !is_same(single, one, block, many, rows, &depends) {
            return Err(differ(many));
        }
    }
    match ones.get(many.len()).or_else(|| many.get(ones.len())) {
        Some(node) => Err(differ(node)),
        None => Ok(()),
    }
}

/// The nodes but for copies of what is computed: whether a view is enough depends on the number of rows.
fn computing(graph: &Graph) -> Vec<&Node> {
    let is_constant = |operand: &Operand| graph.value(operand.value).data.is_some();
    let is_copy = |node: &Node| node.op == Op::Map(Expr::Input(0)) && !is_constant(&node.inputs[0]);
    graph.nodes.iter().filter(|node| !is_copy(node)).collect()
}

fn is_same(single: &Graph, one: &Node, block: &Graph, many: &Node, rows: usize, depends: &[bool]) -> bool {
    let is_map = match (&one.op, &many.op) {
        (Op::Map(a), Op::Map(b)) if form(a) == form(b) => true,
        (Op::Map(_), _) | (_, Op::Map(_)) => return false,
        // What they hold are attributes, which do not depend on rows; a single row may lack the dimension of rows.
        (Op::Trees(_), Op::Trees(_))
        | (Op::Gather { .. }, Op::Gather { .. })
        | (Op::Concat { .. }, Op::Concat { .. }) => false,
        (a, b) if discriminant(a) == discriminant(b) && a == b => false,
        _ => return false,
    };
    let outputs = one.outputs.iter().zip(&many.outputs).all(|(one, many)| match (one, many) {
        (Some(one), Some(many)) => {
            let (len, is_row) = (single.value(*one).len(), depends[many.0]);
            let found = block.value(*many).len();
            found == len * rows || (found == len && !is_row)
        }
        (one, many) => one.is_none() && many.is_none(),
    });
    let computed = |graph: &Graph, node: &Node| -> Vec<Operand> {
        node.inputs.iter().filter(|input| graph.value(input.value).data.is_none()).cloned().collect()
    };
    let (a, b) = (computed(single, one), computed(block, many));
    let views = a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| {
            let (of_a, of_b) = (&single.value(a.value).shape, &block.value(b.value).shape);
            // Where the rows come first, the first of them lies where the single row lies.
            let rows_first = of_a.first() == Some(&1) && of_b.first() == Some(&rows) && of_a[1..] == of_b[1..];
            let is_row = depends[b.value.0];
            (b.len() == a.len() * rows || (b.len() == a.len() && !is_row)) && (!rows_first || a.offset == b.offset)
        });
    outputs && views && same_constants(single, one, block, many, is_map)
}

/// A view of a constant without what repeats, and its numbers.
type Constant<'a> = (Operand, &'a Arc<Data>);

/// Whether two nodes read the same constants, but for repetition. Those of an element by element expression may lie in another
/// order, and may be part of the expression.
fn same_constants(single: &Graph, one: &Node, block: &Graph, many: &Node, is_map: bool) -> bool {
    fn constants<'a>(graph: &'a Graph, node: &'a Node) -> Vec<Constant<'a>> {
        let once = |input: &Operand| {
            let mut view = input.clone();
            let repeated = view.shape.iter_mut().zip(&view.strides).filter(|(size, step)| **size > 1 && **step == 0);
            repeated.for_each(|(size, _)| *size = 1);
            view
        };
        let data = |input: &Operand| graph.value(input.value).data.as_ref().map(|data| (once(input), data));
        node.inputs.iter().filter_map(data).collect()
    }
    let (a, b) = (constants(single, one), constants(block, many));
    let is_equal = |(a, b): (&Constant<'_>, &Constant<'_>)| {
        let same_view = (a.0.offset, &a.0.shape, &a.0.strides) == (b.0.offset, &b.0.shape, &b.0.strides);
        (same_view && Arc::ptr_eq(a.1, b.1)) || (a.0.shape == b.0.shape && read(&a.0, a.1) == read(&b.0, b.1))
    };
    let numbers = |(view, data): &Constant<'_>| -> BTreeSet<u64> { read(view, data).into_iter().collect() };
    if !is_map {
        let repeats = |(a, b): (&Constant<'_>, &Constant<'_>)| {
            is_equal((a, b)) || (a.0.shape != b.0.shape && numbers(a) == numbers(b))
        };
        return a.len() == b.len() && a.iter().zip(&b).all(repeats);
    }
    if a.len() == b.len() && in_expression(one) == in_expression(many) && a.iter().zip(&b).all(is_equal) {
        return true;
    }
    let all = |node: &Node, operands: &[Constant<'_>]| -> BTreeSet<u64> {
        operands.iter().flat_map(numbers).chain(in_expression(node)).collect()
    };
    all(one, &a) == all(many, &b)
}

/// The elements of a view, as bits.
fn read(view: &Operand, data: &Data) -> Vec<u64> {
    bits(&data.pick(view.positions()))
}

fn bits(data: &Data) -> Vec<u64> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    data.to_bytes().chunks(data.dtype().size()).map(number).collect()
}

/// An expression without its numbers and places of inputs.
fn form(expr: &Expr) -> Expr {
    expr.map_leaves(&mut |_| Expr::Result)
}

/// The numbers of an expression, as bits.
fn in_expression(node: &Node) -> Vec<u64> {
    let mut numbers = Vec::new();
    if let Op::Map(expr) = &node.op {
        let _ = expr.map_leaves(&mut |leaf| {
            if let Expr::Const(number) = leaf {
                numbers.extend(bits(&match *number {
                    Scalar::F32(x) => Data::F32(vec![x]),
                    Scalar::F64(x) => Data::F64(vec![x]),
                    Scalar::I32(x) => Data::I32(vec![x]),
                    Scalar::I64(x) => Data::I64(vec![x]),
                    Scalar::Bool(x) => Data::Bool(vec![x]),
                }));
            }
            leaf.clone()
        });
    }
    numbers
}
