//! What changes shapes, and what computes with them. Almost all of it is views and constants.

use std::sync::Arc;

use super::builder::{broadcast_shape, check_shape};
use super::{Builder, Call, tensor};
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Scalar};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let result = match call.op {
        "Transpose" => transpose(call)?,
        "Reshape" => reshape(builder, call)?,
        "Flatten" => flatten(builder, call)?,
        "Squeeze" => squeeze(builder, call)?,
        "Unsqueeze" => unsqueeze(builder, call)?,
        "Expand" => expand(builder, call)?,
        "Tile" => tile(builder, call)?,
        "Concat" => concat(builder, call)?,
        "Split" => return split(builder, call).map(Some),
        "DepthToSpace" => depth_to_space(builder, call)?,
        "SpaceToDepth" => space_to_depth(builder, call)?,
        "Constant" => constant(builder, call)?,
        "ConstantOfShape" => constant_of_shape(builder, call)?,
        "Shape" => {
            let shape = &call.input(0)?.shape;
            let rank = shape.len() as i64;
            let at = |index: i64| if index < 0 { index.saturating_add(rank) } else { index }.clamp(0, rank) as usize;
            let (start, end) = (at(call.int("start", 0)), at(call.int("end", rank)));
            let sizes: Vec<i64> = shape.get(start..end).unwrap_or_default().iter().map(|size| *size as i64).collect();
            builder.constant(&call.name, &[sizes.len()], Data::I64(sizes))?
        }
        "Size" => {
            let size = call.input(0)?.len() as i64;
            builder.constant(&call.name, &[], Data::I64(vec![size]))?
        }
        "Range" => range(builder, call)?,
        "EyeLike" => eye_like(builder, call)?,
        "Trilu" => trilu(builder, call)?,
        "OneHot" => one_hot(builder, call)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![result]))
}

