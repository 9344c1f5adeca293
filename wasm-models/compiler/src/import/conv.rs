//! Convolutions and pooling.
//!
//! A window that slides along a dimension is a view with one more dimension.

use super::movement::padded;
use super::{Builder, Call, linear};
use crate::error::Result;
use crate::ir::{Binary, Data, Expr, MAX_ELEMENTS, Op, Operand, Packing, Reduction, Scalar};

/// Lowers a node; `None` where its operator is none of these.
pub(super) fn import(builder: &mut Builder, call: &Call<'_>) -> Result<Option<Vec<Operand>>> {
    let result = match call.op {
        "Conv" => conv(builder, call)?,
        "MaxPool" => max_pool(builder, call)?,
        "AveragePool" => average_pool(builder, call)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![result]))
}

/// How a window slides along a dimension.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Of the dimension, without padding.
    size: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    /// Number of positions.
    out: usize,
}

impl Window {
    /// Whether it looks at each entry alone.
    fn is_point(self) -> bool {
        self.taps == 1 && self.before == 0 && self.after == 0
    }
}

/// The windows of all dimensions from the third on.
fn windows(call: &Call<'_>, x: &Operand, taps: &[usize]) -> Result<Vec<Window>> {
    let sizes = &x.shape[2..];
    let numbers = |name: &str, default: i64, least: i64, count: usize| {
        let given = call.ints(name).map_or_else(|| vec![default; count], <[i64]>::to_vec);
        let fits = given.len() == count && given.iter().all(|x| (least..=MAX_ELEMENTS as i64).contains(x));
        if fits {
            Ok(given.into_iter().map(|x| x as usize).collect::<Vec<_>>())
        } else {
            Err(call.error(format!("`{name}` is {given:?}, expected {count} numbers from {least} on")))
        }
    };
    let (strides, dilations) = (numbers("strides", 1, 1, sizes.len())?, numbers("dilations", 1, 1, sizes.len())?);
    let pads = numbers("pads", 0, 0, 2 * sizes.len())?;
    let auto = call.text("auto_pad").unwrap_or_else(|| "NOTSET".into());
    let rounds_up = call.int("ceil_mode", 0) != 0;
    let window = |axis: usize| {
        let (size, taps, stride, dilation) = (sizes[axis], taps[axis], strides[axis], dilations[axis]);
        if taps == 0 || taps > MAX_ELEMENTS {
            return Err(call.error(format!("a kernel of size {taps} is not lowered")));
        }
        let reach = (taps - 1) * dilation + 1;
        let (before, after) = match auto.as_str() {
            "NOTSET" => (pads[axis], pads[sizes.len() + axis]),
            "VALID" => (0, 0),
            "SAME_UPPER" | "SAME_LOWER" => {
                let out = size.div_ceil(stride);
                let total = (out.saturating_sub(1) * stride + reach).saturating_sub(size);
                let less = total / 2;
                if auto == "SAME_UPPER" { (less, total - less) } else { (total - less, less) }
            }
            other => {
                return Err(call.error(format!(
                    "`auto_pad` is `{other}`, expected `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`"
                )));
            }
        };
        let Some(room) = (size + before + after).checked_sub(reach) else {
            return Err(call.error(format!("dimension {} of {:?} is shorter than the kernel", axis + 2, x.shape)));
        };
        let mut out = room / stride + 1;
        // A window that starts in the padding behind the last entry does not count.
        if rounds_up && room % stride != 0 && out * stride < size + before {
            out += 1;
        }
        Ok(Window { size, taps, stride, dilation, before, after, out })
    };
    (0..sizes.len()).map(window).collect()
}

/// The view `[batch, channels, positions.., taps..]`; what lies outside reads as `fill`.
fn slide(builder: &mut Builder, call: &Call<'_>, x: &Operand, windows: &[Window], fill: Scalar) -> Result<Operand> {
    let (mut before, mut after) = (vec![0, 0], vec![0, 0]);
    for window in windows {
        let end = (window.out - 1) * window.stride + (window.taps - 1) * window.dilation + 1;
        before.push(window.before);
        after.push(end.saturating_sub(window.before + window.size));
    }
    let mut view = padded(builder, &call.name, x, &before, &after, fill)?;
    for (index, window) in windows.iter().enumerate() {
        let stride = view.strides[2 + index];
        view.shape.push(window.taps);
        view.strides.push(stride * window.dilation as isize);
        view.shape[2 + index] = window.out;
        view.strides[2 + index] = stride * window.stride as isize;
    }
    Ok(view)
}

