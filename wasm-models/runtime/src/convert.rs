//! Numbers of tensors to and from the memory of a module, where they are little-endian.

use moola_core::Result;
use moola_core::ports::Tensor;

use crate::invalid;
use crate::layout::{Kind, Port};

/// Whether the numbers of an input can be given to a module.
///
/// # Errors
/// `Invalid` where one is not finite, or is none of the input's type; the message names input and position.
pub(crate) fn check(port: &Port, tensor: &Tensor) -> Result<()> {
    let (fits, expected): (fn(f32) -> bool, _) = match port.kind {
        Kind::Float32 | Kind::Float64 => (f32::is_finite, "a finite number"),
        // 2^31 and 2^63 are the first floats that are too large.
        Kind::Int32 => (|it| it.fract() == 0.0 && (-2147483648.0..2147483648.0).contains(&it), "an integer of 32 bits"),
        Kind::Int64 => {
            (|it| it.fract() == 0.0 && (-(2f32.powi(63))..2f32.powi(63)).contains(&it), "an integer of 64 bits")
        }
        Kind::Bool => (|it| it == 0.0 || it == 1.0, "0 or 1"),
    };
    let Some(mut index) = tensor.data().iter().position(|&number| !fits(number)) else { return Ok(()) };
    let number = tensor.data()[index];
    let mut position = Vec::with_capacity(tensor.shape().len());
    for &size in tensor.shape().iter().rev() {
        position.push(index % size);
        index /= size;
    }
    position.reverse();
    Err(invalid(format!("input `{}` has {number} at {position:?}, expected {expected}", port.name)))
}

/// Writes numbers that were checked.
pub(crate) fn write(kind: Kind, numbers: &[f32], bytes: &mut [u8]) {
    match kind {
        Kind::Float32 => put(numbers, bytes, f32::to_le_bytes),
        Kind::Float64 => put(numbers, bytes, |it| f64::from(it).to_le_bytes()),
        Kind::Int32 => put(numbers, bytes, |it| (it as i32).to_le_bytes()),
        Kind::Int64 => put(numbers, bytes, |it| (it as i64).to_le_bytes()),
        Kind::Bool => put(numbers, bytes, |it| [u8::from(it != 0.0)]),
    }
}

/// Appends the numbers that lie in `bytes`.
pub(crate) fn read(kind: Kind, bytes: &[u8], numbers: &mut Vec<f32>) {
    match kind {
        Kind::Float32 => take(bytes, numbers, f32::from_le_bytes),
        Kind::Float64 => take(bytes, numbers, |it| f64::from_le_bytes(it) as f32),
        Kind::Int32 => take(bytes, numbers, |it| i32::from_le_bytes(it) as f32),
        Kind::Int64 => take(bytes, numbers, |it| i64::from_le_bytes(it) as f32),
        Kind::Bool => take(bytes, numbers, |[it]| f32::from(u8::from(it != 0))),
    }
}

fn put<const N: usize>(numbers: &[f32], bytes: &mut [u8], to_bytes: impl Fn(f32) -> [u8; N]) {
    for (place, &number) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(numbers) {
        *place = to_bytes(number);
    }
}

fn take<const N: usize>(bytes: &[u8], numbers: &mut Vec<f32>, from_bytes: impl Fn([u8; N]) -> f32) {
    numbers.extend(bytes.as_chunks::<N>().0.iter().map(|&place| from_bytes(place)));
}
