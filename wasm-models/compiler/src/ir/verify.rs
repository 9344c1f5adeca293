//! Checks that a graph is what kernels expect.

use super::{Cell, DType, Expr, Graph, Node, Op, Operand, Packing, Reduction, Unary, Value, num_elements};
use crate::error::{CompileError, Result};

/// Checks order, shapes, types and views of a graph. `pass` made it.
///
/// # Errors
/// Names the pass and the node: the compiler is wrong, not the model.
pub(crate) fn verify(graph: &Graph, pass: &str) -> Result<()> {
    check(graph, pass).map_err(CompileError::as_fault)
}

fn check(graph: &Graph, pass: &str) -> Result<()> {
    let wrong = |node: &Node, reason: String| CompileError::node(&node.name, format!("after `{pass}`: {reason}"));
    let mut known: Vec<bool> = graph.values.iter().map(|value| value.data.is_some()).collect();
    for value in &graph.values {
        if num_elements(&value.shape).is_none() {
            return Err(CompileError::model(format!("after `{pass}`: value `{}` is too large", value.name)));
        }
        if let Some(data) = &value.data
            && (data.dtype() != value.dtype || data.len() != value.len())
        {
            return Err(CompileError::model(format!("after `{pass}`: constant `{}` has other data", value.name)));
        }
    }
    for id in &graph.inputs {
        if std::mem::replace(&mut known[id.0], true) {
            return Err(CompileError::model(format!("after `{pass}`: input {id} is defined twice")));
        }
    }
    let mut written = vec![false; graph.values.len()];
    for node in &graph.nodes {
        for (index, input) in node.inputs.iter().enumerate() {
            if !known.get(input.value.0).copied().unwrap_or(false) {
                return Err(wrong(node, format!("input {index} reads {} before it is there", input.value)));
            }
            inside(input, graph.value(input.value))
                .map_err(|reason| wrong(node, format!("input {index} of {} {reason}", input.value)))?;
        }
        for output in node.outputs.iter().flatten() {
            if std::mem::replace(&mut known[output.0], true) {
                return Err(wrong(node, format!("{output} is written twice")));
            }
            written[output.0] = true;
        }
        operation(graph, node).map_err(|reason| wrong(node, reason))?;
    }
    for (name, id) in &graph.outputs {
        if !written.get(id.0).copied().unwrap_or(false) {
            return Err(CompileError::model(format!("after `{pass}`: output `{name}` is written by no node")));
        }
    }
    Ok(())
}

type Check<T = ()> = std::result::Result<T, String>;

fn inside(view: &Operand, value: &Value) -> Check {
    if view.shape.len() != view.strides.len() {
        return Err(format!("has shape {:?} and strides {:?}", view.shape, view.strides));
    }
    if num_elements(&view.shape).is_none() {
        return Err(format!("has shape {:?}, which is too large", view.shape));
    }
    if view.is_empty() {
        return Ok(());
    }
    let (mut low, mut high) = (view.offset as i128, view.offset as i128);
    for (&size, &stride) in view.shape.iter().zip(&view.strides) {
        let end = (size as i128 - 1) * stride as i128;
        low += end.min(0);
        high += end.max(0);
    }
    if low < 0 || high >= value.len() as i128 {
        return Err(format!("reads {low}..={high} of {} elements", value.len()));
    }
    Ok(())
}