fn conv(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (x, weights) = (call.input(0)?.clone(), call.input(1)?.clone());
    let dtype = builder.graph.dtype(&x);
    let wrong = |reason: &str| {
        call.error(format!("input of shape {:?} and weights of shape {:?}: {reason}", x.shape, weights.shape))
    };
    if x.rank() < 3 || weights.rank() != x.rank() {
        return Err(wrong("expected the same three or more dimensions"));
    }
    if !dtype.is_float() || builder.graph.dtype(&weights) != dtype {
        return Err(wrong("expected float32 or float64, and the same for both"));
    }
    let groups = usize::try_from(call.int("group", 1)).ok().filter(|groups| (1..=MAX_ELEMENTS).contains(groups));
    let groups = groups.ok_or_else(|| wrong("`group` is out of range"))?;
    let (outs, per_group) = (weights.shape[0], weights.shape[1]);
    if per_group * groups != x.shape[1] || outs % groups != 0 {
        return Err(wrong("the channels do not fit the groups"));
    }
    let taps = &weights.shape[2..];
    if call.ints("kernel_shape").is_some_and(|given| !given.iter().map(|x| *x as usize).eq(taps.iter().copied())) {
        return Err(wrong("`kernel_shape` is another"));
    }
    let windows = windows(call, &x, taps)?;
    let bias = match call.optional(2) {
        Some(bias) if bias.shape != [outs] => {
            return Err(wrong("the bias does not have one number per output channel"));
        }
        bias => bias.cloned(),
    };
    // Channels last, as the result is, too: `[batch, positions.., out]`.
    let wide = windows.iter().filter(|window| !window.is_point()).count();
    let product = if wide <= 1 {
        conv_along_one(builder, call, &x, &weights, &windows, groups)?
    } else {
        conv_by_product(builder, call, &x, &weights, &windows, groups)?
    };
    let result = match bias {
        Some(bias) => {
            builder.map(call, Expr::binary(Binary::Add, Expr::Input(0), Expr::Input(1)), &[&product, &bias])?
        }
        None => product,
    };
    let rank = result.rank();
    let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    Ok(result.transposed(&order))
}

/// A convolution along at most one dimension; the others are as good as the batch.
fn conv_along_one(
    builder: &mut Builder,
    call: &Call<'_>,
    x: &Operand,
    weights: &Operand,
    windows: &[Window],
    groups: usize,
) -> Result<Operand> {
    let along = windows.iter().position(|window| !window.is_point()).unwrap_or(windows.len() - 1);
    let window = windows[along];
    let mut x = x.clone();
    for (index, window) in windows.iter().enumerate().filter(|(index, _)| *index != along) {
        x = x.sliced(2 + index, 0, window.stride as isize, window.out);
    }
    let others: Vec<usize> = (0..windows.len()).filter(|index| *index != along).map(|index| 2 + index).collect();
    let order = [&[0][..], &others, &[2 + along, 1]].concat();
    let view = x.transposed(&order);
    let batch: usize = view.shape[..view.rank() - 2].iter().product();
    let flat = builder.reshaped(call, &view, &[batch, window.size, x.shape[1]])?;
    let mut kernel = weights.clone();
    for &axis in others.iter().rev() {
        kernel = kernel.squeezed(axis);
    }
    let outs = weights.shape[0];
    let op = Op::Conv {
        stride: window.stride,
        dilation: window.dilation,
        before: window.before,
        groups,
        epilogue: Expr::Result,
        packing: Packing::None,
    };
    let dtype = builder.graph.dtype(&x);
    let result =
        builder.add(&call.name, op, vec![flat, kernel.transposed(&[2, 1, 0])], dtype, &[batch, window.out, outs])?;
    let shape = [&view.shape[..view.rank() - 2], &[window.out, outs]].concat();
    let result = builder.reshaped(call, &result, &shape)?;
    // `[batch, others.., along, out]` with the dimensions in their order.
    let mut back: Vec<usize> = (0..shape.len()).collect();
    let moved = back.remove(shape.len() - 2);
    back.insert(1 + along, moved);
    Ok(result.transposed(&back))
}

/// A convolution along several dimensions: a copy of what each position sees, times the weights.
fn conv_by_product(
    builder: &mut Builder,
    call: &Call<'_>,
    x: &Operand,
    weights: &Operand,
    windows: &[Window],
    groups: usize,
) -> Result<Operand> {
    let zero = Scalar::of(builder.graph.dtype(x), 0.0);
    let seen = slide(builder, call, x, windows, zero)?;
    let (spatial, per_group, outs) = (windows.len(), weights.shape[1], weights.shape[0]);
    // `[batch, groups * in, positions.., taps..]` to `[groups, batch, positions.., taps.., in]`.
    let split = [&seen.shape[..1], &[groups, per_group], &seen.shape[2..]].concat();
    let seen = builder.reshaped(call, &seen, &split)?;
    let order: Vec<usize> = [1, 0].into_iter().chain(3..3 + 2 * spatial).chain([2]).collect();
    let positions: Vec<usize> = windows.iter().map(|window| window.out).collect();
    let rows = x.shape[0] * positions.iter().product::<usize>();
    let depth = per_group * windows.iter().map(|window| window.taps).product::<usize>();
    let a = builder.reshaped(call, &seen.transposed(&order), &[groups, rows, depth])?;
    // `[groups * out, in, taps..]` to `[groups, taps.., in, out]`.
    let split = [&[groups, outs / groups][..], &weights.shape[1..]].concat();
    let kernel = builder.reshaped(call, weights, &split)?;
    let order: Vec<usize> = [0].into_iter().chain(3..3 + spatial).chain([2, 1]).collect();
    let b = builder.reshaped(call, &kernel.transposed(&order), &[groups, depth, outs / groups])?;
    let batch = &x.shape[..1];
    if groups == 1 {
        let product = linear::product(builder, call, &a.squeezed(0), &b.squeezed(0))?;
        return builder.reshaped(call, &product, &[batch, &positions, &[outs]].concat());
    }
    let product = linear::product(builder, call, &a, &b)?;
    let product = builder.reshaped(call, &product, &[&[groups][..], batch, &positions, &[outs / groups]].concat())?;
    let order: Vec<usize> = (1..2 + spatial).chain([0, 2 + spatial]).collect();
    builder.reshaped(call, &product.transposed(&order), &[batch, &positions, &[outs]].concat())
}

