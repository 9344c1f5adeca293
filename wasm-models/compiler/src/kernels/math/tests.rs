use crate::Variant;
use crate::ir::{Binary, DType, Data, Expr, Op, Unary};
use crate::kernels::testing::{Case, Source, floats};

const VARIANTS: [Variant; 2] = [Variant::Simd128, Variant::RelaxedSimd];

fn map(expr: Expr, inputs: &[&[f32]], variant: Variant) -> Vec<f32> {
    let shape = [inputs[0].len()];
    let sources = inputs.iter().map(|x| Source::whole(Data::F32(x.to_vec()), &shape)).collect();
    floats(&Case::new(Op::Map(expr), sources, DType::F32, &shape).run(variant)).to_vec()
}

fn grid(from: f32, to: f32) -> Vec<f32> {
    const COUNT: usize = 40_001;
    (0..COUNT).map(|i| from + (to - from) * (i as f32 / (COUNT - 1) as f32)).collect()
}

/// The largest error of a function over a grid: relative to the value, or to `floor` where the value is smaller.
fn worst(op: Unary, x: &[f32], floor: f64, exact: fn(f64) -> f64, variant: Variant) -> f64 {
    let actual = map(Expr::unary(op, Expr::Input(0)), &[x], variant);
    let errors = actual.iter().zip(x).map(|(actual, &x)| {
        let exact = exact(f64::from(x));
        (f64::from(*actual) - exact).abs() / exact.abs().max(floor)
    });
    errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst })
}

/// `erf` by its series and, far out, its continued fraction.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    let result = if size < 3.0 {
        let mut term = size;
        let mut sum = size;
        for n in 1..80 {
            term *= -size * size / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(size, |below, k| size + f64::from(k) / 2.0 / below);
        1.0 - (-size * size).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    result.copysign(x)
}

#[test]
fn functions_are_as_exact_as_they_say() {
    for variant in VARIANTS {
        let check = |op, from, to, floor, exact: fn(f64) -> f64, limit: f64| {
            let error = worst(op, &grid(from, to), floor, exact, variant);
            assert!(error <= limit, "{op:?} from {from} to {to}: {error:e}, expected {limit:e}");
        };
        let tiny = f64::from(f32::MIN_POSITIVE);
        check(Unary::Exp, -87.0, 88.7, 0.0, f64::exp, 2e-7);
        check(Unary::Exp, -1.0, 1.0, 0.0, f64::exp, 2e-7);
        check(Unary::Exp, -110.0, -85.0, tiny, f64::exp, 3e-7);
        check(Unary::Log, 1e-3, 3.0, tiny, f64::ln, 2e-7);
        check(Unary::Log, 0.99, 1.01, tiny, f64::ln, 2e-7);
        check(Unary::Log, 1.0, 3e38, tiny, f64::ln, 2e-7);
        check(Unary::Log, 1.2e-38, 1e-30, tiny, f64::ln, 2e-7);
        check(Unary::Sin, -10.0, 10.0, 1.0, f64::sin, 2e-7);
        check(Unary::Cos, -10.0, 10.0, 1.0, f64::cos, 2e-7);
        check(Unary::Sin, -1e4, 1e4, 1.0, f64::sin, 2e-7);
        check(Unary::Cos, -1e4, 1e4, 1.0, f64::cos, 2e-7);
        check(Unary::Erf, -5.0, 5.0, tiny, erf, 4e-7);
        check(Unary::Erf, -1e-2, 1e-2, tiny, erf, 4e-7);
        check(Unary::Tanh, -10.0, 10.0, 1.0, f64::tanh, 4e-7);
        check(Unary::Sigmoid, -20.0, 20.0, 1.0, |x| 1.0 / (1.0 + (-x).exp()), 4e-7);
        check(Unary::Softplus, -80.0, 80.0, 0.0, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 4e-7);
        check(Unary::Softplus, -3.0, 3.0, 0.0, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 4e-7);
    }
}

