//! Normalisations.

use super::reduce::{map1, reduce};
use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, DType, Expr, Op, Operand, Reduction, Scalar, Unary};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    match call.op {
        "LayerNormalization" => layer(builder, call).map(Some),
        "RMSNormalization" => root_mean_square(builder, call).map(|output| Some(vec![output])),
        "InstanceNormalization" => groups(builder, call, None).map(|output| Some(vec![output])),
        "GroupNormalization" => {
            let count = call.int("num_groups", 0);
            groups(builder, call, Some(count)).map(|output| Some(vec![output]))
        }
        "BatchNormalization" => batch(builder, call).map(|output| Some(vec![output])),
        "MeanVarianceNormalization" => mean_variance(builder, call).map(|output| Some(vec![output])),
        _ => Ok(None),
    }
}

fn float(builder: &Builder, call: &Call<'_>, x: &Operand) -> Result<DType> {
    let dtype = builder.graph.dtype(x);
    if dtype.is_float() {
        Ok(dtype)
    } else {
        Err(call.error(format!("the input is {}, expected float32 or float64", dtype.name())))
    }
}

/// `x * scale + bias`, where `bias` is there.
fn scaled(
    builder: &mut Builder,
    call: &Call<'_>,
    x: &Operand,
    scale: &Operand,
    bias: Option<&Operand>,
) -> Result<Operand> {
    let product = Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1));
    let result = match bias {
        Some(bias) => builder.map(call, Expr::binary(Binary::Add, product, Expr::Input(2)), &[x, scale, bias])?,
        None => builder.map(call, product, &[x, scale])?,
    };
    if result.shape != x.shape {
        return Err(call.error(format!("scale or bias do not broadcast to {:?}", x.shape)));
    }
    Ok(result)
}

fn layer(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let x = call.input(0)?.clone();
    let dtype = float(builder, call, &x)?;
    let axis = call.axis(call.int("axis", -1), x.rank())?;
    let epsilon = call.float("epsilon", 1e-5);
    let inner = x.shape[axis..].to_vec();
    let size: usize = inner.iter().product();
    let rows = [&x.shape[..axis], &[size]].concat();
    let flat = builder.reshaped(call, &x, &rows)?;
    let mut inputs = vec![flat];
    // Scale and bias that only vary along the normalised dimensions are part of the operation.
    let (scale, bias) = (call.input(1)?.clone(), call.optional(2).cloned());
    let is_inner = [Some(&scale), bias.as_ref()]
        .into_iter()
        .flatten()
        .all(|it| it.broadcast(&inner).is_some() && builder.graph.dtype(it) == dtype);
    if is_inner {
        for it in [Some(&scale), bias.as_ref()].into_iter().flatten() {
            let whole = it.broadcast(&inner).unwrap_or_else(|| it.clone());
            inputs.push(builder.reshaped(call, &whole, &[size])?);
        }
    }
    let normalized = builder.add(&call.name, Op::Normalize { epsilon }, inputs, dtype, &rows)?;
    let mut result = builder.reshaped(call, &normalized, &x.shape)?;
    if !is_inner {
        result = scaled(builder, call, &result, &scale, bias.as_ref())?;
    }
    let mut outputs = vec![result];
    if call.wants(1) || call.wants(2) {
        let axes: Vec<usize> = (axis..x.rank()).collect();
        let (mean, variance) = moments(builder, call, &x, &axes)?;
        let number = |value| Expr::Const(Scalar::of(dtype, value));
        let sum = Expr::binary(Binary::Add, Expr::Input(0), number(f64::from(epsilon)));
        let factor = Expr::unary(Unary::Reciprocal, Expr::unary(Unary::Sqrt, sum));
        outputs.extend([mean, map1(builder, call, &variance, factor)?]);
    }
    Ok(outputs)
}

/// Mean and biased variance along some dimensions, which stay with size 1.
fn moments(builder: &mut Builder, call: &Call<'_>, x: &Operand, axes: &[usize]) -> Result<(Operand, Operand)> {
    let mean = reduce(builder, call, Reduction::Mean, x, axes)?;
    let difference = || Expr::binary(Binary::Sub, Expr::Input(0), Expr::Input(1));
    let squares = builder.map(call, Expr::binary(Binary::Mul, difference(), difference()), &[x, &mean])?;
    let variance = reduce(builder, call, Reduction::Mean, &squares, axes)?;
    Ok((mean, variance))
}