/// The input of a pooling and its windows.
fn pool(builder: &Builder, call: &Call<'_>) -> Result<(Operand, Vec<Window>)> {
    let x = call.input(0)?.clone();
    let dtype = builder.graph.dtype(&x);
    if x.rank() < 3 || matches!(dtype, crate::ir::DType::Bool | crate::ir::DType::I8) {
        let name = dtype.name();
        return Err(call.error(format!("{name} of shape {:?}, expected numbers of three or more dimensions", x.shape)));
    }
    let taps = call.ints("kernel_shape").ok_or_else(|| call.error("`kernel_shape` is missing"))?;
    let taps = call.sizes("kernel_shape", taps)?;
    if taps.len() != x.rank() - 2 {
        return Err(call.error(format!("`kernel_shape` is {taps:?}, expected {} numbers", x.rank() - 2)));
    }
    let windows = windows(call, &x, &taps)?;
    Ok((x, windows))
}

fn reduced(builder: &mut Builder, call: &Call<'_>, view: &Operand, kind: Reduction, axes: usize) -> Result<Operand> {
    let (dtype, kept) = (builder.graph.dtype(view), view.rank() - axes);
    builder.add(&call.name, Op::Reduce { kind, axes }, vec![view.clone()], dtype, &view.shape[..kept])
}

fn max_pool(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (x, windows) = pool(builder, call)?;
    let least = Scalar::of(builder.graph.dtype(&x), f64::NEG_INFINITY);
    let view = slide(builder, call, &x, &windows, least)?;
    reduced(builder, call, &view, Reduction::Max, windows.len())
}

fn average_pool(builder: &mut Builder, call: &Call<'_>) -> Result<Operand> {
    let (x, windows) = pool(builder, call)?;
    let dtype = builder.graph.dtype(&x);
    if !dtype.is_float() {
        return Err(call.error(format!("the input is {}, expected float32 or float64", dtype.name())));
    }
    let view = slide(builder, call, &x, &windows, Scalar::of(dtype, 0.0))?;
    builder.spend(&call.name, windows.iter().map(|window| window.out).sum())?;
    let pads_count = call.int("count_include_pad", 0) != 0;
    // How many numbers a position averages: the product of those along each dimension.
    let counts = |window: &Window| {
        let (low, high) = if pads_count { (window.before, window.after) } else { (0, 0) };
        // The first tap that is inside, and the first behind the end; positions count from the start of the padding.
        let (start, end) = (window.before - low, window.before + window.size + high);
        let count = |position: usize| {
            let first = start.saturating_sub(position * window.stride).div_ceil(window.dilation);
            let last = end.saturating_sub(position * window.stride).div_ceil(window.dilation);
            last.min(window.taps).saturating_sub(first)
        };
        (0..window.out).map(count).collect::<Vec<_>>()
    };
    let counts: Vec<Vec<usize>> = windows.iter().map(counts).collect();
    if counts.iter().zip(&windows).all(|(counts, window)| counts.iter().all(|count| *count == window.taps)) {
        return reduced(builder, call, &view, Reduction::Mean, windows.len());
    }
    let sum = reduced(builder, call, &view, Reduction::Sum, windows.len())?;
    builder.spend(&call.name, sum.len())?;
    let mut all = vec![1.0];
    for counts in &counts {
        all = all.iter().flat_map(|all| counts.iter().map(move |count| all * *count as f64)).collect();
    }
    let shape: Vec<usize> = counts.iter().map(Vec::len).collect();
    let data = match dtype {
        crate::ir::DType::F64 => Data::F64(all),
        _ => Data::F32(all.into_iter().map(|count| count as f32).collect()),
    };
    let all = builder.constant(&format!("{}.counts", call.name), &shape, data)?;
    builder.map(call, Expr::binary(Binary::Div, Expr::Input(0), Expr::Input(1)), &[&sum, &all])
}
