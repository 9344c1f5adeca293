//! Functions of four floats, as polynomials: the same bits everywhere.

pub(super) mod double;
#[cfg(test)]
mod tests;

use crate::emit::{F32x4, F64x2, Func, I32x4};

/// Beyond this, `tanh` is 1 in single precision.
const TANH_LIMIT: f32 = 7.998_812;

/// `p * x + c` for each of `rest`, from `first` on: a polynomial by Horner's rule, highest power first.
pub(super) fn polynomial(f: &mut Func, x: F32x4, first: f32, rest: &[f32]) -> F32x4 {
    let sum = f.splat(first);
    for &coefficient in rest {
        let next = f.splat(coefficient);
        let value = f.mul_add(sum, x, next);
        f.set(sum, value);
    }
    sum
}

/// `tanh(x)` within 4e-7: the minimax rational function of degree 13 over 6 of Eigen (`generic_fast_tanh_float`), as the trainer has it.
pub(super) fn tanh(f: &mut Func, x: F32x4) -> F32x4 {
    let (limit, low) = (f.splat(TANH_LIMIT), f.splat(-TANH_LIMIT));
    let x = f.pmin(x, limit);
    let x = f.pmax(x, low);
    let square = f.mul(x, x);
    let odd = [2.000_188e-13, -8.604_672e-11, 5.122_297_3e-8, 1.485_722_35e-5, 6.372_619_5e-4, 4.893_524_6e-3];
    let p = polynomial(f, square, -2.760_768_4e-16, &odd);
    let p = f.mul(x, p);
    let q = polynomial(f, square, 1.198_258_4e-6, &[1.185_347_1e-4, 2.268_434_7e-3, 4.893_525e-3]);
    f.div(p, q)
}

/// `1 / (1 + exp(-x))` as `0.5 + 0.5 tanh(x / 2)`.
pub(super) fn sigmoid(f: &mut Func, x: F32x4) -> F32x4 {
    let half = f.splat(0.5);
    let x = f.mul(x, half);
    let t = tanh(f, x);
    f.mul_add(t, half, half)
}

/// `1.5 * 2^23`: with it added, a float is rounded to an integer, which stands in its low bits.
const ROUND: f32 = 12_582_912.0;

/// The nearest integer to `x * factor`, for less than 2^21: as a float, and as an integer in the low 22 bits, with others above.
fn nearest_multiple(f: &mut Func, x: F32x4, factor: f32) -> (F32x4, I32x4) {
    let (factor, round) = (f.splat(factor), f.splat(ROUND));
    let shifted = f.mul_add(x, factor, round);
    (f.sub(shifted, round), shifted.bits())
}

