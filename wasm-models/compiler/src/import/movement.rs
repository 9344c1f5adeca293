//! What picks elements: Slice, Gather, Pad.

use super::shape::joined;
use super::{Builder, Call};
use crate::error::Result;
use crate::ir::{DType, Data, Op, Operand, Scalar, row_major};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let result = match call.op {
        "Slice" => slice(builder, call)?,
        "Gather" => gather(builder, call)?,
        "Pad" => pad(builder, call)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![result]))
}

fn slice(builder: &Builder, call: &Call<'_>) -> Result<Operand> {
    let mut x = call.input(0)?.clone();
    let given = |name, index| call.given_ints(builder, name, index);
    let missing = |name| call.error(format!("`{name}` is missing"));
    let starts = given("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = given("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let axes = given("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = given("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(call.error("starts, ends, axes and steps have different lengths"));
    }
    call.axes(&axes, x.rank())?;
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = call.axis(axis, x.rank())?;
        let size = x.shape[axis] as i64;
        let counted = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
        let (start, end) = match step {
            0 => return Err(call.error("a step is 0")),
            1.. => (counted(start).clamp(0, size), counted(end).clamp(0, size)),
            _ => (counted(start).clamp(-1, size - 1), counted(end).clamp(-1, size - 1)),
        };
        let (span, stride) = (if step > 0 { end - start } else { start - end }, step.unsigned_abs());
        let count = if span > 0 { (span as u64).div_ceil(stride) as usize } else { 0 };
        // The step between elements that are not there could be too large to say.
        let step = if count > 1 { step as isize } else { 1 };
        x = x.sliced(axis, start.max(0) as usize, step, count);
    }
    Ok(x)
}

/// Entries of a dimension whose indices are known: a view where they are equally far from each other.
pub(super) fn picked(
    builder: &mut Builder,
    call: &Call<'_>,
    x: &Operand,
    axis: usize,
    indices: &[usize],
    shape: &[usize],
) -> Result<Operand> {
    let step = match indices {
        [a, b, ..] => *b as isize - *a as isize,
        _ => 1,
    };
    let result = [&x.shape[..axis], shape, &x.shape[axis + 1..]].concat();
    if indices.windows(2).all(|pair| pair[1] as isize - pair[0] as isize == step) {
        super::builder::check_shape(&result).map_err(|reason| call.error(format!("the result {reason}")))?;
        let view = x.sliced(axis, indices.first().copied().unwrap_or(0), step, indices.len());
        let inner = row_major(shape).into_iter().map(|stride| stride * view.strides[axis]).collect::<Vec<_>>();
        let strides = [&view.strides[..axis], &inner, &view.strides[axis + 1..]].concat();
        return Ok(Operand { shape: result, strides, ..view });
    }
    let data = Data::I64(indices.iter().map(|index| *index as i64).collect());
    let indices = builder.constant(&format!("{}.indices", call.name), shape, data)?;
    let dtype = builder.graph.dtype(x);
    builder.add(&call.name, Op::Gather { axis }, vec![x.clone(), indices], dtype, &result)
}

fn gather(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (x, indices) = (call.input(0)?.clone(), call.input(1)?.clone());
    let axis = call.axis(call.int("axis", 0), x.rank())?;
    let size = x.shape[axis];
    let is_constant = builder.graph.value(indices.value).data.is_some();
    if is_constant && indices.len() <= super::attributes::MAX_INTS {
        builder.spend(&call.name, indices.len())?;
        let known = call.constant_ints(builder, 1)?;
        let counted = known.into_iter().map(|index| {
            let counted = if index < 0 { index.saturating_add(size as i64) } else { index };
            usize::try_from(counted).ok().filter(|index| *index < size).ok_or_else(|| {
                call.error(format!("index {index} is out of range of dimension {axis} of {:?}", x.shape))
            })
        });
        let known = counted.collect::<Result<Vec<_>>>()?;
        return picked(builder, call, &x, axis, &known, &indices.shape);
    }
    let dtype = builder.graph.dtype(&x);
    let indices = match builder.graph.dtype(&indices) {
        DType::I64 => indices,
        DType::I32 => super::elementwise::cast(builder, call, &indices, DType::I64)?,
        other => return Err(call.error(format!("the indices are {}, expected int64 or int32", other.name()))),
    };
    let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
    builder.add(&call.name, Op::Gather { axis }, vec![x, indices], dtype, &shape)
}

/// The constant that fills a padding.
fn fill(builder: &Builder, call: &Call<'_>, dtype: DType) -> Result<Scalar> {
    let Some(value) = call.optional(2) else { return Ok(Scalar::of(dtype, f64::from(call.float("value", 0.0)))) };
    match builder.scalar(value) {
        Some(number) if number.dtype() == dtype => Ok(number),
        _ => Err(call.error(format!("input 2 (the filling) is no constant {} of one element", dtype.name()))),
    }
}

