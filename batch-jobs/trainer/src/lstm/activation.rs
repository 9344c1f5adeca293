//! `tanh` and the logistic function as rational functions, which vectorise.

/// Beyond this, `tanh` is 1 in single precision.
const LIMIT: f32 = 7.998_812;

/// `tanh(x)` within 4e-7 of the exact value.
///
/// The minimax rational function of degree 13 over 6 of Eigen (`generic_fast_tanh_float`).
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // Comparisons that let NaN through, so that a diverged model is noticed.
    let x = if x > LIMIT { LIMIT } else { x };
    let x = if x < -LIMIT { -LIMIT } else { x };
    let square = x * x;
    let mut p = -2.760_768_4e-16_f32;
    p = p * square + 2.000_188e-13;
    p = p * square - 8.604_672e-11;
    p = p * square + 5.122_297_3e-8;
    p = p * square + 1.485_722_35e-5;
    p = p * square + 6.372_619_5e-4;
    p = p * square + 4.893_524_6e-3;
    let mut q = 1.198_258_4e-6_f32;
    q = q * square + 1.185_347_1e-4;
    q = q * square + 2.268_434_7e-3;
    q = q * square + 4.893_525e-3;
    x * p / q
}

/// `1 / (1 + exp(-x))` within 2.5e-7 of the exact value.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    0.5 * tanh(0.5 * x) + 0.5
}
