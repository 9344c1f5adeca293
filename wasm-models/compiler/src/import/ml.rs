//! Operators of `ai.onnx.ml`, tree ensembles aside.
//!
//! `ZipMap`, which makes a list of maps from labels to probabilities, is dropped: its output is the tensor of probabilities, columns in the order
//! of the labels.

mod labels;
pub(super) mod scores;
#[cfg(test)]
mod tests;

use super::trees::labels::{above, largest, two_scores};
use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Packing, Reduction, Scalar, Unary};
use scores::{Labels, PostTransform, over_row, post_transform};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let output = match call.op {
        "ArrayFeatureExtractor" => extract(builder, call)?,
        "Binarizer" => binarize(builder, call)?,
        "FeatureVectorizer" => vectorize(builder, call)?,
        "Imputer" => impute(builder, call)?,
        "LabelEncoder" => labels::encode(builder, call)?,
        "LinearClassifier" => return linear_classifier(builder, call).map(Some),
        "LinearRegressor" => linear_regressor(builder, call)?,
        "Normalizer" => normalize(builder, call)?,
        "OneHotEncoder" => labels::one_hot(builder, call)?,
        "Scaler" => scale(builder, call)?,
        "ZipMap" => call.input(0)?.clone(),
        "SVMClassifier" | "SVMRegressor" => {
            return Err(call.error("support vector machines are not lowered, expected trees or linear models"));
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![output]))
}

/// Another type.
pub(super) fn cast(builder: &mut Builder, call: &Call<'_>, x: Operand, dtype: DType) -> Result<Operand> {
    if builder.graph.dtype(&x) == dtype {
        return Ok(x);
    }
    builder.map(call, Expr::Cast(dtype, Box::new(Expr::Input(0))), &[&x])
}

/// The first input as `[rows, features]` of floats: integers become float32, and so does float64 unless it is kept.
pub(super) fn table(builder: &mut Builder, call: &Call<'_>, keeps_f64: bool) -> Result<Operand> {
    let x = call.input(0)?;
    let x = match x.shape.as_slice() {
        [_] => x.unsqueezed(0),
        [_, _] => x.clone(),
        shape => return Err(call.error(format!("the input has shape {shape:?}, expected rows of features"))),
    };
    if x.shape[1] == 0 {
        return Err(call.error("the input has no features"));
    }
    if keeps_f64 && builder.graph.dtype(&x) == DType::F64 {
        return Ok(x);
    }
    cast(builder, call, x, DType::F32)
}

/// A constant of one dimension.
fn constant(builder: &mut Builder, call: &Call<'_>, name: &str, data: Data) -> Result<Operand> {
    let shape = [data.len()];
    let id = builder.graph.add_constant(format!("{} {name}", call.name), &shape, data)?;
    Ok(Operand::whole(id, &shape))
}

/// Floats of an attribute, one for each of `count` or one for all; `None` where it is not given.
fn per_feature<'a>(call: &Call<'a>, name: &str, count: usize) -> Result<Option<&'a [f32]>> {
    match call.floats(name).unwrap_or_default() {
        [] => Ok(None),
        values if values.len() == 1 || values.len() == count => Ok(Some(values)),
        values => Err(call.error(format!("attribute `{name}` has {} entries, expected 1 or {count}", values.len()))),
    }
}

/// Columns of the last dimension.
fn extract(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (x, indices) = (call.input(0)?.clone(), call.input(1)?.clone());
    let Some(&width) = x.shape.last() else { return Err(call.error("the input is a scalar, expected dimensions")) };
    let count = indices.len();
    if count == 0 {
        return Err(call.error("there are no indices, expected at least one"));
    }
    // A single row may be a vector; the rows of the result are then those of the indices.
    let is_row = x.rank() == 1 || (x.rank() == 2 && x.shape[0] == 1);
    let x = if is_row && x.rank() == 2 { x.squeezed(0) } else { x };
    let axis = x.rank() - 1;
    let mut shape = x.shape.clone();
    shape[axis] = count;
    let result = if builder.graph.constant(&indices).is_some() {
        let places = call.constant_ints(builder, 1)?;
        for place in &places {
            if !usize::try_from(*place).is_ok_and(|place| place < width) {
                return Err(call.error(format!("index {place} is out of range, expected 0 to {}", width as i64 - 1)));
            }
        }
        let step = if count > 1 { places[1] - places[0] } else { 1 };
        if step != 0 && places.windows(2).all(|pair| pair[1] - pair[0] == step) {
            x.sliced(axis, places[0] as usize, step as isize, count)
        } else {
            let places = constant(builder, call, "columns", Data::I64(places))?;
            let dtype = builder.graph.dtype(&x);
            builder.add(&call.name, Op::Gather { axis }, vec![x, places], dtype, &shape)?
        }
    } else {
        let indices = match indices.reshaped(&[count]) {
            Some(view) => view,
            None => {
                let copy = builder.map(call, Expr::Input(0), &[&indices])?;
                copy.reshaped(&[count]).unwrap_or(copy)
            }
        };
        let indices = cast(builder, call, indices, DType::I64)?;
        let dtype = builder.graph.dtype(&x);
        builder.add(&call.name, Op::Gather { axis }, vec![x, indices], dtype, &shape)?
    };
    Ok(if is_row { result.unsqueezed(0) } else { result })
}

