//! Constants of ONNX files.

use crate::error::{CompileError, Result};
use crate::ir::{DType, Data, num_elements};
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

/// Shape and numbers of a tensor.
pub(crate) fn read(tensor: &Tensor) -> Result<(Vec<usize>, Data)> {
    let name = &tensor.name;
    let wrong = |reason: String| CompileError::model(format!("tensor `{name}` {reason}"));
    if tensor.data_location == 1 {
        return Err(wrong("keeps its data in another file, expected it inside the model".into()));
    }
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&size| usize::try_from(size).ok()).collect();
    let shape = shape.filter(|shape| num_elements(shape).is_some());
    let shape = shape.ok_or_else(|| wrong(format!("has shape {:?}", tensor.dims)))?;
    let Some(dtype) = dtype(tensor.data_type) else {
        return Err(wrong(format!("has type {}, expected {ACCEPTED}", tensor.data_type)));
    };
    let raw = &tensor.raw_data;
    let data = match dtype {
        DType::F32 if raw.is_empty() => Data::F32(tensor.float_data.clone()),
        DType::F64 if raw.is_empty() => Data::F64(tensor.double_data.clone()),
        DType::I64 if raw.is_empty() => Data::I64(tensor.int64_data.clone()),
        DType::Bool if raw.is_empty() => Data::Bool(tensor.int32_data.iter().map(|x| *x != 0).collect()),
        _ if raw.is_empty() => Data::I32(tensor.int32_data.clone()),
        DType::F32 => Data::F32(numbers(raw, f32::from_le_bytes)),
        DType::F64 => Data::F64(numbers(raw, f64::from_le_bytes)),
        DType::I32 => Data::I32(numbers(raw, i32::from_le_bytes)),
        DType::I64 => Data::I64(numbers(raw, i64::from_le_bytes)),
        _ => Data::Bool(raw.iter().map(|byte| *byte != 0).collect()),
    };
    if data.len() != shape.iter().product::<usize>() || (!raw.is_empty() && raw.len() != data.len() * dtype.size()) {
        return Err(wrong(format!("of shape {shape:?} holds {} elements", data.len())));
    }
    Ok((shape, data))
}

fn numbers<T, const N: usize>(raw: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)).collect()
}
