use crate::Variant;
use crate::ir::{Binary, DType, Data, Expr, Op, Unary};
use crate::kernels::testing::{Case, Source, floats, numbers};

const BINARY: [Binary; 12] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Pow,
    Binary::Min,
    Binary::Max,
    Binary::Mod,
    Binary::Rem,
    Binary::Equal,
    Binary::Less,
    Binary::LessOrEqual,
];

fn binary(op: Binary) -> Expr {
    Expr::binary(op, Expr::Input(0), Expr::Input(1))
}

fn run(expr: Expr, inputs: &[Data], dtype: DType) -> Data {
    case(expr, inputs, dtype).run(Variant::Simd128)
}

fn case(expr: Expr, inputs: &[Data], dtype: DType) -> Case {
    let shape = [inputs[0].len()];
    let sources = inputs.iter().map(|data| Source::whole(data.clone(), &shape)).collect();
    Case::new(Op::Map(expr), sources, dtype, &shape)
}

#[test]
fn integers_are_exact() {
    let a: Vec<i64> = (-8..8).flat_map(|a| [a; 6]).chain([i64::MIN, i64::MAX, i64::from(i32::MIN)]).collect();
    let b: Vec<i64> = (-8..8).flat_map(|_| [-3, -1, 1, 2, 5, 7]).chain([-1, 3, -1]).collect();
    let wide = [Data::I64(a.clone()), Data::I64(b.clone())];
    let narrow = [Data::I32(a.iter().map(|x| *x as i32).collect()), Data::I32(b.iter().map(|x| *x as i32).collect())];
    for inputs in [wide, narrow] {
        let dtype = inputs[0].dtype();
        for op in BINARY {
            let result = if op.compares() { DType::Bool } else { dtype };
            case(binary(op), &inputs, result).check(0.0, &format!("{op:?} {dtype:?}"));
        }
        for op in [Unary::Neg, Unary::Abs, Unary::Sign, Unary::Relu] {
            case(Expr::unary(op, Expr::Input(0)), &inputs, dtype).check(0.0, &format!("{op:?} {dtype:?}"));
        }
        let larger = Expr::select(binary(Binary::Less), Expr::Input(1), Expr::Input(0));
        case(larger, &inputs, dtype).check(0.0, &format!("{dtype:?}"));
    }
}

#[test]
fn division_by_zero_does_not_trap() {
    let inputs = [Data::I64(vec![7, -7, 0, i64::MIN]), Data::I64(vec![0; 4])];
    assert_eq!(run(binary(Binary::Div), &inputs, DType::I64), Data::I64(vec![0; 4]));
    run(binary(Binary::Mod), &inputs, DType::I64);
    run(binary(Binary::Rem), &inputs, DType::I64);
}

#[test]
fn floats_of_64_bits() {
    let a: Vec<f64> = (0..60).map(|i| f64::from(i) / 7.0 - 4.0).collect();
    let b: Vec<f64> = (0..60).map(|i| f64::from(i * 13 % 17) / 3.0 - 2.1).collect();
    let inputs = [Data::F64(a), Data::F64(b)];
    for op in BINARY.into_iter().filter(|op| *op != Binary::Pow) {
        if op.compares() {
            case(binary(op), &inputs, DType::Bool).check(0.0, &format!("{op:?}"));
        } else {
            let expr = Expr::Cast(DType::F32, Box::new(binary(op)));
            case(expr, &inputs, DType::F32).check(1e-6, &format!("{op:?}"));
        }
    }
    let exact =
        [Unary::Neg, Unary::Abs, Unary::Reciprocal, Unary::Floor, Unary::Ceil, Unary::Round, Unary::Sign, Unary::Relu];
    for op in exact {
        case(Expr::unary(op, Expr::Input(0)), &inputs, DType::F64).check(0.0, &format!("{op:?}"));
    }
    let power = Expr::binary(Binary::Pow, Expr::unary(Unary::Abs, Expr::Input(0)), Expr::Input(1));
    case(Expr::Cast(DType::F32, Box::new(power)), &inputs, DType::F32).check(1e-6, "Pow");
}

#[test]
fn conditions_combine() {
    let flags = |step: usize| Data::Bool((0..12).map(|i| (i / step).is_multiple_of(2)).collect());
    for op in [Binary::And, Binary::Or, Binary::Xor, Binary::Equal] {
        case(binary(op), &[flags(1), flags(2)], DType::Bool).check(0.0, &format!("{op:?}"));
    }
}

#[test]
fn every_type_becomes_every_other() {
    let all = [
        Data::F32(vec![0.0, 1.5, -1.5, 3e9, -3e9, 1e20, 0.25]),
        Data::F64(vec![0.0, 1.5, -1.5, 3e9, -3e9, 1e20, 0.25]),
        Data::I32(vec![0, 1, -1, i32::MAX, i32::MIN]),
        Data::I64(vec![0, 1, -1, 1 << 31, 1 << 40]),
        Data::Bool(vec![true, false]),
    ];
    for data in all {
        for to in [DType::F32, DType::F64, DType::I32, DType::I64, DType::Bool] {
            let expr = Expr::Cast(to, Box::new(Expr::Input(0)));
            case(expr, std::slice::from_ref(&data), to).check(0.0, &format!("{:?} to {to:?}", data.dtype()));
        }
    }
}

/// The same function in an expression that has integers, and so is computed one by one.
#[test]
fn one_by_one_gives_the_bits_of_four_by_four() {
    let x = numbers(101);
    let whole: Vec<i64> = (0..101).map(|i| i - 50).collect();
    let inputs = [Data::F32(x.clone()), Data::F32(whole.iter().map(|x| *x as f32 / 8.0).collect())];
    let mixed = [Data::F32(x), Data::I64(whole)];
    let eighth = Expr::binary(Binary::Mul, Expr::Cast(DType::F32, Box::new(Expr::Input(1))), Expr::f32(0.125));
    let unary = [Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::Erf, Unary::Softplus, Unary::Sin, Unary::Relu];
    let forms = unary
        .into_iter()
        .map(|op| Expr::binary(Binary::Add, Expr::unary(op, Expr::Input(1)), Expr::Input(0)))
        .chain(BINARY.into_iter().filter(|op| !op.compares()).map(binary));
    for form in forms {
        let four = run(form.clone(), &inputs, DType::F32);
        let one = run(
            form.map_leaves(&mut |leaf| if *leaf == Expr::Input(1) { eighth.clone() } else { leaf.clone() }),
            &mixed,
            DType::F32,
        );
        let bits =
            |data: &Data| -> Vec<u32> { floats(data).iter().filter(|x| !x.is_nan()).map(|x| x.to_bits()).collect() };
        assert_eq!(bits(&four), bits(&one), "{form:?}");
    }
}
