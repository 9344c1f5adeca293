//! Functions of two 64-bit floats, within 1e-14 of their values.

use crate::emit::{F64x2, Func, I64x2};

/// `p * x + c` for each of `rest`, from `first` on.
fn polynomial(f: &mut Func, x: F64x2, first: f64, rest: impl IntoIterator<Item = f64>) -> F64x2 {
    let mut sum = f.splat_f64_const(first);
    for coefficient in rest {
        let next = f.splat_f64_const(coefficient);
        let product = f.mul_f64x2(sum, x);
        sum = f.add_f64x2(product, next);
    }
    sum
}

/// `x * 2^n`, `n` from -1022 to 1023.
fn scale(f: &mut Func, x: F64x2, n: I64x2) -> F64x2 {
    let bias = f.splat_f64_const(f64::from_bits(1023)).bits();
    let n = f.add_i64x2(n, bias);
    let power = f.shift_left_i64x2(n, 52);
    f.mul_f64x2(x, power.floats())
}

/// `exp(x)`, from 0 to infinity.
pub(in crate::kernels) fn exp(f: &mut Func, x: F64x2) -> F64x2 {
    let (low, high) = (f.splat_f64_const(-746.0), f.splat_f64_const(710.0));
    let x = f.pmax_f64x2(x, low);
    let x = f.pmin_f64x2(x, high);
    let log2e = f.splat_f64_const(std::f64::consts::LOG2_E);
    let n = f.mul_f64x2(x, log2e);
    let n = f.nearest_f64x2(n);
    let mut r = x;
    // ln 2 in two parts, the first with 32 bits, so that `n` times it is exact.
    let first = f64::from_bits(std::f64::consts::LN_2.to_bits() & !0x1f_ffff);
    for part in [first, LN_2_REST + (std::f64::consts::LN_2 - first)] {
        let part = f.splat_f64_const(part);
        let product = f.mul_f64x2(n, part);
        r = f.sub_f64x2(r, product);
    }
    let factorials: Vec<f64> =
        (1..=13).scan(1.0, |product, i| Some(*product * f64::from(i)).inspect(|p| *product = *p)).collect();
    let coefficients = factorials.iter().rev().skip(1).map(|factorial| 1.0 / factorial).chain([1.0]);
    let p = polynomial(f, r, 1.0 / factorials[12], coefficients);
    f.get(n);
    f.sink().i32x4_trunc_sat_f64x2_s_zero().i64x2_extend_low_i32x4_s();
    let n = f.take::<I64x2>();
    let half = f.shift_right_i64x2(n, 1);
    let p = scale(f, p, half);
    let rest = f.sub_i64x2(n, half);
    scale(f, p, rest)
}

/// What the nearest 64-bit float leaves of ln 2.
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;

/// `log(x)`; of 0 it is -infinity, below 0 NaN, of subnormal numbers that of the smallest normal one.
pub(in crate::kernels) fn log(f: &mut Func, x: F64x2) -> F64x2 {
    let smallest = f.splat_f64_const(f64::MIN_POSITIVE);
    let bits = f.pmax_f64x2(x, smallest).bits();
    let root = f.splat_f64_const(std::f64::consts::FRAC_1_SQRT_2).bits();
    let e = f.sub_i64x2(bits, root);
    let e = f.shift_right_i64x2(e, 52);
    let power = f.shift_left_i64x2(e, 52);
    let m = f.sub_i64x2(bits, power).floats();
    // The low halves of the two exponents side by side.
    let e: F64x2 = f.op2(e, e, |s| {
        s.i8x16_shuffle([0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]).f64x2_convert_low_i32x4_s();
    });
    let (one, two) = (f.splat_f64_const(1.0), f.splat_f64_const(2.0));
    let d = f.sub_f64x2(m, one);
    let below = f.add_f64x2(d, two);
    let s = f.div_f64x2(d, below);
    let z = f.mul_f64x2(s, s);
    let series = polynomial(f, z, 2.0 / 21.0, (1..10).rev().map(|i| 2.0 / f64::from(2 * i + 1)));
    let series = f.mul_f64x2(series, z);
    let rest = f.sub_f64x2(d, series);
    let rest = f.mul_f64x2(s, rest);
    let first = f64::from_bits(std::f64::consts::LN_2.to_bits() & !0x1f_ffff);
    let (first, second) = (f.splat_f64_const(first), f.splat_f64_const(LN_2_REST + (std::f64::consts::LN_2 - first)));
    let small = f.mul_f64x2(e, second);
    let rest = f.sub_f64x2(small, rest);
    let sum = f.add_f64x2(d, rest);
    let large = f.mul_f64x2(e, first);
    let result = f.add_f64x2(large, sum);
    let (zero, infinity) = (f.splat_f64_const(0.0), f.splat_f64_const(f64::INFINITY));
    let bottom = f.splat_f64_const(f64::NEG_INFINITY);
    let is_infinite = f.equal_f64x2(x, infinity);
    let result = f.select_f64x2(is_infinite, x, result);
    let is_zero = f.equal_f64x2(x, zero);
    let result = f.select_f64x2(is_zero, bottom, result);
    let nan = f.splat_f64_const(f64::NAN);
    let is_negative = f.less_f64x2(x, zero);
    let result = f.select_f64x2(is_negative, nan, result);
    let is_number = f.equal_f64x2(x, x);
    f.select_f64x2(is_number, result, x)
}

