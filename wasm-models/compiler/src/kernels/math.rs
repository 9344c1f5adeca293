//! Functions of four floats, as polynomials: the same bits everywhere.

use crate::emit::{F32x4, Func, I32x4};

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

/// `exp(x)` within 2e-7 of its value; below -87.3 it is 1.2e-38, above 88.3 it is 2.3e38.
///
/// `2^n * exp(r)` with `x = n ln 2 + r`, `|r| <= ln 2 / 2`; the polynomial is Taylor's, to `r^7`.
pub(super) fn exp(f: &mut Func, x: F32x4) -> F32x4 {
    let (low, high) = (f.splat(-87.336_54), f.splat(88.376_26));
    let x = f.pmax(x, low);
    let x = f.pmin(x, high);
    let log2e = f.splat(std::f32::consts::LOG2_E);
    let n = f.mul(x, log2e);
    let n: F32x4 = f.op1(n, |s| {
        s.f32x4_nearest();
    });
    // ln 2 in two parts, the first exact in few bits, so that `n` times it is exact.
    let (first, second) = (f.splat(-0.693_359_4), f.splat(2.121_944_4e-4));
    let r = f.mul_add(n, first, x);
    let r = f.mul_add(n, second, r);
    let p = polynomial(f, r, 1.0 / 5040.0, &[1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
    let n: I32x4 = f.op1(n, |s| {
        s.i32x4_trunc_sat_f32x4_s();
    });
    let bias = f.splat_i32(127);
    let n: I32x4 = f.op2(n, bias, |s| {
        s.i32x4_add();
    });
    f.get(n);
    f.sink().i32_const(23).i32x4_shl();
    let power = f.take::<F32x4>();
    f.mul(p, power)
}
