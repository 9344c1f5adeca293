use crate::ir::{DType, Data, Op};
use crate::kernels::testing::{Case, Source, layouts, numbers};

#[test]
fn tensors_of_any_layout_are_joined() {
    for shape in [vec![1], vec![7], vec![3, 5], vec![4, 8], vec![3, 1], vec![2, 4, 9]] {
        for axis in 0..shape.len() {
            for (layout, source) in layouts(&shape, |count| Data::F32(numbers(count))) {
                let resized = |size: usize| {
                    let mut shape = shape.clone();
                    shape[axis] = size;
                    Source::whole(Data::F32(numbers(shape.iter().product())), &shape)
                };
                let mut out = shape.clone();
                out[axis] += 4;
                let sources = vec![resized(1), resized(0), source, resized(3)];
                let case = Case::new(Op::Concat { axis }, sources, DType::F32, &out);
                case.check(0.0, &format!("{shape:?} {axis} {layout}"));
            }
        }
    }
}

#[test]
fn other_types_are_joined() {
    for data in [Data::I64((0..30).map(|i| i << 33).collect()), Data::Bool((0..30).map(|i| i % 4 == 0).collect())] {
        let dtype = data.dtype();
        let sources = || vec![Source::whole(data.clone(), &[5, 6]), Source::whole(data.clone(), &[5, 6])];
        Case::new(Op::Concat { axis: 0 }, sources(), dtype, &[10, 6]).check(0.0, "rows");
        Case::new(Op::Concat { axis: 1 }, sources(), dtype, &[5, 12]).check(0.0, "columns");
    }
}