#[test]
fn special_numbers_stay_special() {
    let infinity = f32::INFINITY;
    let of = |op, x: &[f32]| map(Expr::unary(op, Expr::Input(0)), &[x], Variant::Simd128);
    assert_eq!(of(Unary::Exp, &[-infinity, -200.0, 0.0, 89.0, infinity]), [0.0, 0.0, 1.0, infinity, infinity]);
    let logs = of(Unary::Log, &[0.0, -0.0, 1.0, infinity, -1.0, f32::NAN]);
    assert_eq!(logs[..4], [-infinity, -infinity, 0.0, infinity]);
    assert!(logs[4].is_nan() && logs[5].is_nan());
    assert_eq!(of(Unary::Round, &[0.5, 1.5, 2.5, -0.5, -1.5]), [0.0, 2.0, 2.0, 0.0, -2.0]);
    assert_eq!(of(Unary::Floor, &[0.5, -0.5, 3.0]), [0.0, -1.0, 3.0]);
    assert_eq!(of(Unary::Ceil, &[0.5, -0.5, 3.0]), [1.0, 0.0, 3.0]);
    assert_eq!(of(Unary::Sign, &[0.5, -0.5, 0.0]), [1.0, -1.0, 0.0]);
    assert_eq!(of(Unary::Softplus, &[-infinity, infinity, 0.0]), [0.0, infinity, std::f32::consts::LN_2]);
    assert_eq!(of(Unary::Reciprocal, &[4.0, 0.0]), [0.25, infinity]);
}

#[test]
fn powers_are_exact() {
    let binary = |op| Expr::binary(op, Expr::Input(0), Expr::Input(1));
    let mut x = Vec::new();
    let mut y = Vec::new();
    for i in 0..200 {
        for j in 0..100 {
            x.push(1e-6f32 * 1.15f32.powi(i));
            y.push((j as f32 - 50.0) / 3.0);
        }
    }
    x.extend([-2.0, -2.0, -8.0, 0.0, 0.0, 5.0, -1.5, 1.0]);
    y.extend([3.0, -2.0, 0.5, 2.0, 0.0, 0.0, 2.0, 1e30]);
    for variant in VARIANTS {
        let actual = map(binary(Binary::Pow), &[&x, &y], variant);
        for ((x, y), actual) in x.iter().zip(&y).zip(actual) {
            let exact = f64::from(*x).powf(f64::from(*y)) as f32;
            let close = (actual - exact).abs() <= 1.2e-7 * exact.abs() + 1e-45;
            assert!(close || actual == exact || actual.is_nan() && exact.is_nan(), "{x}^{y}: {actual}, not {exact}");
        }
        let constant = [2.0, 3.0, -1.0, 0.5, -0.5, 0.0, 8.0, 1.7, 33.0];
        for power in constant {
            let x = grid(0.1, 4.0);
            let actual = map(Expr::binary(Binary::Pow, Expr::Input(0), Expr::f32(power)), &[&x], variant);
            for (x, actual) in x.iter().zip(actual) {
                let exact = f64::from(*x).powf(f64::from(power)) as f32;
                assert!((actual - exact).abs() <= 5e-7 * exact.abs(), "{x}^{power}: {actual}, not {exact}");
            }
        }
    }
    let (a, b) = ([7.5, -7.5, 7.5, -7.5, 1e8, 6.0], [2.0, 2.0, -2.0, -2.0, 3.0, 3.0]);
    assert_eq!(map(binary(Binary::Rem), &[&a, &b], Variant::Simd128), [1.5, -1.5, 1.5, -1.5, 1.0, 0.0]);
    assert_eq!(map(binary(Binary::Mod), &[&a, &b], Variant::Simd128), [1.5, 0.5, -0.5, -1.5, 1.0, 0.0]);
}

#[test]
fn functions_of_64_bits_are_exact() {
    let x: Vec<f64> = (0..4001).map(|i| f64::from(i) / 100.0 - 20.0).collect();
    type Exact = fn(f64) -> f64;
    let cases: [(Unary, Exact); 5] = [
        (Unary::Exp, f64::exp),
        (Unary::Tanh, f64::tanh),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::Softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        (Unary::Log, f64::ln),
    ];
    for (op, exact) in cases {
        let expr = Expr::unary(op, Expr::Input(0));
        let case = Case::new(Op::Map(expr), vec![Source::whole(Data::F64(x.clone()), &[4001])], DType::F64, &[4001]);
        let Data::F64(actual) = case.run(Variant::Simd128) else { panic!("not 64 bits") };
        for (x, actual) in x.iter().zip(actual) {
            let exact = exact(*x);
            let close = (actual - exact).abs() <= 1e-14 * exact.abs().max(1.0);
            assert!(close || actual == exact || actual.is_nan() && exact.is_nan(), "{op:?} {x}: {actual}, not {exact}");
        }
    }
}
