use super::*;

#[test]
fn functions_of_one_tensor() {
    let x = [-2.0f32, -0.5, 0.0, 0.25, 3.0];
    let check = |opset, op, attributes: &[(&str, Attr<'_>)], expected: fn(f64) -> f64| {
        let y = case(opset, op, attributes).run(&[(&[5], f32s(&x))], &[]);
        let expected: Vec<f32> = x.iter().map(|x| expected(f64::from(*x)) as f32).collect();
        let Data::F32(numbers) = &y else { panic!("{op}: {y:?}") };
        for (y, e) in numbers.iter().zip(&expected) {
            assert!((y - e).abs() <= 2e-6 * e.abs().max(1.0), "{op}: {numbers:?} for {expected:?}");
        }
    };
    check(13, "Neg", &[], |x| -x);
    check(13, "Abs", &[], f64::abs);
    check(13, "Exp", &[], f64::exp);
    check(7, "Sin", &[], f64::sin);
    check(7, "Cos", &[], f64::cos);
    check(7, "Tan", &[], f64::tan);
    check(9, "Sinh", &[], f64::sinh);
    check(9, "Cosh", &[], f64::cosh);
    check(9, "Asinh", &[], f64::asinh);
    check(13, "Tanh", &[], f64::tanh);
    check(13, "Floor", &[], f64::floor);
    check(13, "Ceil", &[], f64::ceil);
    check(11, "Round", &[], f64::round_ties_even);
    check(13, "Sign", &[], |x| if x == 0.0 { 0.0 } else { x.signum() });
    check(13, "Erf", &[], libm::erf);
    check(14, "Relu", &[], |x| x.max(0.0));
    check(13, "Sigmoid", &[], |x| 1.0 / (1.0 + (-x).exp()));
    check(1, "Softplus", &[], |x| x.exp().ln_1p());
    check(1, "Softsign", &[], |x| x / (1.0 + x.abs()));
    check(6, "HardSigmoid", &[], |x| (0.2 * x + 0.5).clamp(0.0, 1.0));
    check(6, "HardSigmoid", &[("alpha", Attr::Float(0.5)), ("beta", Attr::Float(0.25))], |x| {
        (0.5 * x + 0.25).clamp(0.0, 1.0)
    });
    check(14, "HardSwish", &[], |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    check(16, "LeakyRelu", &[], |x| if x < 0.0 { 0.01 * x } else { x });
    check(6, "Elu", &[("alpha", Attr::Float(2.0))], |x| if x < 0.0 { 2.0 * x.exp_m1() } else { x });
    check(6, "Selu", &[], |x| 1.050_701 * if x > 0.0 { x } else { 1.673_263_2 * x.exp_m1() });
    check(12, "Celu", &[("alpha", Attr::Float(2.0))], |x| x.max(0.0) + (2.0 * (x / 2.0).exp_m1()).min(0.0));
    check(10, "ThresholdedRelu", &[], |x| if x > 1.0 { x } else { 0.0 });
    check(9, "Shrink", &[("lambd", Attr::Float(0.3)), ("bias", Attr::Float(0.1))], |x| match x {
        x if x < -0.3 => x + 0.1,
        x if x > 0.3 => x - 0.1,
        _ => 0.0,
    });
    check(20, "Gelu", &[], |x| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())));
    check(20, "Gelu", &[("approximate", Attr::Text("tanh"))], |x| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
    });
    check(18, "Mish", &[], |x| x * x.exp().ln_1p().tanh());
    check(24, "Swish", &[("alpha", Attr::Float(2.0))], |x| x / (1.0 + (-2.0 * x).exp()));
    check(6, "Clip", &[("min", Attr::Float(-1.0))], |x| x.max(-1.0));
    check(13, "Identity", &[], |x| x);
    check(7, "Dropout", &[], |x| x);
}

#[test]
fn logarithms_and_roots() {
    let x = [1.0f32, 1.5, 4.0];
    let run = |op| case(17, op, &[]).run(&[(&[3], f32s(&x))], &[]);
    close(&run("Log"), &[0.0, 1.5f32.ln(), 4f32.ln()]);
    close(&run("Sqrt"), &[1.0, 1.5f32.sqrt(), 2.0]);
    close(&run("Reciprocal"), &[1.0, 1.0 / 1.5, 0.25]);
    close(&run("Acosh"), &[0.0, 1.5f32.acosh(), 4f32.acosh()]);
    close(&case(17, "Atanh", &[]).run(&[(&[2], f32s(&[-0.5, 0.25]))], &[]), &[(-0.5f32).atanh(), 0.25f32.atanh()]);
}

