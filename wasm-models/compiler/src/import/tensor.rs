//! Constants of ONNX files.

use super::builder::check_shape;
use crate::error::{CompileError, Result};
use crate::ir::{DType, Data};
use crate::onnx::Tensor;

/// The types that are accepted, for messages.
pub(crate) const ACCEPTED: &str = "float32, float64, int32, int64 or bool";

/// The type behind a code of `TensorProto.DataType`.
pub(crate) fn dtype(code: i32) -> Option<DType> {
    match code {
        1 => Some(DType::F32),
        6 => Some(DType::I32),
        7 => Some(DType::I64),
        9 => Some(DType::Bool),
        11 => Some(DType::F64),
        _ => None,
    }
}

/// The name of a code of `TensorProto.DataType`, for messages.
pub(crate) fn name(code: i64) -> String {
    let names = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    usize::try_from(code).ok().and_then(|code| names.get(code)).map_or_else(|| code.to_string(), |name| (*name).into())
}

/// Shape and numbers of a tensor. Types that the IR lacks become wider ones: float16 and bfloat16 float32, small integers int32, unsigned
/// ones of 32 bits and more int64.
pub(crate) fn read(tensor: &Tensor) -> Result<(Vec<usize>, Data)> {
    let name = &tensor.name;
    let wrong = |reason: String| CompileError::model(format!("tensor `{name}` {reason}"));
    if tensor.data_location == 1 {
        return Err(wrong("keeps its data in another file, expected it inside the model".into()));
    }
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&size| usize::try_from(size).ok()).collect();
    let shape = shape.ok_or_else(|| wrong(format!("has shape {:?}", tensor.dims)))?;
    check_shape(&shape).map_err(wrong)?;
    let raw = &tensor.raw_data;
    let is_raw = !raw.is_empty();
    let ints = &tensor.int32_data;
    let (data, size) = match tensor.data_type {
        1 if is_raw => (Data::F32(numbers(raw, f32::from_le_bytes)), 4),
        1 => (Data::F32(tensor.float_data.clone()), 4),
        2 if is_raw => (Data::I32(raw.iter().map(|x| i32::from(*x)).collect()), 1),
        3 if is_raw => (Data::I8(raw.iter().map(|x| x.cast_signed()).collect()), 1),
        3 => (Data::I8(ints.iter().map(|x| *x as i8).collect()), 1),
        4 if is_raw => (Data::I32(numbers(raw, |bytes| i32::from(u16::from_le_bytes(bytes)))), 2),
        5 if is_raw => (Data::I32(numbers(raw, |bytes| i32::from(i16::from_le_bytes(bytes)))), 2),
        6 if is_raw => (Data::I32(numbers(raw, i32::from_le_bytes)), 4),
        2 | 4 | 5 | 6 => (Data::I32(ints.clone()), 4),
        7 if is_raw => (Data::I64(numbers(raw, i64::from_le_bytes)), 8),
        7 => (Data::I64(tensor.int64_data.clone()), 8),
        9 if is_raw => (Data::Bool(raw.iter().map(|byte| *byte != 0).collect()), 1),
        9 => (Data::Bool(ints.iter().map(|x| *x != 0).collect()), 1),
        10 if is_raw => (Data::F32(numbers(raw, |bytes| half(u16::from_le_bytes(bytes)))), 2),
        10 => (Data::F32(ints.iter().map(|x| half(*x as u16)).collect()), 2),
        11 if is_raw => (Data::F64(numbers(raw, f64::from_le_bytes)), 8),
        11 => (Data::F64(tensor.double_data.clone()), 8),
        12 if is_raw => (Data::I64(numbers(raw, |bytes| i64::from(u32::from_le_bytes(bytes)))), 4),
        13 if is_raw => (Data::I64(numbers(raw, i64::from_le_bytes)), 8),
        12 | 13 => (Data::I64(tensor.uint64_data.iter().map(|x| x.cast_signed()).collect()), 8),
        16 if is_raw => (Data::F32(numbers(raw, |bytes| brain(u16::from_le_bytes(bytes)))), 2),
        16 => (Data::F32(ints.iter().map(|x| brain(*x as u16)).collect()), 2),
        other => return Err(wrong(format!("has type {}, expected {ACCEPTED}", self::name(i64::from(other))))),
    };
    if tensor.data_type == 13 && matches!(&data, Data::I64(data) if data.iter().any(|x| *x < 0)) {
        return Err(wrong("has numbers above the range of int64".into()));
    }
    if data.len() != shape.iter().product::<usize>() || (is_raw && raw.len() != data.len() * size) {
        return Err(wrong(format!("of shape {shape:?} holds {} elements", data.len())));
    }
    Ok((shape, data))
}

fn numbers<T, const N: usize>(raw: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect()
}

/// A bfloat16: the upper half of a float32.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// A float16: 5 bits of exponent, 10 of mantissa.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = (i32::from((bits >> 10) & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => mantissa * 2f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
    }
}