fn scale(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let Some(&width) = x.shape.last() else { return Err(call.error("the input is a scalar, expected features")) };
    let wide = builder.graph.dtype(&x) == DType::F64;
    let x = if wide { x } else { cast(builder, call, x, DType::F32)? };
    let mut operand = |name: &str, default: f32| {
        let values = per_feature(call, name, width)?.unwrap_or(&[default]).to_owned();
        let values = if wide { Data::F64(values.into_iter().map(f64::from).collect()) } else { Data::F32(values) };
        constant(builder, call, name, values)
    };
    let (offset, scale) = (operand("offset", 0.0)?, operand("scale", 1.0)?);
    let shifted = Expr::binary(Binary::Sub, Expr::Input(0), Expr::Input(1));
    let scaled = Expr::binary(Binary::Mul, shifted, Expr::Input(2));
    let scaled = if wide { Expr::Cast(DType::F32, Box::new(scaled)) } else { scaled };
    builder.map(call, scaled, &[&x, &offset, &scale])
}

/// Divides rows by their norm; rows of norm 0 stay. `MAX` is the largest number, its sign kept, as onnxruntime has it.
fn normalize(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let is_vector = call.input(0)?.rank() == 1;
    let x = table(builder, call, false)?;
    let norm = match call.text("norm").as_deref() {
        None | Some("MAX") => over_row(builder, call, Reduction::Max, &x)?,
        Some("L1") => {
            let sizes = builder.map(call, Expr::unary(Unary::Abs, Expr::Input(0)), &[&x])?;
            over_row(builder, call, Reduction::Sum, &sizes)?
        }
        Some("L2") => {
            let squares = builder.map(call, Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(0)), &[&x])?;
            let sum = over_row(builder, call, Reduction::Sum, &squares)?;
            builder.map(call, Expr::unary(Unary::Sqrt, Expr::Input(0)), &[&sum])?
        }
        Some(other) => {
            return Err(call.error(format!("attribute `norm` is `{other}`, expected `MAX`, `L1` or `L2`")));
        }
    };
    let is_zero = Expr::binary(Binary::Equal, Expr::Input(1), Expr::f32(0.0));
    let divided = Expr::binary(Binary::Div, Expr::Input(0), Expr::Input(1));
    let rows = builder.map(call, Expr::select(is_zero, Expr::Input(0), divided), &[&x, &norm])?;
    Ok(if is_vector { rows.squeezed(0) } else { rows })
}

/// 1 where a number is above the threshold, else 0, in the type of the input.
fn binarize(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?;
    let dtype = builder.graph.dtype(x);
    let threshold = call.float("threshold", 0.0);
    let (number, limit) = match dtype {
        DType::F64 => (Expr::Input(0), Scalar::F64(threshold.into())),
        _ => (Expr::Cast(DType::F32, Box::new(Expr::Input(0))), Scalar::F32(threshold)),
    };
    let is_above = Expr::binary(Binary::Less, Expr::Const(limit), number);
    let value = |number: f64| Expr::Const(Scalar::of(dtype, number));
    builder.map(call, Expr::select(is_above, value(1.0), value(0.0)), &[x])
}

/// Other numbers for one that stands for missing values.
fn impute(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let Some(&width) = x.shape.last() else { return Err(call.error("the input is a scalar, expected features")) };
    let dtype = builder.graph.dtype(&x);
    let (is_missing, values) = if dtype.is_float() {
        let values = per_feature(call, "imputed_value_floats", width)?;
        let values = values.ok_or_else(|| call.error("attribute `imputed_value_floats` is missing"))?;
        let missing = call.float("replaced_value_float", 0.0);
        let is_missing = if missing.is_nan() {
            Expr::unary(Unary::IsNan, Expr::Input(0))
        } else {
            let missing = Expr::Const(Scalar::of(dtype, missing.into()));
            Expr::binary(Binary::Equal, Expr::Input(0), missing)
        };
        let values = match dtype {
            DType::F64 => Data::F64(values.iter().map(|x| f64::from(*x)).collect()),
            _ => Data::F32(values.to_vec()),
        };
        (is_missing, values)
    } else {
        let values = call.ints("imputed_value_int64s").unwrap_or_default();
        if values.len() != 1 && values.len() != width {
            let reason =
                format!("attribute `imputed_value_int64s` has {} entries, expected 1 or {width}", values.len());
            return Err(call.error(reason));
        }
        let missing = call.int("replaced_value_int64", 0);
        match dtype {
            DType::I64 => {
                let missing = Expr::Const(Scalar::I64(missing));
                (Expr::binary(Binary::Equal, Expr::Input(0), missing), Data::I64(values.to_vec()))
            }
            DType::I32 => {
                let missing = Expr::Const(Scalar::I64(missing));
                let wide = Expr::Cast(DType::I64, Box::new(Expr::Input(0)));
                let values = values.iter().map(|value| i32::try_from(*value));
                let values = values.collect::<Result<_, _>>();
                let values = values.map_err(|_| call.error("attribute `imputed_value_int64s` does not fit int32"))?;
                (Expr::binary(Binary::Equal, wide, missing), Data::I32(values))
            }
            other => return Err(call.error(format!("the input is {}, expected numbers", other.name()))),
        }
    };
    let values = constant(builder, call, "values", values)?;
    builder.map(call, Expr::select(is_missing, Expr::Input(1), Expr::Input(0)), &[&x, &values])
}

