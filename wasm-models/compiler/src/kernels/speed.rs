//! How long kernels take: `cargo test --release -p moola-wasm-compiler --lib speed -- --ignored --nocapture`.

use std::time::Instant;

use super::testing::{Case, Source, numbers};
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Reduction, Unary};
use crate::{Options, Variant, testkit};

fn input(shape: &[usize]) -> Source {
    Source::whole(Data::F32(numbers(shape.iter().product())), shape).constant()
}

/// The least time of a call, which copies the output once more; and the bytes of the module without its constants.
fn report(name: &str, op: Op, sources: Vec<Source>, shape: &[usize]) {
    let case = Case::new(op, sources, DType::F32, shape);
    for variant in [Variant::Simd128, Variant::RelaxedSimd] {
        let wasm = testkit::compile_as_it_is(&case.graph, &Options { variant, ..Options::default() });
        let mut running = testkit::Running::new(&wasm);
        running.run(1, &[]);
        let times = (0..30).map(|_| {
            let start = Instant::now();
            (0..200).for_each(|_| running.call(1));
            start.elapsed().as_nanos() / 200
        });
        let least = times.min().unwrap_or(0);
        let code = code_bytes(&wasm);
        println!("{name:32} {:13} {least:8} ns  {code:6} bytes of code", variant.name());
    }
}

fn code_bytes(wasm: &[u8]) -> usize {
    let payloads = wasmparser::Parser::new(0).parse_all(wasm);
    payloads
        .map(|payload| match payload.expect("a valid module") {
            wasmparser::Payload::CodeSectionStart { size, .. } => size as usize,
            _ => 0,
        })
        .sum()
}

#[test]
#[ignore = "prints times"]
fn speed() {
    let x = || Expr::Input(0);
    let half = Expr::binary(Binary::Mul, x(), Expr::f32(0.5));
    let erf = Expr::unary(Unary::Erf, Expr::binary(Binary::Mul, x(), Expr::f32(std::f32::consts::FRAC_1_SQRT_2)));
    let gelu = Expr::binary(Binary::Mul, half, Expr::binary(Binary::Add, erf, Expr::f32(1.0)));
    let rows = [105, 64];
    let map = |name: &str, expr| report(name, Op::Map(expr), vec![input(&rows)], &rows);
    map("copy 105x64", x());
    map("scale 105x64", Expr::binary(Binary::Mul, x(), Expr::f32(0.5)));
    map("gelu 105x64", gelu);
    for op in [Unary::Tanh, Unary::Sigmoid, Unary::Exp, Unary::Log, Unary::Sin, Unary::Softplus] {
        map(&format!("{op:?} 105x64"), Expr::unary(op, x()));
    }
    map("pow 105x64", Expr::binary(Binary::Pow, x(), Expr::f32(1.7)));
    report("softmax 105x105", Op::Softmax { log: false }, vec![input(&[105, 105])], &[105, 105]);
    let affine = || vec![input(&rows), input(&[64]), input(&[64])];
    report("normalize 105x64", Op::Normalize { epsilon: 1e-5 }, affine(), &rows);
    let turned = |shape: &[usize]| {
        Source::view(Data::F32(numbers(shape.iter().product())), shape, |x: Operand| x.transposed(&[1, 0])).constant()
    };
    report("transposing copy 64x105", Op::Map(x()), vec![turned(&rows)], &[64, 105]);
    let sum = |kind| Op::Reduce { kind, axes: 1 };
    report("mean of rows 105x64", sum(Reduction::Mean), vec![input(&rows)], &[105]);
    report("mean of columns 64x105", sum(Reduction::Mean), vec![turned(&rows)], &[64]);
}