fn pad(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let mut x = call.input(0)?.clone();
    let name = if call.version < 2 { "paddings" } else { "pads" };
    let pads = call.given_ints(builder, name, 1)?.ok_or_else(|| call.error("`pads` is missing"))?;
    let axes = match call.optional(3) {
        Some(_) => call.constant_ints(builder, 3)?,
        None => (0..x.rank() as i64).collect(),
    };
    call.axes(&axes, x.rank())?;
    if pads.len() != 2 * axes.len() {
        return Err(call.error(format!("`pads` has {} numbers, expected {}", pads.len(), 2 * axes.len())));
    }
    let limit = crate::ir::MAX_ELEMENTS as i64;
    if let Some(wide) = pads.iter().find(|pad| !(-limit..=limit).contains(*pad)) {
        return Err(call.error(format!("`pads` holds {wide}, which is too large")));
    }
    let mode = call.text("mode").unwrap_or_else(|| "constant".into());
    let (mut before, mut after) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (index, axis) in axes.iter().enumerate() {
        let axis = call.axis(*axis, x.rank())?;
        // Negative ones cut.
        let (low, high) = (pads[index], pads[index + axes.len()]);
        let (cut, size) = ((-low).max(0) + (-high).max(0), x.shape[axis] as i64);
        if cut > size {
            return Err(call.error(format!("`pads` cuts {cut} of {size} entries of dimension {axis}")));
        }
        x = x.sliced(axis, (-low).max(0) as usize, 1, (size - cut) as usize);
        (before[axis], after[axis]) = (low.max(0) as usize, high.max(0) as usize);
    }
    if mode == "constant" {
        let fill = fill(builder, call, builder.graph.dtype(&x))?;
        return padded(builder, &call.name, &x, &before, &after, fill);
    }
    let result: Vec<usize> = x.shape.iter().zip(before.iter().zip(&after)).map(|(size, (a, b))| size + a + b).collect();
    super::builder::check_shape(&result).map_err(|reason| call.error(format!("the result {reason}")))?;
    builder.spend(&call.name, result.iter().sum())?;
    for axis in 0..x.rank() {
        x = mirrored(builder, call, &mode, &x, axis, (before[axis], after[axis]))?;
    }
    Ok(x)
}

/// Constants around a tensor; itself where there are none.
pub(super) fn padded(
    builder: &mut Builder,
    name: &str,
    x: &Operand,
    before: &[usize],
    after: &[usize],
    fill: Scalar,
) -> Result<Operand> {
    if before.iter().chain(after).all(|pad| *pad == 0) {
        return Ok(x.clone());
    }
    let shape: Vec<usize> = x.shape.iter().zip(before.iter().zip(after)).map(|(size, (a, b))| size + a + b).collect();
    let dtype = builder.graph.dtype(x);
    if fill.dtype() != dtype {
        let reason = format!("{} cannot be padded with {}", dtype.name(), fill.dtype().name());
        return Err(crate::error::CompileError::node(name, reason));
    }
    builder.add(name, Op::Pad { before: before.to_vec(), fill }, vec![x.clone()], dtype, &shape)
}

/// Continues one dimension by its own entries.
fn mirrored(
    builder: &mut Builder,
    call: &Call<'_>,
    mode: &str,
    x: &Operand,
    axis: usize,
    (before, after): (usize, usize),
) -> Result<Operand> {
    if (before, after) == (0, 0) {
        return Ok(x.clone());
    }
    let size = x.shape[axis];
    if !["edge", "wrap", "reflect"].contains(&mode) {
        return Err(call.error(format!("`mode` is `{mode}`, expected `constant`, `reflect`, `edge` or `wrap`")));
    }
    if size == 0 {
        return Err(call.error(format!("dimension {axis} of {:?} has no entry to continue it", x.shape)));
    }
    let entry = |at: isize| {
        let size = size as isize;
        let index = match mode {
            "edge" => at.clamp(0, size - 1),
            "wrap" => at.rem_euclid(size),
            // One entry is its own reflection.
            _ if size == 1 => 0,
            _ => {
                let period = 2 * (size - 1);
                let at = at.rem_euclid(period);
                at.min(period - at)
            }
        };
        index as usize
    };
    let run = |from: isize, to: isize| (from..to).map(entry).collect::<Vec<_>>();
    let mut parts = Vec::new();
    for indices in [run(-(before as isize), 0), (0..size).collect(), run(size as isize, (size + after) as isize)] {
        if !indices.is_empty() {
            parts.push(picked(builder, call, x, axis, &indices, &[indices.len()])?);
        }
    }
    joined(builder, call, axis, parts)
}
