//! Reductions, softmax, normalisations.

use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Reduction, Scalar, Unary};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let result = match call.op {
        "ArgMax" => arg(builder, call, Reduction::ArgMax)?,
        "ArgMin" => arg(builder, call, Reduction::ArgMin)?,
        "Softmax" | "LogSoftmax" | "Hardmax" => softmax(builder, call)?,
        "LpNormalization" => lp_normalization(builder, call)?,
        "GlobalAveragePool" => global(builder, call, Reduction::Mean)?,
        "GlobalMaxPool" => global(builder, call, Reduction::Max)?,
        op => match op.strip_prefix("Reduce") {
            Some(kind) => return reduction(builder, call, kind),
            None => return Ok(None),
        },
    };
    Ok(Some(vec![result]))
}

/// An expression of one operand.
pub(super) fn map1(builder: &mut Builder, call: &Call<'_>, x: &Operand, expr: Expr) -> Result<Operand> {
    builder.map(call, expr, &[x])
}

fn square() -> Expr {
    Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(0))
}

/// Reduces some dimensions (in order), which stay with size 1.
pub(super) fn reduce(
    builder: &mut Builder,
    call: &Call<'_>,
    kind: Reduction,
    x: &Operand,
    axes: &[usize],
) -> Result<Operand> {
    let is_index = matches!(kind, Reduction::ArgMax | Reduction::ArgMin);
    if axes.is_empty() && !is_index {
        return Ok(x.clone());
    }
    let dtype = builder.graph.dtype(x);
    let is_order = is_index || matches!(kind, Reduction::Max | Reduction::Min);
    if dtype == DType::I8 || (dtype == DType::Bool && !is_order) {
        return Err(call.error(format!("the input is {}, expected numbers", dtype.name())));
    }
    let kept: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
    let view = x.transposed(&[kept.as_slice(), axes].concat());
    let shape = &view.shape[..kept.len()];
    let dtype = if is_index { DType::I64 } else { dtype };
    let op = Op::Reduce { kind, axes: axes.len() };
    let mut result = builder.add(&call.name, op, vec![view.clone()], dtype, shape)?;
    for &axis in axes {
        result = result.unsqueezed(axis);
    }
    Ok(result)
}

/// Without the dimensions that were reduced, where the node wants that.
fn kept(call: &Call<'_>, x: Operand, axes: &[usize]) -> Operand {
    if call.int("keepdims", 1) != 0 { x } else { axes.iter().rev().fold(x, |x, &axis| x.squeezed(axis)) }
}

fn reduction(builder: &mut Builder, call: &Call<'_>, kind: &str) -> Result<Option<Vec<Operand>>> {
    let x = call.input(0)?.clone();
    let given = call.given_ints(builder, "axes", 1)?.unwrap_or_default();
    let axes = if given.is_empty() {
        // Where nothing is reduced, what comes before and after still happens.
        if call.int("noop_with_empty_axes", 0) != 0 { Vec::new() } else { (0..x.rank()).collect() }
    } else {
        call.axes(&given, x.rank())?
    };
    let result = match kind {
        "Sum" => reduce(builder, call, Reduction::Sum, &x, &axes)?,
        "Mean" => reduce(builder, call, Reduction::Mean, &x, &axes)?,
        "Max" => reduce(builder, call, Reduction::Max, &x, &axes)?,
        "Min" => reduce(builder, call, Reduction::Min, &x, &axes)?,
        "Prod" => reduce(builder, call, Reduction::Prod, &x, &axes)?,
        "L1" => {
            let size = map1(builder, call, &x, Expr::unary(Unary::Abs, Expr::Input(0)))?;
            reduce(builder, call, Reduction::Sum, &size, &axes)?
        }
        "L2" | "SumSquare" => {
            let squares = map1(builder, call, &x, square())?;
            let sum = reduce(builder, call, Reduction::Sum, &squares, &axes)?;
            if kind == "L2" { map1(builder, call, &sum, Expr::unary(Unary::Sqrt, Expr::Input(0)))? } else { sum }
        }
        "LogSum" => {
            let sum = reduce(builder, call, Reduction::Sum, &x, &axes)?;
            map1(builder, call, &sum, Expr::unary(Unary::Log, Expr::Input(0)))?
        }
        "LogSumExp" => log_sum_exp(builder, call, &x, &axes)?,
        _ => return Ok(None),
    };
    let result = kept(call, result, &axes);
    Ok(Some(vec![result]))
}