/// `tanh(x)`: `1 - 2 / (exp(2x) + 1)`, near 0 within 1e-16 (of 1, not of its value).
pub(in crate::kernels) fn tanh(f: &mut Func, x: F64x2) -> F64x2 {
    let (one, two) = (f.splat_f64_const(1.0), f.splat_f64_const(2.0));
    let double = f.add_f64x2(x, x);
    let e = exp(f, double);
    let below = f.add_f64x2(e, one);
    let rest = f.div_f64x2(two, below);
    f.sub_f64x2(one, rest)
}

/// `1 / (1 + exp(-x))`.
pub(in crate::kernels) fn sigmoid(f: &mut Func, x: F64x2) -> F64x2 {
    let one = f.splat_f64_const(1.0);
    let negative = f.neg_f64x2(x);
    let e = exp(f, negative);
    let below = f.add_f64x2(e, one);
    f.div_f64x2(one, below)
}

/// `log(1 + exp(x))`, within 1e-16 (of 1, not of its value).
pub(in crate::kernels) fn softplus(f: &mut Func, x: F64x2) -> F64x2 {
    let (zero, one) = (f.splat_f64_const(0.0), f.splat_f64_const(1.0));
    let size = f.abs_f64x2(x);
    let size = f.neg_f64x2(size);
    let e = exp(f, size);
    let sum = f.add_f64x2(e, one);
    let log = log(f, sum);
    let positive = f.pmax_f64x2(x, zero);
    f.add_f64x2(positive, log)
}

/// `x^y`: `exp(y log |x|)`, with the sign of `x` for odd `y`, NaN for a negative `x` and a `y` that is no integer.
pub(in crate::kernels) fn pow(f: &mut Func, x: F64x2, y: F64x2) -> F64x2 {
    let size = f.abs_f64x2(x);
    let power = log(f, size);
    let power = f.mul_f64x2(power, y);
    let result = exp(f, power);
    let (zero, half, one) = (f.splat_f64_const(0.0), f.splat_f64_const(0.5), f.splat_f64_const(1.0));
    let nan = f.splat_f64_const(f64::NAN);
    let whole = f.floor_f64x2(y);
    let is_whole = f.equal_f64x2(whole, y);
    let y_half = f.mul_f64x2(y, half);
    let whole = f.floor_f64x2(y_half);
    let is_even = f.equal_f64x2(whole, y_half);
    let negative = f.neg_f64x2(result);
    let signed = f.select_f64x2(is_even, result, negative);
    let signed = f.select_f64x2(is_whole, signed, nan);
    let is_negative = f.less_f64x2(x, zero);
    let result = f.select_f64x2(is_negative, signed, result);
    let is_zero = f.equal_f64x2(y, zero);
    f.select_f64x2(is_zero, one, result)
}

/// `x - y * floor(x / y)`, or with `trunc`.
pub(in crate::kernels) fn remainder(f: &mut Func, x: F64x2, y: F64x2, floor: bool) -> F64x2 {
    let quotient = f.div_f64x2(x, y);
    let quotient = if floor { f.floor_f64x2(quotient) } else { f.trunc_f64x2(quotient) };
    let product = f.mul_f64x2(quotient, y);
    f.sub_f64x2(x, product)
}
