use crate::Variant;
use crate::ir::{DType, Data, Op};
use crate::kernels::testing::{Case, Source, layouts, numbers};

#[test]
fn entries_of_any_axis_and_layout() {
    for shape in [vec![5], vec![3, 5], vec![5, 3], vec![4, 3, 33], vec![3, 7, 4]] {
        for axis in 0..shape.len() {
            for indices in [vec![], vec![2], vec![1, 3], vec![2, 1, 2]] {
                let out = [&shape[..axis], &indices, &shape[axis + 1..]].concat();
                let count: usize = indices.iter().product();
                let values = |count| Data::F32(numbers(count));
                for (layout, source) in layouts(&shape, values) {
                    let index = Data::I32((0..count as i32).map(|i| i % 3).collect());
                    let index = Source::whole(index, &indices).constant();
                    let case = Case::new(Op::Gather { axis }, vec![source, index], DType::F32, &out);
                    case.check(0.0, &format!("{shape:?} {layout} {axis} {indices:?}"));
                }
                for (layout, index) in
                    layouts(&indices, |count| Data::I64((0..count as i64).map(|i| i * 5 % 6 - 3).collect()))
                {
                    let source = Source::whole(values(shape.iter().product()), &shape);
                    let case = Case::new(Op::Gather { axis }, vec![source, index], DType::F32, &out);
                    case.check(0.0, &format!("{shape:?} {axis} {indices:?} {layout}"));
                }
            }
        }
    }
}

#[test]
fn indices_out_of_range_are_told() {
    for (index, status) in [(2, 0), (-3, 0), (3, 2), (-4, 2), (i64::MAX, 2), (i64::MIN, 2)] {
        let sources =
            vec![Source::whole(Data::I64(vec![10, 20, 30]), &[3]), Source::whole(Data::I64(vec![0, index]), &[2])];
        let case = Case::new(Op::Gather { axis: 0 }, sources, DType::I64, &[2]);
        assert_eq!(case.try_run(Variant::Simd128).0, status, "index {index}");
    }
}
