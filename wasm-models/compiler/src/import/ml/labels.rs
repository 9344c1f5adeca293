//! Maps from labels to labels.

use super::super::{Builder, Call, tensor};
use super::cast;
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Operand, Scalar, Unary};

/// Most keys of a map: it becomes one comparison for each.
const MAX_KEYS: usize = 256;

enum Values {
    Numbers(DType, Vec<f64>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(_, values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }
}

/// Numbers or texts of `<prefix>_int64s`, `_floats`, `_strings` or `_tensor`, whichever is given.
fn values(call: &Call<'_>, prefix: &str) -> Result<Values> {
    let name = |suffix: &str| format!("{prefix}_{suffix}");
    if let Some(ints) = call.ints(&name("int64s")).filter(|ints| !ints.is_empty()) {
        return Ok(Values::Ints(ints.to_vec()));
    }
    if let Some(floats) = call.floats(&name("floats")).filter(|floats| !floats.is_empty()) {
        return Ok(Values::Numbers(DType::F32, floats.iter().map(|x| f64::from(*x)).collect()));
    }
    let texts = call.texts(&name("strings"));
    if !texts.is_empty() {
        return Ok(Values::Texts(texts));
    }
    let Some(given) = call.tensor(&name("tensor")).or_else(|| call.tensor(&format!("{prefix}_as_tensor"))) else {
        return Err(call.error(format!("attribute `{}` (or `_floats`, `_strings`) is missing", name("int64s"))));
    };
    // Code 8 of tensors: text.
    if given.data_type == 8 {
        let texts = given.string_data.iter().map(|text| String::from_utf8_lossy(text).into_owned());
        return Ok(Values::Texts(texts.collect()));
    }
    let (_, data) =
        tensor::read(given).map_err(|error| call.error(format!("attribute `{prefix}`: {}", error.reason)))?;
    Ok(match data {
        Data::F32(data) => Values::Numbers(DType::F32, data.into_iter().map(f64::from).collect()),
        Data::F64(data) => Values::Numbers(DType::F64, data),
        Data::I64(data) => Values::Ints(data),
        Data::I32(data) => Values::Ints(data.into_iter().map(i64::from).collect()),
        other => return Err(call.error(format!("attribute `{prefix}` is {}, expected numbers", other.dtype().name()))),
    })
}

/// The value of the first key that is equal, else the default. Texts are places in a list of labels: on the way in the list of the node that made
/// them, on the way out one that is noted for the output, the default last.
pub(super) fn encode(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let (keys, values) = (values(call, "keys")?, values(call, "values")?);
    let count = keys.len();
    if count == 0 || count > MAX_KEYS || values.len() != count {
        let values = values.len();
        return Err(call
            .error(format!("there are {count} keys and {values} values, expected as many of both, 1 to {MAX_KEYS}")));
    }
    let dtype = builder.graph.dtype(&x);
    let keys: Vec<Expr> = match keys {
        Values::Texts(texts) => {
            let labels = call.node.input.first().and_then(|name| builder.labels.get(name)).ok_or_else(|| {
                call.error("the keys are text and the input is no label, expected a label or numbers as keys")
            })?;
            let place = |text: &String| labels.iter().position(|label| label == text).map_or(-1, |place| place as i64);
            texts.iter().map(|text| is_key(dtype, f64::NAN, place(text))).collect()
        }
        Values::Ints(ints) => ints.into_iter().map(|key| is_key(dtype, key as f64, key)).collect(),
        Values::Numbers(_, numbers) => numbers.into_iter().map(|key| is_key(dtype, key, key as i64)).collect(),
    };
    let (values, default): (Vec<Scalar>, Scalar) = match values {
        Values::Ints(values) => {
            let default = default_tensor(call)?.map_or(call.int("default_int64", -1), |number| number as i64);
            (values.into_iter().map(Scalar::I64).collect(), Scalar::I64(default))
        }
        Values::Numbers(dtype, values) => {
            let default = default_tensor(call)?.unwrap_or_else(|| call.float("default_float", -0.0).into());
            (values.into_iter().map(|value| Scalar::of(dtype, value)).collect(), Scalar::of(dtype, default))
        }
        Values::Texts(texts) => {
            let mut labels = Vec::<String>::new();
            let default = call.text("default_string").unwrap_or_else(|| "_Unused".into());
            let places = texts.into_iter().chain([default]).map(|text| {
                let place = labels.iter().position(|label| *label == text).unwrap_or(labels.len());
                if place == labels.len() {
                    labels.push(text);
                }
                Scalar::I64(place as i64)
            });
            let mut places: Vec<Scalar> = places.collect();
            let default = places.pop().unwrap_or(Scalar::I64(0));
            if let Some(output) = call.node.output.first() {
                builder.labels.insert(output.clone(), labels);
            }
            (places, default)
        }
    };
    let pairs = keys.into_iter().zip(values).rev();
    let expr = pairs.fold(Expr::Const(default), |rest, (key, value)| Expr::select(key, Expr::Const(value), rest));
    builder.map(call, expr, &[&x])
}

fn default_tensor(call: &Call<'_>) -> Result<Option<f64>> {
    let Some(given) = call.tensor("default_tensor").or_else(|| call.tensor("default_as_tensor")) else {
        return Ok(None);
    };
    let (_, data) =
        tensor::read(given).map_err(|error| call.error(format!("attribute `default_tensor`: {}", error.reason)))?;
    let number = match &data {
        Data::F32(data) => data.first().map(|x| f64::from(*x)),
        Data::F64(data) => data.first().copied(),
        Data::I64(data) => data.first().map(|x| *x as f64),
        Data::I32(data) => data.first().map(|x| f64::from(*x)),
        Data::Bool(_) | Data::I8(_) => None,
    };
    number.map(Some).ok_or_else(|| call.error("attribute `default_tensor` holds no number, expected one"))
}

/// Whether the input is a key; NaN is NaN.
fn is_key(dtype: DType, number: f64, int: i64) -> Expr {
    let x = Expr::Input(0);
    match dtype {
        DType::F32 | DType::F64 if number.is_nan() => Expr::unary(Unary::IsNan, x),
        DType::F32 | DType::F64 => Expr::binary(Binary::Equal, x, Expr::Const(Scalar::of(dtype, number))),
        DType::I64 => Expr::binary(Binary::Equal, x, Expr::Const(Scalar::I64(int))),
        _ => {
            let wide = Expr::Cast(DType::I64, Box::new(x));
            Expr::binary(Binary::Equal, wide, Expr::Const(Scalar::I64(int)))
        }
    }
}

/// 1 in the column of the category that the input is, else 0: a dimension more. Other numbers give zeros alone.
pub(super) fn one_hot(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let categories = call.ints("cats_int64s").unwrap_or_default();
    if categories.is_empty() {
        return Err(call.error("attribute `cats_int64s` is empty, expected categories that are numbers"));
    }
    if call.int("zeros", 1) == 0 {
        return Err(call.error("attribute `zeros` is 0, expected 1: other numbers than the categories give zeros"));
    }
    let x = call.input(0)?.clone();
    let x = cast(builder, call, x, DType::I64)?;
    let x = x.unsqueezed(x.rank());
    let categories = super::constant(builder, call, "categories", Data::I64(categories.to_vec()))?;
    let is_it = Expr::binary(Binary::Equal, Expr::Input(0), Expr::Input(1));
    builder.map(call, Expr::select(is_it, Expr::f32(1.0), Expr::f32(0.0)), &[&x, &categories])
}
