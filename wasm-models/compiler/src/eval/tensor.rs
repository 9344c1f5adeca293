//! What moves elements between values.

use super::{Input, Numbers, Output};
use crate::error::{CompileError, Result};
use crate::ir::{Data, Scalar};

/// The number of elements before and after an axis.
fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[..axis].iter().product(), shape[axis + 1..].iter().product())
}

pub(super) fn gather(axis: usize, inputs: &[Input]) -> Result<Data> {
    let Numbers::Int(indices) = Numbers::of(&inputs[1].data) else {
        return Err(CompileError::model("the indices of a gather are no integers"));
    };
    let size = inputs[0].shape[axis];
    let (before, after) = around(&inputs[0].shape, axis);
    let indices = indices.into_iter().map(|index| {
        let counted = if index < 0 { index.checked_add(size as i64) } else { Some(index) };
        let counted = counted.and_then(|index| usize::try_from(index).ok()).filter(|index| *index < size);
        counted.ok_or_else(|| CompileError::model(format!("index {index} is out of range of {size} entries")))
    });
    let indices = indices.collect::<Result<Vec<_>>>()?;
    let picked = (0..before).flat_map(|outer| {
        indices.iter().flat_map(move |index| (0..after).map(move |inner| (outer * size + index) * after + inner))
    });
    Ok(inputs[0].data.pick(picked))
}

pub(super) fn concat(axis: usize, inputs: &[Input], output: &Output) -> Data {
    // All elements one after another, then picked in the order of the output.
    let mut all = inputs[0].data.clone();
    let mut starts = vec![0];
    for input in &inputs[1..] {
        starts.push(all.len());
        append(&mut all, &input.data);
    }
    let (before, after) = around(&output.shape, axis);
    let mut positions = Vec::with_capacity(all.len());
    for outer in 0..before {
        for (input, start) in inputs.iter().zip(&starts) {
            let run = input.shape[axis] * after;
            positions.extend(start + outer * run..start + (outer + 1) * run);
        }
    }
    all.pick(positions.into_iter())
}

fn append(all: &mut Data, more: &Data) {
    match (all, more) {
        (Data::F32(all), Data::F32(more)) => all.extend(more),
        (Data::F64(all), Data::F64(more)) => all.extend(more),
        (Data::I32(all), Data::I32(more)) => all.extend(more),
        (Data::I64(all), Data::I64(more)) => all.extend(more),
        (Data::Bool(all), Data::Bool(more)) => all.extend(more),
        (Data::I8(all), Data::I8(more)) => all.extend(more),
        (all, more) => {
            let dtype = all.dtype();
            append(all, &Numbers::of(more).to(dtype));
        }
    }
}

pub(super) fn pad(before: &[usize], fill: Scalar, input: &Input, output: &Output) -> Data {
    let mut all = input.data.clone();
    let filler = all.len();
    let fill = match fill {
        Scalar::F32(x) => Data::F32(vec![x]),
        Scalar::F64(x) => Data::F64(vec![x]),
        Scalar::I32(x) => Data::I32(vec![x]),
        Scalar::I64(x) => Data::I64(vec![x]),
        Scalar::Bool(x) => Data::Bool(vec![x]),
    };
    append(&mut all, &fill);
    let rank = output.shape.len();
    let mut index = vec![0usize; rank];
    let positions = (0..output.len()).map(|_| {
        let mut at = 0;
        let mut inside = true;
        for axis in 0..rank {
            let here = index[axis].wrapping_sub(before[axis]);
            inside &= here < input.shape[axis];
            at = at * input.shape[axis] + here.min(input.shape[axis]);
        }
        for axis in (0..rank).rev() {
            index[axis] += 1;
            if index[axis] < output.shape[axis] {
                break;
            }
            index[axis] = 0;
        }
        if inside { at } else { filler }
    });
    let positions: Vec<usize> = positions.collect();
    all.pick(positions.into_iter())
}
