//! Factors and terms per column, of products with constant weights and of normalisations.

use super::super::editor::{Editor, cost, expression, uses};
use super::super::simplify::own_weights;
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Graph, Op, Operand, Unary};

/// `scale * x + shift` per column; each has one number, or one per column.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

enum Form {
    Affine(Affine),
    Columns(Vec<f64>),
}

/// Numbers of a constant operand that differ along the last dimension alone.
pub(super) fn columns(graph: &Graph, operand: &Operand) -> Option<Vec<f64>> {
    let (_, rest) = operand.strides.split_last()?;
    let repeats = rest.iter().zip(&operand.shape).all(|(stride, size)| *stride == 0 || *size == 1);
    if !repeats || operand.is_empty() {
        return None;
    }
    let mut row = operand.clone();
    row.shape[..rest.len()].fill(1);
    match graph.constant(&row)? {
        Data::F32(numbers) => Some(numbers.into_iter().map(f64::from).collect()),
        _ => None,
    }
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let len = a.len().max(b.len());
    (0..len).map(|i| f(a[i % a.len()], b[i % b.len()])).collect()
}

/// What an expression is as a function of `x`; `None` where it is no such function, or has numbers that are not finite.
fn form(expr: &Expr, x: &Expr, of_input: &dyn Fn(usize) -> Option<Vec<f64>>) -> Option<Form> {
    if expr == x {
        return Some(Form::Affine(Affine { scale: vec![1.0], shift: vec![0.0] }));
    }
    match expr {
        Expr::Const(crate::ir::Scalar::F32(number)) => Some(Form::Columns(vec![f64::from(*number)])),
        Expr::Input(index) => of_input(*index).map(Form::Columns),
        Expr::Unary(Unary::Neg, a) => match form(a, x, of_input)? {
            Form::Affine(Affine { scale, shift }) => Some(Form::Affine(Affine {
                scale: zip(&scale, &[-1.0], |a, b| a * b),
                shift: zip(&shift, &[-1.0], |a, b| a * b),
            })),
            Form::Columns(a) => Some(Form::Columns(zip(&a, &[-1.0], |a, b| a * b))),
        },
        Expr::Binary(op, a, b) => {
            let (a, b) = (form(a, x, of_input)?, form(b, x, of_input)?);
            let f: fn(f64, f64) -> f64 = match op {
                Binary::Add => |a, b| a + b,
                Binary::Sub => |a, b| a - b,
                Binary::Mul => |a, b| a * b,
                Binary::Div => |a, b| a / b,
                _ => return None,
            };
            match (a, b, op) {
                (Form::Columns(a), Form::Columns(b), _) => Some(Form::Columns(zip(&a, &b, f))),
                (Form::Affine(a), Form::Columns(b), Binary::Add | Binary::Sub) => {
                    Some(Form::Affine(Affine { shift: zip(&a.shift, &b, f), ..a }))
                }
                (Form::Affine(a), Form::Columns(b), _) => {
                    Some(Form::Affine(Affine { scale: zip(&a.scale, &b, f), shift: zip(&a.shift, &b, f) }))
                }
                (Form::Columns(a), Form::Affine(b), Binary::Add) => {
                    Some(Form::Affine(Affine { shift: zip(&a, &b.shift, f), ..b }))
                }
                (Form::Columns(a), Form::Affine(b), Binary::Mul) => {
                    Some(Form::Affine(Affine { scale: zip(&a, &b.scale, f), shift: zip(&a, &b.shift, f) }))
                }
                (Form::Columns(a), Form::Affine(b), Binary::Sub) => Some(Form::Affine(Affine {
                    scale: zip(&b.scale, &[-1.0], |a, b| a * b),
                    shift: zip(&a, &b.shift, f),
                })),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The largest part of an expression that is affine in `x` and holds every `x`.
fn affine_part(expr: &Expr, x: &Expr, of_input: &dyn Fn(usize) -> Option<Vec<f64>>) -> Option<(Expr, Affine)> {
    if let Some(Form::Affine(affine)) = form(expr, x, of_input) {
        return Some((expr.clone(), affine));
    }
    let parts: Vec<&Expr> = match expr {
        Expr::Unary(_, x) | Expr::Cast(_, x) => vec![x],
        Expr::Binary(_, a, b) => vec![a, b],
        Expr::Select(c, a, b) => vec![c, a, b],
        _ => vec![],
    };
    // Where several parts hold `x`, the same part has to be in each.
    let mut found: Vec<(Expr, Affine)> = Vec::new();
    for part in parts.into_iter().filter(|part| uses(part, x) > 0) {
        found.push(affine_part(part, x, of_input)?);
    }
    let smallest = found.into_iter().min_by_key(|(part, _)| cost(part).0)?;
    let mut part = smallest.0;
    loop {
        if uses(&replaced(expr, &part, &Expr::Const(crate::ir::Scalar::F32(0.0))), x) == 0 {
            let Form::Affine(affine) = form(&part, x, of_input)? else { return None };
            return Some((part, affine));
        }
        // The next smaller part around `x`.
        let inner: Vec<&Expr> = match &part {
            Expr::Unary(_, a) => vec![a],
            Expr::Binary(_, a, b) => vec![a, b],
            _ => return None,
        };
        part = (*inner.into_iter().find(|inner| uses(inner, x) > 0)?).clone();
    }
}

fn replaced(expr: &Expr, part: &Expr, by: &Expr) -> Expr {
    if expr == part {
        return by.clone();
    }
    let again = |x: &Expr| replaced(x, part, by);
    match expr {
        Expr::Input(_) | Expr::Result | Expr::Const(_) => expr.clone(),
        Expr::Unary(op, x) => Expr::unary(*op, again(x)),
        Expr::Binary(op, a, b) => Expr::binary(*op, again(a), again(b)),
        Expr::Select(c, a, b) => Expr::select(again(c), again(a), again(b)),
        Expr::Cast(dtype, x) => Expr::Cast(*dtype, Box::new(again(x))),
    }
}

/// Scales and shifts of results: into the weights, and into one bias.
pub(super) fn into_weights(editor: &mut Editor<'_>) -> Result<()> {
    for index in 0..editor.len() {
        match editor.node(index).op {
            Op::MatMul { .. } | Op::Conv { .. } => into_product(editor, index)?,
            Op::Map(_) => {
                let mut input = 0;
                while input < editor.node(index).inputs.len() {
                    into_normalize(editor, index, input)?;
                    input += 1;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_all(numbers: &[f64], number: f64) -> bool {
    numbers.iter().all(|x| *x == number)
}

fn fits(affine: &Affine) -> bool {
    affine.scale.iter().chain(&affine.shift).all(|x| x.abs() <= f64::from(f32::MAX) / 4.0)
}

pub(super) fn widened(numbers: &[f64], columns: usize) -> Vec<f32> {
    (0..columns).map(|i| numbers[i % numbers.len()] as f32).collect()
}

fn into_product(editor: &mut Editor<'_>, index: usize) -> Result<()> {
    let node = editor.node(index);
    let graph = &*editor.graph;
    let ([Some(output)], mut op) = (&node.outputs[..], node.op.clone()) else { return Ok(()) };
    let (output, mut inputs, name) = (graph.value(*output), node.inputs.clone(), node.name.clone());
    if output.dtype != DType::F32 || output.is_empty() || !own_weights(editor, node) || inputs[1].is_empty() {
        return Ok(());
    }
    let (shape, width) = (output.shape.clone(), output.shape.last().copied().unwrap_or(1));
    let Some(epilogue) = expression(&mut op) else { return Ok(()) };
    let found = affine_part(epilogue, &Expr::Result, &|input| columns(graph, &inputs[input]));
    let Some((part, affine)) = found.filter(|(_, affine)| fits(affine)) else { return Ok(()) };
    // Weights that others read, or that are repeated for each of several products, would be stored twice.
    let weights = &inputs[1];
    let scales = !is_all(&affine.scale, 1.0)
        && editor.reads(weights.value) == 1
        && weights.len() >= graph.value(weights.value).len();
    if cost(&part).0 == usize::from(!is_all(&affine.shift, 0.0)) || !(scales || is_all(&affine.scale, 1.0)) {
        return Ok(());
    }
    if scales {
        let batch = weights.rank() - if matches!(op, Op::MatMul { .. }) { 2 } else { 3 };
        if weights.strides[..batch].iter().zip(&weights.shape).any(|(stride, size)| *stride != 0 && *size > 1) {
            return Ok(());
        }
        let mut one = weights.clone();
        one.shape[..batch].fill(1);
        let Some(Data::F32(mut numbers)) = graph.constant(&one) else { return Ok(()) };
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = (f64::from(*number) * affine.scale[at % width % affine.scale.len()]) as f32;
        }
        if !numbers.iter().all(|number| number.is_finite()) {
            return Ok(());
        }
        let full = weights.shape.clone();
        let constant = editor.add_constant(&format!("{name}.weights"), &one.shape[batch..], Data::F32(numbers))?;
        let Some(constant) = constant.broadcast(&full) else { return Ok(()) };
        inputs[1] = constant;
    }
    let mut by = Expr::Result;
    if !is_all(&affine.shift, 0.0) {
        by = Expr::binary(Binary::Add, by, Expr::Input(inputs.len()));
        inputs.push(column_operand(editor, &format!("{name}.bias"), &affine.shift, &shape)?);
    }
    let Some(epilogue) = expression(&mut op) else { return Ok(()) };
    *epilogue = replaced(epilogue, &part, &by);
    editor.replace(index, op, inputs);
    Ok(())
}

fn column_operand(editor: &mut Editor<'_>, name: &str, numbers: &[f64], shape: &[usize]) -> Result<Operand> {
    let width = if is_all(numbers, numbers[0]) { 1 } else { shape.last().copied().unwrap_or(1) };
    let constant = editor.add_constant(name, &[width], Data::F32(widened(numbers, width)))?;
    Ok(constant.broadcast(shape).unwrap_or(constant))
}

/// A Map that alone reads a normalisation: its scale and shift per column become those of the normalisation.
fn into_normalize(editor: &mut Editor<'_>, index: usize, input: usize) -> Result<()> {
    let node = editor.node(index);
    let Op::Map(expr) = &node.op else { return Ok(()) };
    let (expr, mut inputs, operand) = (expr.clone(), node.inputs.clone(), node.inputs[input].clone());
    let Some(writer) = editor.own_writer(&operand) else { return Ok(()) };
    let normalize = editor.node(writer);
    let value = editor.graph.value(operand.value);
    let is_aligned =
        operand.is_contiguous() && operand.len() == value.len() && operand.shape.last() == value.shape.last();
    if !matches!(normalize.op, Op::Normalize { .. }) || normalize.inputs.len() != 1 || !is_aligned || operand.is_empty()
    {
        return Ok(());
    }
    let width = operand.shape[operand.rank() - 1];
    let found = affine_part(&expr, &Expr::Input(input), &|other| columns(editor.graph, &inputs[other]));
    let Some((part, affine)) = found.filter(|(part, affine)| fits(affine) && cost(part).0 > 0) else { return Ok(()) };
    let (op, mut normalized, name) = (normalize.op.clone(), normalize.inputs.clone(), normalize.name.clone());
    for (suffix, numbers) in [("scale", &affine.scale), ("shift", &affine.shift)] {
        if suffix == "scale" || !is_all(numbers, 0.0) {
            normalized.push(editor.add_constant(
                &format!("{name}.{suffix}"),
                &[width],
                Data::F32(widened(numbers, width)),
            )?);
        }
    }
    editor.replace(writer, op, normalized);
    // The operand stays in its place: the Map may be a copy now.
    let rest = replaced(&expr, &part, &Expr::Input(input));
    inputs[input] = operand;
    editor.replace(index, Op::Map(rest), inputs);
    Ok(())
}