fn root_mean_square(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (x, scale) = (call.input(0)?.clone(), call.input(1)?.clone());
    let dtype = float(builder, call, &x)?;
    let axis = call.axis(call.int("axis", -1), x.rank())?;
    let axes: Vec<usize> = (axis..x.rank()).collect();
    let squares = map1(builder, call, &x, Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(0)))?;
    let mean = reduce(builder, call, Reduction::Mean, &squares, &axes)?;
    let epsilon = Expr::Const(Scalar::of(dtype, f64::from(call.float("epsilon", 1e-5))));
    let root = Expr::unary(Unary::Sqrt, Expr::binary(Binary::Add, Expr::Input(1), epsilon));
    let divided = Expr::binary(Binary::Div, Expr::Input(0), root);
    let result = builder.map(call, Expr::binary(Binary::Mul, divided, Expr::Input(2)), &[&x, &mean, &scale])?;
    if result.shape != x.shape {
        return Err(call.error(format!("a scale of shape {:?} does not broadcast to {:?}", scale.shape, x.shape)));
    }
    Ok(result)
}

/// A number for each channel, next to a tensor whose second dimension are the channels.
fn per_channel(call: &Call<'_>, index: usize, channels: usize, rank: usize) -> Result<Operand> {
    let it = call.input(index)?;
    if it.shape != [channels] {
        return Err(call.error(format!("input {index} has shape {:?}, expected [{channels}]", it.shape)));
    }
    Ok((2..rank).fold(it.clone(), |it, _| it.unsqueezed(it.rank())))
}

/// Normalises groups of channels; each channel by itself where the number of groups is not given.
fn groups(builder: &mut Builder, call: &Call<'_>, count: Option<i64>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let dtype = float(builder, call, &x)?;
    let [batch, channels, ..] = x.shape[..] else {
        return Err(call.error(format!("shape {:?}, expected two or more dimensions", x.shape)));
    };
    let count = match count {
        Some(count) => usize::try_from(count).ok().filter(|count| *count > 0 && channels % count == 0),
        None => Some(channels),
    };
    let count = count.ok_or_else(|| call.error(format!("`num_groups` does not divide {channels} channels")))?;
    let rows = [batch, count, channels / count.max(1) * x.shape[2..].iter().product::<usize>()];
    let flat = builder.reshaped(call, &x, &rows)?;
    let op = Op::Normalize { epsilon: call.float("epsilon", 1e-5) };
    let normalized = builder.add(&call.name, op, vec![flat], dtype, &rows)?;
    if call.op == "GroupNormalization" && call.version < 21 {
        // One factor for each group.
        let (scale, bias) = (per_channel(call, 1, count, 3)?, per_channel(call, 2, count, 3)?);
        let result = scaled(builder, call, &normalized, &scale, Some(&bias))?;
        return builder.reshaped(call, &result, &x.shape);
    }
    let normalized = builder.reshaped(call, &normalized, &x.shape)?;
    let (scale, bias) = (per_channel(call, 1, channels, x.rank())?, per_channel(call, 2, channels, x.rank())?);
    scaled(builder, call, &normalized, &scale, Some(&bias))
}

/// With the statistics of training: a factor and a summand per channel, which are constants.
fn batch(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let dtype = float(builder, call, &x)?;
    if call.int("training_mode", 0) != 0 || (call.version < 7 && call.int("is_test", 0) == 0) {
        return Err(call.error("it is in training mode, expected inference"));
    }
    if x.rank() < 2 {
        return Err(call.error(format!("shape {:?}, expected two or more dimensions", x.shape)));
    }
    let is_spatial = call.int("spatial", 1) != 0;
    let parameter = |index: usize| {
        if is_spatial {
            return per_channel(call, index, x.shape[1], x.rank());
        }
        let it = call.input(index)?;
        if it.shape == x.shape[1..] {
            Ok(it.clone())
        } else {
            Err(call.error(format!("input {index} has shape {:?}, expected {:?}", it.shape, &x.shape[1..])))
        }
    };
    let [scale, bias, mean, variance] = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    let epsilon = Expr::Const(Scalar::of(dtype, f64::from(call.float("epsilon", 1e-5))));
    let root = Expr::unary(Unary::Sqrt, Expr::binary(Binary::Add, Expr::Input(1), epsilon));
    let factor = builder.map(call, Expr::binary(Binary::Div, Expr::Input(0), root), &[&scale, &variance])?;
    let shift = Expr::binary(Binary::Mul, Expr::Input(1), Expr::Input(2));
    let shift = builder.map(call, Expr::binary(Binary::Sub, Expr::Input(0), shift), &[&bias, &mean, &factor])?;
    scaled(builder, call, &x, &factor, Some(&shift))
}

fn mean_variance(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let dtype = float(builder, call, &x)?;
    let axes = call.axes(call.ints("axes").unwrap_or(&[0, 2, 3]), x.rank())?;
    let (mean, variance) = moments(builder, call, &x, &axes)?;
    let epsilon = Expr::Const(Scalar::of(dtype, 1e-9));
    let deviation = Expr::binary(Binary::Add, Expr::unary(Unary::Sqrt, Expr::Input(2)), epsilon);
    let difference = Expr::binary(Binary::Sub, Expr::Input(0), Expr::Input(1));
    builder.map(call, Expr::binary(Binary::Div, difference, deviation), &[&x, &mean, &variance])
}
