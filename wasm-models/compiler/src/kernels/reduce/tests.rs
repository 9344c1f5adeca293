use crate::Variant;
use crate::ir::{DType, Data, Op, Operand, Reduction};
use crate::kernels::testing::{Case, Source, layouts, numbers};

const KINDS: [Reduction; 7] = [
    Reduction::Sum,
    Reduction::Mean,
    Reduction::Min,
    Reduction::Max,
    Reduction::Prod,
    Reduction::ArgMax,
    Reduction::ArgMin,
];

fn result(kind: Reduction, dtype: DType) -> DType {
    if matches!(kind, Reduction::ArgMax | Reduction::ArgMin) { DType::I64 } else { dtype }
}

/// Sums do not cancel, products do not overflow.
fn around_one(count: usize) -> Data {
    Data::F32(numbers(count).iter().map(|x| 1.0 + x / 4.0).collect())
}

#[test]
fn floats_of_any_layout() {
    for kind in KINDS {
        for shape in [vec![1], vec![7], vec![33], vec![3, 5], vec![5, 3], vec![16, 7], vec![2, 6, 9], vec![3, 4, 8]] {
            for axes in 1..=shape.len() {
                for (layout, source) in layouts(&shape, around_one) {
                    let kept = &shape[..shape.len() - axes];
                    let case = Case::new(Op::Reduce { kind, axes }, vec![source], result(kind, DType::F32), kept);
                    case.check(1e-5, &format!("{kind:?} {shape:?} {axes} {layout}"));
                }
            }
        }
    }
}

#[test]
fn other_types_are_exact() {
    for kind in KINDS {
        for shape in [vec![5], vec![3, 4], vec![2, 3, 5]] {
            for (layout, source) in
                layouts(&shape, |count| Data::I64((0..count as i64).map(|i| i * 7 % 11 - 5).collect()))
            {
                let kept = &shape[..shape.len() - 1];
                let case = Case::new(Op::Reduce { kind, axes: 1 }, vec![source], DType::I64, kept);
                case.check(0.0, &format!("{kind:?} {shape:?} {layout}"));
            }
            for (layout, source) in
                layouts(&shape, |count| Data::I32((0..count as i32).map(|i| i * 7 % 11 - 5).collect()))
            {
                let kept = &shape[..shape.len() - 1];
                let case = Case::new(Op::Reduce { kind, axes: 1 }, vec![source], result(kind, DType::I32), kept);
                case.check(0.0, &format!("{kind:?} {shape:?} {layout}"));
            }
            for (layout, source) in
                layouts(&shape, |count| Data::F64((0..count).map(|i| (i % 5) as f64 - 1.5).collect()))
            {
                let kept = &shape[..shape.len() - 1];
                let case = Case::new(Op::Reduce { kind, axes: 1 }, vec![source], result(kind, DType::F64), kept);
                case.check(0.0, &format!("{kind:?} {shape:?} {layout}"));
            }
        }
    }
}

#[test]
fn nothing_reduces_to_the_identity() {
    for kind in KINDS {
        for data in [Data::F32(vec![]), Data::I64(vec![]), Data::I32(vec![])] {
            if kind == Reduction::Mean && data.dtype() == DType::F32 {
                continue;
            }
            let dtype = result(kind, data.dtype());
            let case = Case::new(Op::Reduce { kind, axes: 1 }, vec![Source::whole(data, &[3, 0])], dtype, &[3]);
            case.check(0.0, &format!("{kind:?} {dtype:?}"));
        }
        let none = Case::new(
            Op::Reduce { kind, axes: 1 },
            vec![Source::whole(Data::F32(vec![]), &[0, 3])],
            result(kind, DType::F32),
            &[0],
        );
        none.check(0.0, "no results");
    }
}

/// However a tensor lies in memory, and so however the sum is computed: it has the same bits.
#[test]
fn the_order_of_a_sum_depends_on_sizes_alone() {
    for (rows, steps, channels) in [(1, 7, 5), (4, 7, 8), (5, 19, 6), (4, 8, 3)] {
        for (kind, axes) in [(Reduction::Sum, 1), (Reduction::Mean, 2), (Reduction::Prod, 1)] {
            let at = |row: usize, step: usize, channel: usize| {
                ((row * 31 + step * 7 + channel * 3) % 23) as f32 * 0.137 - 1.1
            };
            let mut results = Vec::new();
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let sizes = [rows, steps, channels];
                let shape = order.map(|axis| sizes[axis]);
                let mut data = Vec::new();
                for i in 0..shape[0] {
                    for j in 0..shape[1] {
                        for k in 0..shape[2] {
                            let mut index = [0; 3];
                            (index[order[0]], index[order[1]], index[order[2]]) = (i, j, k);
                            data.push(at(index[0], index[1], index[2]));
                        }
                    }
                }
                let mut back = [0; 3];
                order.iter().enumerate().for_each(|(place, axis)| back[*axis] = place);
                let source = Source::view(Data::F32(data), &shape, move |x: Operand| x.transposed(&back));
                let case = Case::new(Op::Reduce { kind, axes }, vec![source], DType::F32, &sizes[..3 - axes]);
                results.push(case.run(Variant::Simd128));
            }
            assert!(results.iter().all(|result| *result == results[0]), "{kind:?} {rows} {steps} {channels}");
        }
    }
}