fn transpose(call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?;
    let rank = x.rank();
    let order = match call.ints("perm") {
        Some(perm) => perm.iter().map(|&axis| call.axis(axis, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(call.error(format!("`perm` is {order:?}, expected each of {rank} dimensions once")));
    }
    Ok(x.transposed(&order))
}

fn reshape(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let wanted = match call.given_ints(builder, "shape", 1)? {
        Some(wanted) => wanted,
        None => return Err(call.error("input 1 (the shape) is missing")),
    };
    let wrong = || call.error(format!("shape {:?} does not reshape to {wanted:?}", x.shape));
    let keeps_zero = call.int("allowzero", 0) != 0;
    let mut shape = Vec::new();
    let mut open = None;
    for (axis, &size) in wanted.iter().enumerate() {
        shape.push(match size {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !keeps_zero => *x.shape.get(axis).ok_or_else(wrong)?,
            size => usize::try_from(size).map_err(|_| wrong())?,
        });
    }
    check_shape(&shape).map_err(|reason| call.error(format!("the result {reason}")))?;
    if let Some(open) = open {
        let others: usize = shape.iter().product();
        if others == 0 || x.len() % others != 0 {
            return Err(wrong());
        }
        shape[open] = x.len() / others;
    }
    builder.reshaped(call, &x, &shape)
}

fn flatten(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?.clone();
    let axis = call.int("axis", 1);
    let axis = if axis == x.rank() as i64 { x.rank() } else { call.axis(axis, x.rank())? };
    let shape = [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
    builder.reshaped(call, &x, &shape)
}

fn squeeze(builder: &Builder, call: &Call<'_>) -> Result<Operand> {
    let mut x = call.input(0)?.clone();
    let axes = match call.given_ints(builder, "axes", 1)? {
        Some(axes) => call.axes(&axes, x.rank())?,
        None => (0..x.rank()).filter(|&axis| x.shape[axis] == 1).collect(),
    };
    for axis in axes.into_iter().rev() {
        if x.shape[axis] != 1 {
            return Err(call.error(format!("dimension {axis} of {:?} is not 1", x.shape)));
        }
        x = x.squeezed(axis);
    }
    Ok(x)
}

fn unsqueeze(builder: &Builder, call: &Call<'_>) -> Result<Operand> {
    let mut x = call.input(0)?.clone();
    let axes = call.given_ints(builder, "axes", 1)?.ok_or_else(|| call.error("`axes` is missing"))?;
    check_shape(&vec![1; x.rank() + axes.len()]).map_err(|reason| call.error(format!("the result {reason}")))?;
    for axis in call.axes(&axes, x.rank() + axes.len())? {
        x = x.unsqueezed(axis);
    }
    Ok(x)
}

fn expand(builder: &Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?;
    let wanted = call.sizes("shape", &call.constant_ints(builder, 1)?)?;
    let shape = broadcast_shape([x.shape.as_slice(), &wanted].into_iter());
    let shape = shape.ok_or_else(|| call.error(format!("shape {:?} does not expand to {wanted:?}", x.shape)))?;
    check_shape(&shape).map_err(|reason| call.error(format!("the result {reason}")))?;
    x.broadcast(&shape).ok_or_else(|| call.error(format!("shape {:?} does not expand to {shape:?}", x.shape)))
}

fn tile(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    if call.version < 6 {
        return Err(call.error("`Tile` before operator set 6 is not lowered"));
    }
    let x = call.input(0)?.clone();
    let repeats = call.sizes("repeats", &call.constant_ints(builder, 1)?)?;
    if repeats.len() != x.rank() {
        return Err(call.error(format!("{} repeats, expected one for each of {} dimensions", repeats.len(), x.rank())));
    }
    let result: Option<Vec<usize>> = x.shape.iter().zip(&repeats).map(|(size, n)| size.checked_mul(*n)).collect();
    let result = result.unwrap_or_else(|| vec![usize::MAX]);
    check_shape(&result).map_err(|reason| call.error(format!("the result {reason}")))?;
    // [a, b] to [r, a, s, b] to [r * a, s * b]. What is not repeated needs no dimension.
    let mut view = Operand { shape: Vec::new(), strides: Vec::new(), ..x.clone() };
    for (axis, &n) in repeats.iter().enumerate() {
        if n != 1 {
            view.shape.push(n);
            view.strides.push(0);
        }
        view.shape.push(x.shape[axis]);
        view.strides.push(x.strides[axis]);
    }
    builder.reshaped(call, &view, &result)
}

/// Operands of one type and, but for `axis`, one shape, one after another.
pub(super) fn joined(builder: &mut Builder, call: &Call<'_>, axis: usize, parts: Vec<Operand>) -> Result<Operand> {
    let first = parts.first().ok_or_else(|| call.error("there is no input"))?;
    if parts.len() == 1 {
        return Ok(first.clone());
    }
    let dtype = builder.graph.dtype(first);
    let mut shape = first.shape.clone();
    for part in &parts[1..] {
        let mut other = part.shape.clone();
        let fits = other.len() == shape.len() && {
            other[axis] = shape[axis];
            other == shape
        };
        if !fits || builder.graph.dtype(part) != dtype {
            let (a, b) = (dtype.name(), builder.graph.dtype(part).name());
            return Err(call.error(format!("{a} {shape:?} and {b} {:?} do not join along {axis}", part.shape)));
        }
        shape[axis] += part.shape[axis];
    }
    builder.add(&call.name, Op::Concat { axis }, parts, dtype, &shape)
}

fn concat(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let parts = (0..call.inputs.len()).map(|index| call.input(index).cloned()).collect::<Result<Vec<_>>>()?;
    let axis = call.axis(call.int("axis", 1), call.input(0)?.rank())?;
    joined(builder, call, axis, parts)
}

fn split(builder: &Builder, call: &Call<'_>) -> Result<Vec<Operand>> {
    let x = call.input(0)?;
    let axis = call.axis(call.int("axis", 0), x.rank())?;
    let size = x.shape[axis];
    let sizes = match call.given_ints(builder, "split", 1)? {
        Some(sizes) => call.sizes("split", &sizes)?,
        None => {
            let count = call.int("num_outputs", call.node.output.len() as i64);
            let count = usize::try_from(count).ok().filter(|count| (1..=size.max(1)).contains(count));
            let count = count.ok_or_else(|| {
                call.error(format!("dimension {axis} of {:?} does not split into that many parts", x.shape))
            })?;
            if call.version < 18 && size % count != 0 {
                return Err(
                    call.error(format!("dimension {axis} of {:?} does not split into {count} equal parts", x.shape))
                );
            }
            let part = size.div_ceil(count);
            (0..count).map(|index| part.min(size.saturating_sub(index * part))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |sum, part| sum.checked_add(*part)) != Some(size) {
        return Err(call.error(format!("parts {sizes:?} do not add up to dimension {axis} of {:?}", x.shape)));
    }
    let mut start = 0;
    let parts = sizes.into_iter().map(|size| {
        start += size;
        x.sliced(axis, start - size, 1, size)
    });
    Ok(parts.collect())
}

/// The four dimensions of an image and the size of a block.
fn blocks(call: &Call<'_>) -> Result<([usize; 4], usize)> {
    let x = call.input(0)?;
    let shape = <[usize; 4]>::try_from(x.shape.as_slice());
    let shape = shape.map_err(|_| call.error(format!("shape {:?}, expected four dimensions", x.shape)))?;
    let size = usize::try_from(call.int("blocksize", 0)).ok().filter(|size| (1..1 << 12).contains(size));
    Ok((shape, size.ok_or_else(|| call.error("`blocksize` is out of range, expected 1 to 4095"))?))
}

fn depth_to_space(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let ([n, c, h, w], size) = blocks(call)?;
    if c % (size * size) != 0 {
        return Err(call.error(format!("{c} channels do not divide by the square of {size}")));
    }
    let channels = c / (size * size);
    let (split, order) = match call.text("mode").as_deref() {
        None | Some("DCR") => ([n, size, size, channels, h, w], [0, 3, 4, 1, 5, 2]),
        Some("CRD") => ([n, channels, size, size, h, w], [0, 1, 4, 2, 5, 3]),
        Some(other) => return Err(call.error(format!("`mode` is `{other}`, expected `DCR` or `CRD`"))),
    };
    let x = call.input(0)?.clone();
    let split = builder.reshaped(call, &x, &split)?;
    builder.reshaped(call, &split.transposed(&order), &[n, channels, h * size, w * size])
}

fn space_to_depth(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let ([n, c, h, w], size) = blocks(call)?;
    if h % size != 0 || w % size != 0 {
        return Err(call.error(format!("{h} by {w} does not divide by {size}")));
    }
    let x = call.input(0)?.clone();
    let split = builder.reshaped(call, &x, &[n, c, h / size, size, w / size, size])?;
    builder.reshaped(call, &split.transposed(&[0, 3, 5, 1, 2, 4]), &[n, c * size * size, h / size, w / size])
}

fn constant(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (shape, data) = if let Some(tensor) = call.tensor("value") {
        let (shape, data) = tensor::read(tensor)?;
        return Ok(builder.share(&call.name, &shape, &Arc::new(data)));
    } else if call.has("value_float") {
        (vec![], Data::F32(vec![call.float("value_float", 0.0)]))
    } else if call.has("value_int") {
        (vec![], Data::I64(vec![call.int("value_int", 0)]))
    } else if let Some(data) = call.floats("value_floats") {
        (vec![data.len()], Data::F32(data.to_vec()))
    } else if let Some(data) = call.ints("value_ints") {
        (vec![data.len()], Data::I64(data.to_vec()))
    } else {
        return Err(call.error("expected `value`, `value_float(s)` or `value_int(s)`"));
    };
    builder.constant(&call.name, &shape, data)
}

fn constant_of_shape(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let shape = call.sizes("shape", &call.constant_ints(builder, 0)?)?;
    check_shape(&shape).map_err(|reason| call.error(format!("the result {reason}")))?;
    let data = match call.tensor("value") {
        Some(value) => tensor::read(value)?.1,
        None => Data::F32(vec![0.0]),
    };
    if data.len() != 1 {
        return Err(call.error(format!("`value` has {} elements, expected 1", data.len())));
    }
    let number = builder.constant(&call.name, &[], data)?;
    number.broadcast(&shape).ok_or_else(|| call.error("a number does not expand"))
}

/// The numbers of inputs that are constants of one element and one type.
fn numbers(builder: &Builder, call: &Call<'_>, count: usize) -> Result<Vec<Scalar>> {
    let number = |index| match builder.scalar(call.input(index)?) {
        Some(number) => Ok(number),
        None => Err(call.error(format!("input {index} is no constant of one element, which is what is lowered"))),
    };
    let numbers = (0..count).map(number).collect::<Result<Vec<_>>>()?;
    if numbers.windows(2).any(|pair| pair[0].dtype() != pair[1].dtype()) {
        return Err(call.error("the inputs have different types"));
    }
    Ok(numbers)
}

/// Most elements of a `Range`.
const MAX_RANGE: usize = 1 << 24;

fn range(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let numbers = numbers(builder, call, 3)?;
    let checked = |count: f64| {
        // NaN is refused, too.
        if count <= MAX_RANGE as f64 {
            Ok(count.max(0.0) as usize)
        } else {
            Err(call.error(format!("{count} elements, expected at most {MAX_RANGE}")))
        }
    };
    let floats = |start: f64, limit: f64, delta: f64| {
        let count = checked(((limit - start) / delta).ceil());
        count.map(|count| (0..count).map(move |index| start + index as f64 * delta))
    };
    let ints = |start: i64, limit: i64, delta: i64| {
        if delta == 0 {
            return Err(call.error("the step is 0"));
        }
        let (span, step) = (i128::from(limit) - i128::from(start), i128::from(delta));
        let count = checked(((span + step - step.signum()) / step) as f64)?;
        Ok((0..count).map(move |index| start.wrapping_add(delta.wrapping_mul(index as i64))))
    };
    let data = match numbers[..] {
        [Scalar::F32(a), Scalar::F32(b), Scalar::F32(c)] => {
            Data::F32(floats(a.into(), b.into(), c.into())?.map(|x| x as f32).collect())
        }
        [Scalar::F64(a), Scalar::F64(b), Scalar::F64(c)] => Data::F64(floats(a, b, c)?.collect()),
        [Scalar::I32(a), Scalar::I32(b), Scalar::I32(c)] => {
            Data::I32(ints(a.into(), b.into(), c.into())?.map(|x| x as i32).collect())
        }
        [Scalar::I64(a), Scalar::I64(b), Scalar::I64(c)] => Data::I64(ints(a, b, c)?.collect()),
        _ => return Err(call.error("the inputs are bool, expected numbers")),
    };
    builder.constant(&call.name, &[data.len()], data)
}

/// The sizes of the last two dimensions, where there are two.
fn matrix(call: &Call<'_>, x: &Operand) -> Result<[usize; 2]> {
    let last = x.shape.last_chunk::<2>();
    last.copied().ok_or_else(|| call.error(format!("shape {:?}, expected two or more dimensions", x.shape)))
}

/// A bool for each element of a matrix, by row and column.
fn mask(builder: &mut Builder, call: &Call<'_>, size: [usize; 2], holds: impl Fn(i64, i64) -> bool) -> Result<Operand> {
    builder.spend(&call.name, size[0] * size[1])?;
    let [rows, columns] = size.map(|size| size as i64);
    let data = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let data = data.map(|(row, column)| holds(row, column)).collect();
    builder.constant(&format!("{}.mask", call.name), &size, Data::Bool(data))
}

fn eye_like(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?;
    let size = matrix(call, x)?;
    let code = call.int("dtype", 0);
    let dtype = match i32::try_from(code).ok().filter(|_| call.has("dtype")) {
        Some(code) => tensor::dtype(code),
        None => Some(builder.graph.dtype(x)),
    };
    let dtype =
        dtype.ok_or_else(|| call.error(format!("`dtype` is {}, expected {}", tensor::name(code), tensor::ACCEPTED)))?;
    let k = call.int("k", 0);
    let mask = mask(builder, call, size, |row, column| column.checked_sub(row) == Some(k))?;
    super::elementwise::cast(builder, call, &mask, dtype)
}

fn trilu(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let x = call.input(0)?;
    let size = matrix(call, x)?;
    let k = match call.optional(1) {
        Some(_) => call.constant_ints(builder, 1)?.first().copied().unwrap_or(0),
        None => 0,
    };
    let upper = call.int("upper", 1) != 0;
    let mask = mask(builder, call, size, |row, column| if upper { column - row >= k } else { column - row <= k })?;
    let zero = Expr::Const(Scalar::of(builder.graph.dtype(x), 0.0));
    builder.map(call, Expr::select(Expr::Input(0), Expr::Input(1), zero), &[&mask, x])
}

/// `on` where the index is that of the position along a new dimension, else `off`.
fn one_hot(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let indices = call.input(0)?;
    let depth = super::elementwise::only_number(builder, call.input(1)?).map(|depth| depth as i64);
    let depth = depth.filter(|depth| (1..=1 << 20).contains(depth));
    let depth = depth.ok_or_else(|| call.error("input 1 (the depth) is no constant from 1 to 2^20"))?;
    let axis = call.axis(call.int("axis", -1), indices.rank() + 1)?;
    let values = call.input(2)?;
    if values.shape != [2] {
        return Err(call.error(format!("input 2 has shape {:?}, expected [2]", values.shape)));
    }
    let (off, on) = (values.sliced(0, 0, 1, 1).squeezed(0), values.sliced(0, 1, 1, 1).squeezed(0));
    let mut shape = vec![1; indices.rank() + 1];
    shape[axis] = depth as usize;
    let positions = builder.constant(&call.name, &shape, Data::I64((0..depth).collect()))?;
    let index = Expr::Cast(DType::I64, Box::new(Expr::Input(0)));
    let negative = Expr::binary(Binary::Less, index.clone(), Expr::Const(Scalar::I64(0)));
    let counted = Expr::binary(Binary::Add, index.clone(), Expr::Const(Scalar::I64(depth)));
    let equal = Expr::binary(Binary::Equal, Expr::select(negative, counted, index), Expr::Input(1));
    let expr = Expr::select(equal, Expr::Input(3), Expr::Input(2));
    builder.map(call, expr, &[&indices.unsqueezed(axis), &positions, &off, &on])
}