/// Features side by side, as float32.
fn vectorize(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let widths = call.ints("inputdimensions").unwrap_or_default();
    let mut parts = Vec::new();
    for index in 0..call.inputs.len() {
        let x = call.input(index)?;
        let x = if x.rank() == 1 { x.unsqueezed(0) } else { x.clone() };
        if x.rank() != 2 || parts.first().is_some_and(|first: &Operand| first.shape[0] != x.shape[0]) {
            return Err(
                call.error(format!("input {index} has shape {:?}, expected as many rows as the first", x.shape))
            );
        }
        if widths.get(index).is_some_and(|width| *width != x.shape[1] as i64) {
            let (given, actual) = (widths[index], x.shape[1]);
            return Err(
                call.error(format!("attribute `inputdimensions` has {given} for input {index} of {actual} features"))
            );
        }
        parts.push(cast(builder, call, x, DType::F32)?);
    }
    let Some(first) = parts.first() else { return Err(call.error("there is no input, expected at least one")) };
    let shape = [first.shape[0], parts.iter().map(|part| part.shape[1]).sum()];
    builder.add(&call.name, Op::Concat { axis: 1 }, parts, DType::F32, &shape)
}

/// `x` times coefficients `[count, features]`, plus intercepts.
fn linear(builder: &mut Builder, call: &Call<'_>, count: usize, intercepts: &[f32]) -> Result<Operand> {
    let x = table(builder, call, false)?;
    let (rows, width) = (x.shape[0], x.shape[1]);
    let coefficients = call.floats("coefficients").unwrap_or_default();
    if count.checked_mul(width) != Some(coefficients.len()) {
        let given = coefficients.len();
        return Err(call.error(format!("attribute `coefficients` has {given} entries, expected {count} times {width}")));
    }
    let shape = [count, width];
    let name = format!("{} coefficients", call.name);
    let weights = builder.graph.add_constant(name, &shape, Data::F32(coefficients.to_vec()))?;
    let weights = Operand::whole(weights, &shape).transposed(&[1, 0]);
    let product = Op::MatMul { epilogue: Expr::Result, packing: Packing::None };
    let product = builder.add(&call.name, product, vec![x, weights], DType::F32, &[rows, count])?;
    if intercepts.is_empty() {
        return Ok(product);
    }
    let intercepts = constant(builder, call, "intercepts", Data::F32(intercepts.to_vec()))?;
    builder.map(call, Expr::binary(Binary::Add, Expr::Input(0), Expr::Input(1)), &[&product, &intercepts])
}

fn linear_regressor(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let targets = call.int("targets", 1);
    let intercepts = call.floats("intercepts").unwrap_or_default();
    let count = usize::try_from(targets).ok().filter(|count| (1..=1 << 26).contains(count));
    let count = count.ok_or_else(|| call.error(format!("attribute `targets` is {targets}, expected at least 1")))?;
    if !intercepts.is_empty() && intercepts.len() != count {
        return Err(call.error(format!("attribute `intercepts` has {} entries, expected {count}", intercepts.len())));
    }
    let transform = PostTransform::read(call)?;
    let scores = linear(builder, call, count, intercepts)?;
    post_transform(builder, call, transform, scores)
}

/// Two classes with one row of coefficients: as onnxruntime has it, the second label where the score is above 0, and the scores `[1 - s, s]`, or for
/// `LOGISTIC` `[sigmoid(-s), sigmoid(s)]`.
fn linear_classifier(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let labels = Labels::read(call, "classlabels_ints")?;
    let intercepts = call.floats("intercepts").unwrap_or_default();
    let width = call.input(0)?.shape.last().copied().unwrap_or(1).max(1);
    let coefficients = call.floats("coefficients").unwrap_or_default().len();
    let count = if intercepts.is_empty() { coefficients / width } else { intercepts.len() };
    let transform = PostTransform::read(call)?;
    if labels.len() < 2 || !(count == labels.len() || (count == 1 && labels.len() == 2)) {
        let labels = labels.len();
        let reason =
            format!("there are {labels} class labels and {count} rows of coefficients, expected one for each label");
        return Err(call.error(reason));
    }
    let scores = linear(builder, call, count, intercepts)?;
    if count == 1 {
        let label = above(builder, call, &labels, &scores.squeezed(1), 0.0)?;
        return Ok(vec![label, two_scores(builder, call, &scores, true, transform)?]);
    }
    let label = largest(builder, call, &labels, &scores, |_| true)?;
    Ok(vec![label, post_transform(builder, call, transform, scores)?])
}
