use crate::Variant;
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Unary};
use crate::kernels::testing::{Case, Source, floats, numbers};

fn input(index: usize) -> Expr {
    Expr::Input(index)
}

/// `a * b + c` with operands of all kinds of strides.
#[test]
fn operands_may_have_any_strides() {
    for (m, n) in [(1, 1), (3, 1), (1, 3), (5, 3), (3, 4), (4, 5), (2, 7), (7, 16), (5, 33)] {
        let (a, b, c) = (numbers(m * n), numbers(n), numbers(2 * m * n));
        let expected: Vec<f32> = (0..m * n)
            .map(|i| {
                let (row, column) = (i / n, i % n);
                a[column * m + row] * b[n - 1 - column] + c[2 * (row * n + column) + 1]
            })
            .collect();
        let sources = vec![
            Source::view(Data::F32(a), &[n, m], |x| x.transposed(&[1, 0])),
            Source::view(Data::F32(b), &[n], move |x| x.sliced(0, n - 1, -1, n).broadcast(&[m, n]).expect("broadcast"))
                .constant(),
            Source::view(Data::F32(c), &[m, n, 2], |x| x.sliced(2, 1, 1, 1).squeezed(2)),
        ];
        let expr = Expr::binary(Binary::Add, Expr::binary(Binary::Mul, input(0), input(1)), input(2));
        let case = Case::new(Op::Map(expr), sources, DType::F32, &[m, n]);
        assert_eq!(floats(&case.run(Variant::Simd128)), expected, "{m} x {n}");
    }
}

#[test]
fn copies_move_every_element() {
    for [a, b, c] in [[1, 1, 1], [2, 3, 5], [4, 4, 4], [3, 5, 4], [5, 7, 9], [2, 33, 16], [1, 16, 105], [3, 1, 70]] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for reverse in [false, true] {
                let count = a * b * c;
                let sizes = [a, b, c];
                let shape = order.map(|axis| sizes[axis]);
                let expected = positions(sizes, order, reverse);
                let view = move |x: Operand| {
                    let x = if reverse { x.sliced(2, c - 1, -1, c) } else { x };
                    x.transposed(&order)
                };
                for dtype in [DType::F32, DType::I64, DType::Bool] {
                    let data = match dtype {
                        DType::F32 => Data::F32((0..count).map(|i| i as f32).collect()),
                        DType::I64 => Data::I64((0..count).map(|i| i as i64 * 0x1_0000_0003).collect()),
                        _ => Data::Bool((0..count).map(|i| i % 3 == 0).collect()),
                    };
                    let wanted = data.pick(expected.iter().copied());
                    let case = Case::new(Op::Map(input(0)), vec![Source::view(data, &sizes, view)], dtype, &shape);
                    assert_eq!(case.run(Variant::Simd128), wanted, "{sizes:?} {order:?} {reverse} {dtype:?}");
                }
            }
        }
    }
}

fn positions(sizes: [usize; 3], order: [usize; 3], reverse: bool) -> Vec<usize> {
    let [p, q, r] = order.map(|axis| sizes[axis]);
    let mut positions = Vec::new();
    for index in 0..p * q * r {
        let mut at = [0; 3];
        at[order[0]] = index / (q * r);
        at[order[1]] = index / r % q;
        at[order[2]] = index % r;
        if reverse {
            at[2] = sizes[2] - 1 - at[2];
        }
        positions.push((at[0] * sizes[1] + at[1]) * sizes[2] + at[2]);
    }
    positions
}

#[test]
fn empty_tensors_and_scalars_work() {
    let twice = Expr::binary(Binary::Add, input(0), input(0));
    let empty = Case::new(Op::Map(twice.clone()), vec![Source::whole(Data::F32(vec![]), &[3, 0])], DType::F32, &[3, 0]);
    assert_eq!(empty.run(Variant::Simd128), Data::F32(vec![]));
    let scalar = Case::new(Op::Map(twice), vec![Source::whole(Data::F32(vec![1.5]), &[])], DType::F32, &[]);
    assert_eq!(scalar.run(Variant::Simd128), Data::F32(vec![3.0]));
    let constant = Case::new(Op::Map(Expr::f32(2.5)), vec![], DType::F32, &[2, 3]);
    assert_eq!(constant.run(Variant::Simd128), Data::F32(vec![2.5; 6]));
}

#[test]
fn conditions_are_masks() {
    for n in [1, 3, 4, 6, 19] {
        let x = numbers(n);
        let flags: Vec<bool> = (0..n).map(|i| i % 3 == 0).collect();
        let less = Expr::binary(Binary::Less, input(0), Expr::f32(0.5));
        let both = Expr::binary(Binary::And, less, Expr::unary(Unary::Not, input(1)));
        let run = |expr, dtype| {
            let sources =
                vec![Source::whole(Data::F32(x.clone()), &[n]), Source::whole(Data::Bool(flags.clone()), &[n])];
            Case::new(Op::Map(expr), sources, dtype, &[n]).run(Variant::Simd128)
        };
        let expected: Vec<bool> = x.iter().zip(&flags).map(|(x, flag)| *x < 0.5 && !flag).collect();
        assert_eq!(run(both.clone(), DType::Bool), Data::Bool(expected.clone()));
        let chosen = Expr::select(both.clone(), input(0), Expr::Cast(DType::F32, Box::new(input(1))));
        let wanted = (0..n).map(|i| if expected[i] { x[i] } else { f32::from(u8::from(flags[i])) }).collect();
        assert_eq!(run(chosen, DType::F32), Data::F32(wanted));
        let number = Expr::Cast(DType::I64, Box::new(both));
        assert_eq!(run(number, DType::I64), Data::I64(expected.iter().map(|x| i64::from(*x)).collect()));
    }
}