/// `log(sum(exp(x)))` as `m + log(sum(exp(x - m)))` with the largest as `m`, or 0 where that is infinite.
fn log_sum_exp(builder: &mut Builder, call: &Call<'_>, x: &Operand, axes: &[usize]) -> Result<Operand> {
    let number = |value| Expr::Const(Scalar::of(builder.graph.dtype(x), value));
    let (zero, infinity) = (number(0.0), number(f64::INFINITY));
    let max = reduce(builder, call, Reduction::Max, x, axes)?;
    let size = Expr::unary(Unary::Abs, Expr::Input(0));
    let is_finite = Expr::binary(Binary::Less, size, infinity);
    let max = map1(builder, call, &max, Expr::select(is_finite, Expr::Input(0), zero))?;
    let exp = Expr::unary(Unary::Exp, Expr::binary(Binary::Sub, Expr::Input(0), Expr::Input(1)));
    let exp = builder.map(call, exp, &[x, &max])?;
    let sum = reduce(builder, call, Reduction::Sum, &exp, axes)?;
    let log = Expr::binary(Binary::Add, Expr::unary(Unary::Log, Expr::Input(0)), Expr::Input(1));
    builder.map(call, log, &[&sum, &max])
}

fn arg(builder: &mut Builder, call: &Call<'_>, kind: Reduction) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let axis = call.axis(call.int("axis", 0), x.rank())?;
    let size = x.shape[axis];
    if size == 0 {
        return Err(call.error(format!("dimension {axis} of {:?} is empty", x.shape)));
    }
    let result = if call.int("select_last_index", 0) == 0 {
        reduce(builder, call, kind, &x, &[axis])?
    } else {
        // The first from behind.
        let index = reduce(builder, call, kind, &x.sliced(axis, size - 1, -1, size), &[axis])?;
        let last = Expr::Const(Scalar::I64(size as i64 - 1));
        map1(builder, call, &index, Expr::binary(Binary::Sub, last, Expr::Input(0)))?
    };
    Ok(kept(call, result, &[axis]))
}

fn softmax(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let dtype = builder.graph.dtype(&x);
    if !dtype.is_float() {
        return Err(call.error(format!("the input is {}, expected float32 or float64", dtype.name())));
    }
    if call.version < 13 {
        // All dimensions from the axis on are one.
        let axis = call.int("axis", 1);
        let axis = if axis == x.rank() as i64 { x.rank() } else { call.axis(axis, x.rank())? };
        let flat = [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
        let flat = builder.reshaped(call, &x, &flat)?;
        let result = softmax_of_last(builder, call, &flat)?;
        return builder.reshaped(call, &result, &x.shape);
    }
    let axis = call.axis(call.int("axis", -1), x.rank())?;
    // To the end and back.
    let order: Vec<usize> = (0..x.rank()).filter(|other| *other != axis).chain([axis]).collect();
    let back: Vec<usize> = (0..axis).chain([x.rank() - 1]).chain(axis..x.rank() - 1).collect();
    Ok(softmax_of_last(builder, call, &x.transposed(&order))?.transposed(&back))
}

fn softmax_of_last(builder: &mut Builder, call: &Call<'_>, x: &Operand) -> Result<Operand> {
    let dtype = builder.graph.dtype(x);
    if call.op != "Hardmax" {
        let op = Op::Softmax { log: call.op == "LogSoftmax" };
        return builder.add(&call.name, op, vec![x.clone()], dtype, &x.shape);
    }
    let axis = x.rank() - 1;
    if x.is_empty() {
        return Ok(x.clone());
    }
    let largest = reduce(builder, call, Reduction::ArgMax, x, &[axis])?;
    let positions: Vec<i64> = (0..x.shape[axis] as i64).collect();
    let positions = builder.constant(&call.name, &[positions.len()], Data::I64(positions))?;
    let equal = Expr::binary(Binary::Equal, Expr::Input(0), Expr::Input(1));
    builder.map(call, Expr::Cast(dtype, Box::new(equal)), &[&largest, &positions])
}

fn lp_normalization(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let axis = call.axis(call.int("axis", -1), x.rank())?;
    let norm = match call.int("p", 2) {
        1 => {
            let size = map1(builder, call, &x, Expr::unary(Unary::Abs, Expr::Input(0)))?;
            reduce(builder, call, Reduction::Sum, &size, &[axis])?
        }
        2 => {
            let squares = map1(builder, call, &x, square())?;
            let sum = reduce(builder, call, Reduction::Sum, &squares, &[axis])?;
            map1(builder, call, &sum, Expr::unary(Unary::Sqrt, Expr::Input(0)))?
        }
        p => return Err(call.error(format!("`p` is {p}, expected 1 or 2"))),
    };
    // Of nothing but zeros, the norm is 0, and so is the result.
    let zero = || Expr::Const(Scalar::of(builder.graph.dtype(&x), 0.0));
    let is_zero = Expr::binary(Binary::Equal, Expr::Input(1), zero());
    let divided = Expr::binary(Binary::Div, Expr::Input(0), Expr::Input(1));
    let expr = Expr::select(is_zero, zero(), divided);
    builder.map(call, expr, &[&x, &norm])
}

fn global(builder: &mut Builder, call: &Call<'_>, kind: Reduction) -> Result<Operand> {
    let x = call.input(0)?.clone();
    if x.rank() < 3 {
        return Err(call.error(format!("shape {:?}, expected three or more dimensions", x.shape)));
    }
    let axes: Vec<usize> = (2..x.rank()).collect();
    reduce(builder, call, kind, &x, &axes)
}
