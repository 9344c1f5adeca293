use crate::Variant;
use crate::ir::{DType, Data, Op};
use crate::kernels::testing::{Case, Source, floats, layouts, numbers};

fn data(count: usize) -> Data {
    Data::F32(numbers(count).iter().map(|x| x * 10.0).collect())
}

#[test]
fn rows_of_any_length_and_layout() {
    for size in [1, 2, 3, 4, 5, 7, 8, 16, 19, 33, 105] {
        for log in [false, true] {
            for shape in [vec![size], vec![3, size], vec![2, 3, size]] {
                for (layout, source) in layouts(&shape, data) {
                    let case = Case::new(Op::Softmax { log }, vec![source], DType::F32, &shape);
                    case.check(5e-7, &format!("{shape:?} {layout} {log}"));
                }
            }
        }
    }
    Case::new(Op::Softmax { log: false }, vec![Source::whole(data(0), &[0, 5])], DType::F32, &[0, 5])
        .check(0.0, "empty");
    Case::new(Op::Softmax { log: false }, vec![Source::whole(data(0), &[5, 0])], DType::F32, &[5, 0])
        .check(0.0, "empty");
}

#[test]
fn masked_entries_are_zero() {
    let mut x = numbers(21);
    for (index, x) in x.iter_mut().enumerate().filter(|(index, _)| index % 3 != 1) {
        *x = if index % 2 == 0 { f32::NEG_INFINITY } else { -1e9 };
    }
    let case = Case::new(Op::Softmax { log: false }, vec![Source::whole(Data::F32(x), &[3, 7])], DType::F32, &[3, 7]);
    let result = case.run(Variant::Simd128);
    for (index, x) in floats(&result).iter().enumerate() {
        assert_eq!(*x == 0.0, index % 3 != 1, "number {index}: {x}");
    }
    case.check(5e-7, "masked");
}