#[test]
fn arithmetic_broadcasts() {
    let column: Tensor<'_> = (&[2, 1], f32s(&[1.0, 2.0]));
    let row: Tensor<'_> = (&[3], f32s(&[10.0, 20.0, 30.0]));
    let run = |op| case(13, op, &[]).run(&[column.clone()], &[row.clone()]);
    assert_eq!(run("Add"), f32s(&[11.0, 21.0, 31.0, 12.0, 22.0, 32.0]));
    assert_eq!(run("Sub"), f32s(&[-9.0, -19.0, -29.0, -8.0, -18.0, -28.0]));
    assert_eq!(run("Mul"), f32s(&[10.0, 20.0, 30.0, 20.0, 40.0, 60.0]));
    close(&run("Div"), &[0.1, 0.05, 1.0 / 30.0, 0.2, 0.1, 2.0 / 30.0]);
    let refused = case(13, "Add", &[]).refusal(&[column], &[(&[3, 3], f32s(&[0.0; 9]))]);
    assert_eq!(refused, "node `y0` (`Add`): shapes [2, 1], [3, 3] do not broadcast");
    let refused = case(13, "Add", &[]).refusal(&[row], &[(&[3], i64s(&[1, 2, 3]))]);
    assert_eq!(refused, "node `y0` (`Add`): `Add` of float32 and int64, expected one type");
}

#[test]
fn powers() {
    let x: Tensor<'_> = (&[3], f32s(&[1.0, 4.0, 2.5]));
    let run = |exponent: Tensor<'_>| case(15, "Pow", &[]).run(&[x.clone()], &[exponent]);
    assert_eq!(run((&[], f32s(&[2.0]))), f32s(&[1.0, 16.0, 6.25]));
    assert_eq!(run((&[], i64s(&[3]))), f32s(&[1.0, 64.0, 15.625]));
    assert_eq!(run((&[1], f32s(&[0.5]))), f32s(&[1.0, 2.0, 2.5f32.sqrt()]));
    assert_eq!(run((&[3], i64s(&[5, 2, 0]))), f32s(&[1.0, 16.0, 1.0]));
    let ints = case(15, "Pow", &[]).run(&[(&[2], i64s(&[3, -2]))], &[(&[2], f32s(&[2.0, 3.0]))]);
    assert_eq!(ints, i64s(&[9, -8]));
}