fn want(condition: bool, reason: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(reason()) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Check {
    want(found == expected, || format!("{what} is {found:?}, expected {expected:?}"))
}

fn operation(graph: &Graph, node: &Node) -> Check {
    let types: Vec<DType> = node.inputs.iter().map(|input| graph.dtype(input)).collect();
    let input = |index: usize| node.inputs.get(index).ok_or_else(|| format!("input {index} is missing"));
    if let Op::Recurrent { cell, hidden, packing, .. } = &node.op {
        return recurrent(graph, node, cell, *hidden, *packing);
    }
    let [Some(output)] = node.outputs[..] else { return Err("expected one output".into()) };
    let output = graph.value(output);
    let shape = &output.shape;
    let shaped =
        |index: usize, expected: &[usize]| same("the input's shape", &input(index)?.shape.as_slice(), &expected);
    let epilogue = |expr: &Expr| {
        same("the epilogue's type", &typed(expr, &types, Some(types[0]))?, &output.dtype)?;
        (2..node.inputs.len()).try_for_each(|index| shaped(index, shape))
    };
    match &node.op {
        Op::Map(expr) => {
            (0..node.inputs.len()).try_for_each(|index| shaped(index, shape))?;
            same("the expression's type", &typed(expr, &types, None)?, &output.dtype)
        }
        Op::MatMul { epilogue: expr, packing } => {
            let (a, b) = (input(0)?, input(1)?);
            let rank = a.rank();
            want(rank >= 2, || "expected at least two dimensions".into())?;
            let (batch, m, k) = (&a.shape[..rank - 2], a.shape[rank - 2], a.shape[rank - 1]);
            let n = shape.last().copied().unwrap_or(0);
            if *packing == Packing::None {
                shaped(1, &[batch, &[k, n]].concat())?;
            } else {
                want(b.shape.ends_with(&[k, n]), || format!("packed weights of shape {:?}", b.shape))?;
            }
            same("the output's shape", &shape.as_slice(), &[batch, &[m, n]].concat().as_slice())?;
            epilogue(expr)
        }
        Op::Conv { stride, dilation, groups, epilogue: expr, .. } => {
            want(*stride > 0 && *dilation > 0 && *groups > 0, || "a stride, dilation or groups of 0".into())?;
            let ([batch, _, channels], [_, per_group, out]) = (&input(0)?.shape[..], &input(1)?.shape[..]) else {
                return Err("expected three dimensions".into());
            };
            want(per_group * groups == *channels && out % groups == 0, || "channels do not fit the weights".into())?;
            want(matches!(shape[..], [b, _, o] if b == *batch && o == *out), || format!("output of shape {shape:?}"))?;
            epilogue(expr)
        }
        Op::Recurrent { .. } => Ok(()),
        Op::Reduce { kind, axes } => {
            let x = input(0)?;
            want(*axes <= x.rank(), || format!("reduces {axes} of {} dimensions", x.rank()))?;
            same("the output's shape", &shape.as_slice(), &&x.shape[..x.rank() - axes])?;
            let dtype = if matches!(kind, Reduction::ArgMax | Reduction::ArgMin) { DType::I64 } else { types[0] };
            same("the output's type", &output.dtype, &dtype)
        }
        Op::Softmax { .. } => shaped(0, shape),
        Op::Normalize { .. } => {
            shaped(0, shape)?;
            let last = shape.last().ok_or("expected a dimension")?;
            (1..node.inputs.len()).try_for_each(|index| shaped(index, &[*last]))
        }
        Op::Gather { axis } => {
            let (data, indices) = (input(0)?, input(1)?);
            want(*axis < data.rank(), || format!("axis {axis} of {} dimensions", data.rank()))?;
            same("the indices' type", &types[1], &DType::I64)?;
            same("the output's type", &output.dtype, &types[0])?;
            let expected = [&data.shape[..*axis], &indices.shape, &data.shape[axis + 1..]].concat();
            same("the output's shape", shape, &expected)
        }
        Op::Concat { axis } => {
            want(*axis < shape.len(), || format!("axis {axis} of {} dimensions", shape.len()))?;
            let mut total = 0;
            for (index, (x, dtype)) in node.inputs.iter().zip(&types).enumerate() {
                let mut expected = shape.clone();
                expected[*axis] = x.shape.get(*axis).copied().unwrap_or(0);
                total += expected[*axis];
                shaped(index, &expected)?;
                same("the input's type", dtype, &output.dtype)?;
            }
            same("the length along the axis", &total, &shape[*axis])
        }
        Op::Pad { before, fill } => {
            let x = input(0)?;
            same("the number of dimensions", &x.rank(), &shape.len())?;
            same("the number of dimensions", &before.len(), &shape.len())?;
            same("the filling's type", &fill.dtype(), &output.dtype)?;
            let fits = x.shape.iter().zip(before).zip(shape).all(|((size, before), all)| size + before <= *all);
            want(fits, || format!("{:?} behind {before:?} does not fit {shape:?}", x.shape))
        }
        Op::Trees(trees) => {
            let x = input(0)?;
            want(x.rank() == 2, || "expected two dimensions".into())?;
            same("the output's shape", &shape.as_slice(), &[x.shape[0], trees.num_scores].as_slice())
        }
    }
}

fn recurrent(graph: &Graph, node: &Node, cell: &Cell, hidden: usize, packing: Packing) -> Check {
    let lstm = matches!(cell, Cell::Lstm { .. });
    let least = if lstm { 4 } else { 3 };
    want(node.inputs.len() >= least, || format!("{} inputs, expected {least}", node.inputs.len()))?;
    let [steps, batch, width] = node.inputs[0].shape[..] else { return Err("expected three dimensions".into()) };
    same("the width of the input", &width, &(cell.gates() * hidden))?;
    if packing == Packing::None {
        same("the shape of the weights", &node.inputs[1].shape.as_slice(), &[hidden, width].as_slice())?;
    }
    for state in &node.inputs[2..least] {
        same("the shape of the state", &state.shape.as_slice(), &[batch, hidden].as_slice())?;
    }
    want(node.outputs.len() <= if lstm { 3 } else { 2 }, || format!("{} outputs", node.outputs.len()))?;
    for (index, id) in node.outputs.iter().enumerate() {
        let expected = if index == 0 { vec![steps, batch, hidden] } else { vec![batch, hidden] };
        if let Some(id) = id {
            same("the output's shape", &graph.value(*id).shape, &expected)?;
        }
    }
    Ok(())
}

/// The type of an expression whose parts fit together; `result` is that of [`Expr::Result`] in an epilogue.
fn typed(expr: &Expr, inputs: &[DType], result: Option<DType>) -> Check<DType> {
    match expr {
        Expr::Input(index) => {
            inputs.get(*index).copied().ok_or_else(|| format!("the expression reads input {index} of {}", inputs.len()))
        }
        Expr::Result => result.ok_or_else(|| "the expression reads a result".into()),
        Expr::Const(number) => Ok(number.dtype()),
        Expr::Unary(op, x) => {
            let x = typed(x, inputs, result)?;
            match op {
                Unary::Not => same("the type of what is negated", &x, &DType::Bool).map(|()| x),
                Unary::IsNan => Ok(DType::Bool),
                _ => Ok(x),
            }
        }
        Expr::Binary(op, a, b) => {
            let a = typed(a, inputs, result)?;
            same(&format!("the type of the second operand of {op:?}"), &typed(b, inputs, result)?, &a)?;
            Ok(if op.compares() { DType::Bool } else { a })
        }
        Expr::Select(condition, yes, no) => {
            same("the type of a condition", &typed(condition, inputs, result)?, &DType::Bool)?;
            let yes = typed(yes, inputs, result)?;
            same("the type of the second choice", &typed(no, inputs, result)?, &yes)?;
            Ok(yes)
        }
        Expr::Cast(dtype, x) => typed(x, inputs, result).map(|_| *dtype),
    }
}
