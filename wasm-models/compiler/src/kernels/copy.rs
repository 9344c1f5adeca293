//! Moves elements, whatever their type.

use super::loops::{Strided, merge, nest, pieces, places};
use crate::emit::{At, F32x4, Func, I32};
use crate::error::Result;

/// From this many bytes on a run is copied by one instruction, a call in most engines.
const CALL_BYTES: usize = 256;

/// Copies the elements of `from` to those of `to`, which do not overlap. `size`: bytes of an element.
pub(super) fn emit(f: &mut Func, shape: &[usize], size: usize, to: &Strided, from: &Strided) -> Result<()> {
    if shape.contains(&0) {
        return Ok(());
    }
    let (mut shape, mut size) = (shape.to_vec(), size);
    let mut operands = [to.clone(), from.clone()];
    if size == 8 {
        // Two halves.
        size = 4;
        shape.push(2);
        operands.iter_mut().for_each(|operand| operand.strides.push(4));
    }
    let shape = merge(&shape, &mut operands);
    let last = shape.len() - 1;
    let count = shape[last];
    let [to_step, from_step] = [0, 1].map(|side: usize| operands[side].strides[last]);
    let unit = size as isize;
    if to_step == unit && from_step == unit && (count * size >= CALL_BYTES || size == 1 && count >= 32) {
        return nest(f, &shape[..last], &operands, &mut |f, pointers| {
            f.copy_memory(pointers[0], pointers[1], (count * size) as u32);
            Ok(())
        });
    }
    if size == 4 && to_step == unit && count >= 4 {
        let rows = (0..last).find(|&axis| shape[axis] >= 4 && operands[1].strides[axis] == unit);
        if let Some(rows) = rows.filter(|_| from_step != unit && from_step != 0) {
            return transpose(f, &shape, &operands, rows);
        }
        return nest(f, &shape[..last], &operands, &mut |f, pointers| row(f, pointers, count, from_step));
    }
    nest(f, &shape, &operands, &mut |f, pointers| {
        let (to, from) = (At::from(pointers[0], 0), At::from(pointers[1], 0));
        if size == 4 {
            let word = f.load_i32(from);
            f.store_i32(to, word);
        } else {
            let target = f.place(to, 0);
            let source = f.place(from, 0);
            f.sink().i32_load8_u(source).i32_store8(target);
        }
        Ok(())
    })
}

/// At least 4 words to where they follow one another.
fn row(f: &mut Func, pointers: &[I32], count: usize, step: isize) -> Result<()> {
    let (to, from) = (f.copy(pointers[0]), f.copy(pointers[1]));
    let mut piece = |f: &mut Func, number: usize| {
        let words = match step {
            4 => f.load_f32x4(At::from(from, 16 * number as u32)),
            0 => f.load_splat(At::from(from, 0)),
            _ => {
                let places = places(f, from, step, 4 * number, 4);
                f.gather_f32x4([places[0], places[1], places[2], places[3]])
            }
        };
        f.store_f32x4(At::from(to, 16 * number as u32), words);
        Ok(())
    };
    let unroll = if step == 4 || step == 0 { 4 } else { 2 };
    pieces(f, count / 4, unroll, &[(to, 16), (from, step as i32 * 4)], &mut piece)?;
    let rest = count % 4;
    if rest > 0 {
        // The last four, some of them for the second time.
        f.advance(to, 4 * (rest as i32 - 4));
        f.advance(from, step as i32 * (rest as i32 - 4));
        piece(f, 0)?;
    }
    Ok(())
}

/// Words that follow one another along axis `rows` of the source, and along the last axis of the target: blocks of 4 by 4.
fn transpose(f: &mut Func, shape: &[usize], operands: &[Strided; 2], rows: usize) -> Result<()> {
    let last = shape.len() - 1;
    let outer: Vec<usize> = (0..last).filter(|axis| *axis != rows).collect();
    let outer_shape: Vec<usize> = outer.iter().map(|&axis| shape[axis]).collect();
    let outer_operands: Vec<Strided> = operands
        .iter()
        .map(|operand| Strided {
            pointer: operand.pointer,
            strides: outer.iter().map(|&axis| operand.strides[axis]).collect(),
        })
        .collect();
    let (to_row, from_column) = (operands[0].strides[rows], operands[1].strides[last]);
    nest(f, &outer_shape, &outer_operands, &mut |f, pointers| {
        blocks(f, shape[rows], |f, row| {
            let to = f.indexed(pointers[0], row, to_row as i32);
            let from = f.indexed(pointers[1], row, 4);
            blocks(f, shape[last], |f, column| {
                let to = f.indexed(to, column, 4);
                let from = f.indexed(from, column, from_column as i32);
                let columns: Vec<F32x4> =
                    places(f, from, from_column, 0, 4).into_iter().map(|at| f.load_f32x4(at)).collect();
                let targets = places(f, to, to_row, 0, 4);
                for (at, words) in
                    targets.into_iter().zip(transposed(f, [columns[0], columns[1], columns[2], columns[3]]))
                {
                    f.store_f32x4(at, words);
                }
            });
        });
        Ok(())
    })
}

/// Runs `body` with the starts of blocks of four that cover `count` (at least 4) places; the last may overlap the one before.
fn blocks(f: &mut Func, count: usize, body: impl FnOnce(&mut Func, I32)) {
    f.range(count.div_ceil(4), 4, |f, start| {
        if count.is_multiple_of(4) {
            return body(f, start);
        }
        let start = f.min_u32(start, (count - 4) as u32);
        body(f, start);
    });
}

/// Four rows from four columns.
fn transposed(f: &mut Func, [a, b, c, d]: [F32x4; 4]) -> [F32x4; 4] {
    let mut mix = |x: F32x4, y: F32x4, lanes: [u8; 4]| f.shuffle_two(x, y, lanes);
    let (ab, cd) = (mix(a, b, [0, 4, 1, 5]), mix(c, d, [0, 4, 1, 5]));
    let (ab_high, cd_high) = (mix(a, b, [2, 6, 3, 7]), mix(c, d, [2, 6, 3, 7]));
    [
        mix(ab, cd, [0, 1, 4, 5]),
        mix(ab, cd, [2, 3, 6, 7]),
        mix(ab_high, cd_high, [0, 1, 4, 5]),
        mix(ab_high, cd_high, [2, 3, 6, 7]),
    ]
}
