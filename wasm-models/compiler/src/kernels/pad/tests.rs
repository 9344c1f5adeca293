use crate::ir::{DType, Data, Op, Scalar};
use crate::kernels::testing::{Case, Source, layouts, numbers};

#[test]
fn the_rest_is_filled() {
    for shape in [vec![1], vec![7], vec![3, 5], vec![4, 8], vec![2, 3, 9]] {
        for fill in [0.0, -1.5] {
            for (layout, source) in layouts(&shape, |count| Data::F32(numbers(count))) {
                let before: Vec<usize> = (0..shape.len()).map(|axis| (axis + 1) % 3).collect();
                let out: Vec<usize> = shape.iter().zip(&before).map(|(size, before)| size + before + 2).collect();
                let op = Op::Pad { before, fill: Scalar::F32(fill) };
                Case::new(op, vec![source], DType::F32, &out).check(0.0, &format!("{shape:?} {layout} {fill}"));
            }
        }
    }
}

#[test]
fn other_types_are_filled() {
    let sources = |data: Data| vec![Source::whole(data, &[2])];
    let pad = |fill| Op::Pad { before: vec![1], fill };
    Case::new(pad(Scalar::I64(-7)), sources(Data::I64(vec![1, 2])), DType::I64, &[5]).check(0.0, "int64");
    Case::new(pad(Scalar::F64(0.5)), sources(Data::F64(vec![1.0, 2.0])), DType::F64, &[5]).check(0.0, "float64");
    Case::new(pad(Scalar::Bool(true)), sources(Data::Bool(vec![false, true])), DType::Bool, &[5]).check(0.0, "bool");
    Case::new(pad(Scalar::F32(2.0)), vec![Source::whole(Data::F32(vec![]), &[0])], DType::F32, &[3])
        .check(0.0, "empty");
}