/// `exp(x)` as `2^n * p`: `p`, and `n` in low bits. `x = n ln 2 + r`, `|r| <= ln 2 / 2`; the polynomial is Taylor's, to `r^7`.
fn exp_parts(f: &mut Func, x: F32x4) -> (F32x4, I32x4) {
    let (n, bits) = nearest_multiple(f, x, std::f32::consts::LOG2_E);
    // ln 2 in two parts, the first exact in few bits, so that `n` times it is exact.
    let (first, second) = (f.splat(-0.693_359_4), f.splat(2.121_944_4e-4));
    let r = f.mul_add(n, first, x);
    let r = f.mul_add(n, second, r);
    let p = polynomial(f, r, 1.0 / 5040.0, &[1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
    (p, bits)
}

/// `x * 2^n`, `n` from -126 to 127 in low bits; 0 for -127.
fn scale(f: &mut Func, x: F32x4, n: I32x4) -> F32x4 {
    let one = f.splat(1.0).bits();
    let n = f.shift_left(n, 23);
    let power = f.add_i32x4(n, one);
    f.mul(x, power.floats())
}

/// `exp(x)` within 2e-7 of its value; below -87.3 it is 1.2e-38, above 88.3 it is 2.3e38. For where that is enough, or near 0.
pub(super) fn exp(f: &mut Func, x: F32x4) -> F32x4 {
    let (low, high) = (f.splat(-87.336_54), f.splat(88.376_26));
    let x = f.pmax(x, low);
    let x = f.pmin(x, high);
    let (p, n) = exp_parts(f, x);
    scale(f, p, n)
}

/// `exp(x)` within 2e-7 of its value for `x` up to 88; below -87.7 it is 0.
pub(super) fn exp_or_zero(f: &mut Func, x: F32x4) -> F32x4 {
    let low = f.splat(-88.0);
    let x = f.pmax(x, low);
    let (p, n) = exp_parts(f, x);
    scale(f, p, n)
}

/// `exp(x)` within 2e-7 of its value, from 0 to infinity.
pub(super) fn exp_full(f: &mut Func, x: F32x4) -> F32x4 {
    let (low, high) = (f.splat(-104.0), f.splat(89.0));
    let x = f.pmax(x, low);
    let x = f.pmin(x, high);
    let (p, n) = exp_parts(f, x);
    let round = f.splat(ROUND).bits();
    let n = f.sub_i32x4(n, round);
    let half = f.shift_right(n, 1);
    let p = scale(f, p, half);
    let rest = f.sub_i32x4(n, half);
    scale(f, p, rest)
}

/// `log(x)` within 2e-7 of its value; of 0 it is -infinity, below 0 NaN, of subnormal numbers that of the smallest normal one.
///
/// `e ln 2 + log(m)`, `m` from `sqrt(1/2)` to `sqrt(2)`; `log(m)` is twice the series of the inverse hyperbolic tangent of `s = (m - 1) / (m + 1)`.
pub(super) fn log(f: &mut Func, x: F32x4) -> F32x4 {
    let smallest = f.splat(f32::MIN_POSITIVE);
    let bits = f.pmax(x, smallest).bits();
    let root = f.splat_i32(std::f32::consts::FRAC_1_SQRT_2.to_bits().cast_signed());
    let e = f.sub_i32x4(bits, root);
    let e = f.shift_right(e, 23);
    let power = f.shift_left(e, 23);
    let m = f.sub_i32x4(bits, power).floats();
    let e = f.floats_of(e);
    let (one, two) = (f.splat(1.0), f.splat(2.0));
    let d = f.sub(m, one);
    let below = f.add(d, two);
    let s = f.div(d, below);
    let z = f.mul(s, s);
    // log(m) = d - s (d - 2 (z/3 + z^2/5 + ..)): `d` is exact, the rest small.
    let series = polynomial(f, z, 2.0 / 11.0, &[2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0]);
    let series = f.mul(series, z);
    let rest = f.sub(d, series);
    let rest = f.mul(s, rest);
    let (first, second) = (f.splat(0.693_138_1), f.splat(9.058_001e-6));
    let small = f.mul(e, second);
    let rest = f.sub(small, rest);
    let sum = f.add(d, rest);
    let result = f.mul_add(e, first, sum);
    let (zero, infinity, bottom) = (f.splat(0.0), f.splat(f32::INFINITY), f.splat(f32::NEG_INFINITY));
    let is_infinite = f.equal(x, infinity);
    let result = f.select(is_infinite, x, result);
    let is_zero = f.equal(x, zero);
    let result = f.select(is_zero, bottom, result);
    let valid = f.less_or_equal(zero, x);
    let invalid = f.not(valid);
    f.or(result.bits(), invalid).floats()
}

/// `log(1 + exp(x))` within 4e-7 of its value: `max(x, 0) + log(1 + e)`, `e = exp(-|x|)`.
pub(super) fn softplus(f: &mut Func, x: F32x4) -> F32x4 {
    let size = f.abs(x);
    let size = f.neg(size);
    let e = exp_or_zero(f, size);
    let (zero, two) = (f.splat(0.0), f.splat(2.0));
    let below = f.add(e, two);
    let s = f.div(e, below);
    let z = f.mul(s, s);
    let odd = [2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0];
    let series = polynomial(f, z, 2.0 / 17.0, &odd);
    let positive = f.pmax(x, zero);
    f.mul_add(series, s, positive)
}

/// `sin(x)`, or `cos(x)`, within 2e-7 for `|x|` up to 10^4.
///
/// `x = n pi / 2 + r`, `|r| <= pi / 4`; the polynomials are Taylor's.
pub(super) fn sin_cos(f: &mut Func, x: F32x4, cos: bool) -> F32x4 {
    let (n, bits) = nearest_multiple(f, x, std::f32::consts::FRAC_2_PI);
    // pi / 2 in four parts; products with the first two are exact.
    let mut r = x;
    for part in [-1.570_312_5, -4.837_513e-4, -7.549_533_6e-8, -2.563_344e-12] {
        let part = f.splat(part);
        r = f.mul_add(n, part, r);
    }
    let one = f.splat_i32(1);
    let n = if cos { f.add_i32x4(bits, one) } else { bits };
    let z = f.mul(r, r);
    let series = polynomial(f, z, 1.0 / 362_880.0, &[-1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0]);
    let series = f.mul(series, z);
    let sine = f.mul_add(series, r, r);
    let even = [1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5, 1.0];
    let cosine = polynomial(f, z, -1.0 / 3_628_800.0, &even);
    // Quarter turns: the other function for odd `n`, the other sign for the upper half.
    let odd = f.shift_left(n, 31);
    let odd = f.shift_right(odd, 31);
    let result = f.select(odd, cosine, sine);
    let sign_bit = f.splat_i32(i32::MIN);
    let sign = f.shift_left(n, 30);
    let sign = f.and(sign, sign_bit);
    f.xor(result.bits(), sign).floats()
}

/// -1, 0 or 1; NaN where `x` is.
pub(super) fn sign(f: &mut Func, x: F32x4) -> F32x4 {
    let zero = f.splat(0.0);
    let (one, minus) = (f.splat(1.0), f.splat(-1.0));
    let above = f.less(zero, x);
    let below = f.less(x, zero);
    let result = f.select(above, one, x);
    f.select(below, minus, result)
}

/// `erf(x)` within 2e-7: an odd rational function, fitted for the least relative error up to 3.92, where it is 1 in single precision.
pub(super) fn erf(f: &mut Func, x: F32x4) -> F32x4 {
    let (limit, low) = (f.splat(3.92), f.splat(-3.92));
    let x = f.pmin(x, limit);
    let x = f.pmax(x, low);
    let z = f.mul(x, x);
    let above = [2.848_833e-4, 3.765_628e-3, 5.274_876e-2, 1.904_066_8e-1, std::f32::consts::FRAC_2_SQRT_PI];
    let p = polynomial(f, z, 2.050_089_5e-6, &above);
    let p = f.mul(x, p);
    let below = [1.162_538_8e-3, 1.496_923_8e-2, 1.141_092e-1, 5.020_762_7e-1, 1.0];
    let q = polynomial(f, z, 3.809_177e-5, &below);
    f.div(p, q)
}

/// `x^y` of numbers, see [`double::pow`].
pub(super) fn pow(f: &mut Func, x: F32x4, y: F32x4) -> F32x4 {
    with_64_bits(f, x, y, double::pow)
}

/// `x - y * floor(x / y)`, or with `trunc`: exact while the quotient is below 2^29.
pub(super) fn remainder(f: &mut Func, x: F32x4, y: F32x4, floor: bool) -> F32x4 {
    with_64_bits(f, x, y, |f, x, y| double::remainder(f, x, y, floor))
}

/// Computes a function with 64-bit floats.
fn with_64_bits(f: &mut Func, x: F32x4, y: F32x4, mut function: impl FnMut(&mut Func, F64x2, F64x2) -> F64x2) -> F32x4 {
    let mut half = |f: &mut Func, x: F32x4, y: F32x4| {
        let (x, y) = (f.first_two(x), f.first_two(y));
        let result = function(f, x, y);
        f.narrowed(result)
    };
    let low = half(f, x, y);
    let (x, y) = (f.halves(x, x, [true, true]), f.halves(y, y, [true, true]));
    let high = half(f, x, y);
    f.halves(low, high, [false, false])
}

/// `x` to a whole power from -8 to 8, by products.
pub(super) fn whole_power(f: &mut Func, x: F32x4, power: i32) -> F32x4 {
    let mut result = None;
    let mut square = x;
    let mut left = power.unsigned_abs();
    while left > 0 {
        if left & 1 == 1 {
            result = Some(result.map_or(square, |result| f.mul(result, square)));
        }
        left >>= 1;
        if left > 0 {
            square = f.mul(square, square);
        }
    }
    let one = f.splat(1.0);
    let result = result.unwrap_or(one);
    if power < 0 { f.div(one, result) } else { result }
}