#[test]
fn integers_and_bools() {
    let x: Tensor<'_> = (&[4], i64s(&[7, -7, 6, 1]));
    let y: Tensor<'_> = (&[1], i64s(&[3]));
    let run = |op, attributes: &[(&str, Attr<'_>)]| case(16, op, attributes).run(&[x.clone()], &[y.clone()]);
    assert_eq!(run("Mod", &[]), i64s(&[1, 2, 0, 1]));
    assert_eq!(run("Mod", &[("fmod", Attr::Int(1))]), i64s(&[1, -1, 0, 1]));
    assert_eq!(run("Div", &[]), i64s(&[2, -2, 2, 0]));
    assert_eq!(run("Equal", &[]), Data::Bool(vec![false; 4]));
    assert_eq!(run("Less", &[]), Data::Bool(vec![false, true, false, true]));
    assert_eq!(run("LessOrEqual", &[]), Data::Bool(vec![false, true, false, true]));
    assert_eq!(run("Greater", &[]), Data::Bool(vec![true, false, true, false]));
    assert_eq!(run("GreaterOrEqual", &[]), Data::Bool(vec![true, false, true, false]));
    let bools: [Tensor<'_>; 2] = [(&[2], Data::Bool(vec![true, false])), (&[2], Data::Bool(vec![true, true]))];
    let run = |op| case(16, op, &[]).run(&bools, &[]);
    assert_eq!(run("And"), Data::Bool(vec![true, false]));
    assert_eq!(run("Or"), Data::Bool(vec![true, true]));
    assert_eq!(run("Xor"), Data::Bool(vec![false, true]));
    assert_eq!(case(1, "Not", &[]).run(&bools[..1], &[]), Data::Bool(vec![false, true]));
    let refused = case(16, "Mod", &[]).refusal(&[(&[1], f32s(&[1.0]))], &[(&[1], f32s(&[1.0]))]);
    assert!(refused.contains("`fmod` is 0"), "{refused}");
    let refused = case(16, "Exp", &[]).refusal(&[x], &[]);
    assert!(refused.contains("int64"), "{refused}");
}

#[test]
fn casts_and_choices() {
    let to = |code, data: Data| case(13, "Cast", &[("to", Attr::Int(code))]).run(&[(&[2], data)], &[]);
    assert_eq!(to(7, f32s(&[1.7, -1.7])), i64s(&[1, -1]));
    assert_eq!(to(6, i64s(&[1, 1 << 32])), Data::I32(vec![1, 0]));
    assert_eq!(to(9, f32s(&[0.0, -0.5])), Data::Bool(vec![false, true]));
    assert_eq!(to(11, Data::Bool(vec![true, false])), Data::F64(vec![1.0, 0.0]));
    let like = case(15, "CastLike", &[]).run(&[(&[1], f32s(&[2.5]))], &[(&[3], i64s(&[0; 3]))]);
    assert_eq!(like, i64s(&[2]));
    let refused = case(13, "Cast", &[("to", Attr::Int(10))]).refusal(&[(&[1], f32s(&[2.5]))], &[]);
    assert!(refused.contains("float16") && refused.contains("float32, float64"), "{refused}");
    let inputs: [Tensor<'_>; 3] =
        [(&[2, 1], Data::Bool(vec![true, false])), (&[2], f32s(&[1.0, 2.0])), (&[], f32s(&[9.0]))];
    assert_eq!(case(9, "Where", &[]).run(&inputs, &[]), f32s(&[1.0, 2.0, 9.0, 9.0]));
}

#[test]
fn several_inputs() {
    let inputs: [Tensor<'_>; 3] = [(&[2], f32s(&[1.0, 5.0])), (&[1], f32s(&[3.0])), (&[2], f32s(&[2.0, 4.0]))];
    let run = |op| case(13, op, &[]).run(&inputs, &[]);
    assert_eq!(run("Sum"), f32s(&[6.0, 12.0]));
    assert_eq!(run("Mean"), f32s(&[2.0, 4.0]));
    assert_eq!(run("Min"), f32s(&[1.0, 3.0]));
    assert_eq!(run("Max"), f32s(&[3.0, 5.0]));
    assert_eq!(case(13, "Max", &[]).run(&inputs[..1], &[]), f32s(&[1.0, 5.0]));
}

#[test]
fn limits() {
    let x: Tensor<'_> = (&[3], f32s(&[-5.0, 0.0, 5.0]));
    let low: Tensor<'_> = (&[], f32s(&[-1.0]));
    let high: Tensor<'_> = (&[], f32s(&[2.0]));
    assert_eq!(case(13, "Clip", &[]).run(&[x.clone()], &[low.clone(), high.clone()]), f32s(&[-1.0, 0.0, 2.0]));
    assert_eq!(case(13, "Clip", &[]).run(&[x.clone(), low, high], &[]), f32s(&[-1.0, 0.0, 2.0]));
    let both = [("min", Attr::Float(-1.0)), ("max", Attr::Float(2.0))];
    assert_eq!(case(6, "Clip", &both).run(&[x.clone()], &[]), f32s(&[-1.0, 0.0, 2.0]));
    let refused = case(13, "Clip", &[]).refusal(&[x], &[(&[3], f32s(&[0.0; 3]))]);
    assert!(refused.contains("expected a scalar"), "{refused}");
}

#[test]
fn slopes_and_tests_of_numbers() {
    let x: Tensor<'_> = (&[2, 2], f32s(&[-1.0, 2.0, -3.0, -4.0]));
    assert_eq!(case(16, "PRelu", &[]).run(&[x.clone()], &[(&[2], f32s(&[0.5, 0.25]))]), f32s(&[-0.5, 2.0, -1.5, -1.0]));
    let refused = case(16, "PRelu", &[]).refusal(&[x], &[(&[3, 2, 2], f32s(&[0.0; 12]))]);
    assert!(refused.contains("slope"), "{refused}");
    let odd: Tensor<'_> = (&[3], f32s(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]));
    assert_eq!(case(13, "IsNaN", &[]).run(&[odd.clone()], &[]), Data::Bool(vec![true, false, false]));
    assert_eq!(case(10, "IsInf", &[]).run(&[odd.clone()], &[]), Data::Bool(vec![false, true, true]));
    let positive = [("detect_negative", Attr::Int(0))];
    assert_eq!(case(10, "IsInf", &positive).run(&[odd], &[]), Data::Bool(vec![false, true, false]));
}

#[test]
fn dropout_has_a_mask_and_no_training() {
    let x: Tensor<'_> = (&[2], f32s(&[1.0, 2.0]));
    let outputs = case(13, "Dropout", &[]).runs(&[x.clone()], &[], 2);
    assert_eq!(outputs, [f32s(&[1.0, 2.0]), Data::Bool(vec![true, true])]);
    let constants: [Tensor<'_>; 2] = [(&[], f32s(&[0.5])), (&[], Data::Bool(vec![true]))];
    let refused = case(13, "Dropout", &[]).refusal(&[x], &constants);
    assert!(refused.contains("training_mode"), "{refused}");
}
