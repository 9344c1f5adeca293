//! Matrix products and convolutions.

use super::{Input, Numbers, Output};
use crate::ir::Data;

/// Adds products, in double precision or as wrapping 64-bit integers.
fn dot(a: &Numbers, b: &Numbers, output: &Output, sum: impl Fn(usize, &mut dyn FnMut(usize, usize))) -> Data {
    let numbers = match (a, b) {
        (Numbers::Int(a), Numbers::Int(b)) => {
            let total = |index| {
                let mut total = 0i64;
                sum(index, &mut |i, j| total = total.wrapping_add(a[i].wrapping_mul(b[j])));
                total
            };
            Numbers::Int((0..output.len()).map(total).collect())
        }
        (a, b) => {
            let (a, b) = (a.clone().floats(), b.clone().floats());
            let total = |index| {
                let mut total = 0.0;
                sum(index, &mut |i, j| total += a[i] * b[j]);
                total
            };
            Numbers::Float((0..output.len()).map(total).collect())
        }
    };
    numbers.to(output.dtype)
}

pub(super) fn matmul(inputs: &[Input], output: &Output) -> Data {
    let [a, b] = [&inputs[0], &inputs[1]];
    let (k, n) = (b.shape[b.shape.len() - 2], b.shape[b.shape.len() - 1]);
    let m = a.shape[a.shape.len() - 2];
    dot(&Numbers::of(&a.data), &Numbers::of(&b.data), output, |index, add| {
        let (row, column) = (index / n, index % n);
        let matrix = row / m;
        for i in 0..k {
            add(row * k + i, (matrix * k + i) * n + column);
        }
    })
}

pub(super) fn conv(inputs: &[Input], output: &Output, [stride, dilation, before, groups]: [usize; 4]) -> Data {
    let [x, weights] = [&inputs[0], &inputs[1]];
    let (length, channels) = (x.shape[1], x.shape[2]);
    let (taps, per_group) = (weights.shape[0], weights.shape[1]);
    let (positions, outs) = (output.shape[1], output.shape[2]);
    dot(&Numbers::of(&x.data), &Numbers::of(&weights.data), output, |index, add| {
        let out = index % outs;
        let position = index / outs % positions;
        let batch = index / outs / positions;
        let first = out / (outs / groups) * per_group;
        for tap in 0..taps {
            let at = (position * stride + tap * dilation).wrapping_sub(before);
            if at < length {
                for channel in 0..per_group {
                    add((batch * length + at) * channels + first + channel, (tap * per_group + channel) * outs + out);
                }
            }
        }
    })
}
