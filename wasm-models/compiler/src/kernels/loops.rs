//! Loops over strided operands.

use crate::emit::{At, Func, I32};
use crate::error::Result;

/// A pointer to the first element of an operand, and its strides in bytes.
#[derive(Debug, Clone)]
pub(super) struct Strided {
    pub(super) pointer: I32,
    pub(super) strides: Vec<isize>,
}

impl Strided {
    /// From strides in elements.
    pub(super) fn new(pointer: I32, strides: &[isize], size: usize) -> Self {
        Self { pointer, strides: strides.iter().map(|stride| stride * size as isize).collect() }
    }
}

/// Drops axes of size 1 and joins those that follow one another in all operands. At least one axis remains.
pub(super) fn merge(shape: &[usize], operands: &mut [Strided]) -> Vec<usize> {
    let mut merged = Vec::<usize>::new();
    let mut strides = vec![Vec::<isize>::new(); operands.len()];
    for (axis, &size) in shape.iter().enumerate().filter(|(_, size)| **size != 1) {
        let follows = !merged.is_empty()
            && strides
                .iter()
                .zip(&*operands)
                .all(|(done, operand)| done.last() == Some(&operand.strides[axis].wrapping_mul(size as isize)));
        match merged.last_mut() {
            Some(last) if follows => {
                *last *= size;
                for (done, operand) in strides.iter_mut().zip(&*operands) {
                    done.pop();
                    done.push(operand.strides[axis]);
                }
            }
            _ => {
                merged.push(size);
                for (done, operand) in strides.iter_mut().zip(&*operands) {
                    done.push(operand.strides[axis]);
                }
            }
        }
    }
    if merged.is_empty() {
        merged.push(1);
        strides.iter_mut().for_each(|done| done.push(0));
    }
    for (operand, done) in operands.iter_mut().zip(strides) {
        operand.strides = done;
    }
    merged
}

/// Runs `body` for every index of the axes of `shape`, with pointers to where the operands' elements lie. Strides of further axes are ignored.
pub(super) fn nest(
    f: &mut Func,
    shape: &[usize],
    operands: &[Strided],
    body: &mut dyn FnMut(&mut Func, &[I32]) -> Result<()>,
) -> Result<()> {
    if shape.contains(&0) {
        return Ok(());
    }
    f.scope(|f| {
        let pointers: Vec<I32> = operands
            .iter()
            .map(|operand| {
                let moves = operand.strides[..shape.len()].iter().any(|stride| *stride != 0);
                if moves { f.copy(operand.pointer) } else { operand.pointer }
            })
            .collect();
        level(f, 0, shape, operands, &pointers, body)
    })
}

fn level(
    f: &mut Func,
    axis: usize,
    shape: &[usize],
    operands: &[Strided],
    pointers: &[I32],
    body: &mut dyn FnMut(&mut Func, &[I32]) -> Result<()>,
) -> Result<()> {
    if axis == shape.len() {
        return body(f, pointers);
    }
    // A turn of the inner axes leaves the pointers behind their last element.
    let moves: Vec<(I32, i32)> = operands
        .iter()
        .zip(pointers)
        .map(|(operand, &pointer)| {
            let inner = if axis + 1 < shape.len() { operand.strides[axis + 1] * shape[axis + 1] as isize } else { 0 };
            (pointer, (operand.strides[axis] - inner) as i32)
        })
        .collect();
    let mut result = Ok(());
    f.walk(shape[axis], &moves, |f| result = level(f, axis + 1, shape, operands, pointers, body));
    result
}

/// Runs `body` for `count` pieces, `unroll` of them in a turn, with pointers that move on by some bytes after each piece. `body` gets the
/// number of the piece in the turn, from 0 on, and must add the bytes itself. The pointers are left behind the last piece.
pub(super) fn pieces(
    f: &mut Func,
    count: usize,
    unroll: usize,
    pointers: &[(I32, i32)],
    body: &mut dyn FnMut(&mut Func, usize) -> Result<()>,
) -> Result<()> {
    let mut result = Ok(());
    let mut run = |f: &mut Func, turns: usize, number: usize| {
        let moves: Vec<(I32, i32)> =
            pointers.iter().map(|&(pointer, bytes)| (pointer, bytes * number as i32)).collect();
        f.walk(turns, &moves, |f| {
            for piece in 0..number {
                f.scope(|f| {
                    if result.is_ok() {
                        result = body(f, piece);
                    }
                });
            }
        });
    };
    let unroll = unroll.clamp(1, count.max(1));
    run(f, count / unroll, unroll);
    if !count.is_multiple_of(unroll) {
        run(f, 1, count % unroll);
    }
    result
}

/// Elements `first..first + count` of an axis, whatever the sign of its stride.
pub(super) fn places(f: &mut Func, pointer: I32, stride: isize, first: usize, count: usize) -> Vec<At> {
    if stride >= 0 {
        return (first..first + count).map(|index| At::from(pointer, (index as isize * stride) as u32)).collect();
    }
    let lowest = f.moved(pointer, ((first + count - 1) as isize * stride) as i32);
    (0..count).rev().map(|index| At::from(lowest, (index as isize * -stride) as u32)).collect()
}
