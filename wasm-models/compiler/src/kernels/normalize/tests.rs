use crate::ir::{DType, Data, Op};
use crate::kernels::testing::{Case, Source, layouts, numbers};

#[test]
fn rows_of_any_length_and_layout() {
    for size in [2, 3, 4, 5, 7, 8, 16, 19, 33, 64] {
        for affine in 0..=2 {
            for shape in [vec![size], vec![3, size], vec![2, 3, size]] {
                for (layout, source) in
                    layouts(&shape, |count| Data::F32(numbers(count).iter().map(|x| x + 1.0).collect()))
                {
                    let scale = Source::whole(Data::F32(numbers(size)), &[size]).constant();
                    let bias =
                        Source::view(Data::F32(vec![0.25]), &[1], move |x| x.broadcast(&[size]).expect("broadcast"));
                    let sources = [source, scale, bias].into_iter().take(1 + affine).collect();
                    let case = Case::new(Op::Normalize { epsilon: 1e-5 }, sources, DType::F32, &shape);
                    case.check(1e-6, &format!("{shape:?} {layout} {affine}"));
                }
            }
        }
    }
}

#[test]
fn a_single_number_becomes_the_bias() {
    let sources = vec![
        Source::whole(Data::F32(vec![3.0, -4.0]), &[2, 1]),
        Source::whole(Data::F32(vec![2.0]), &[1]),
        Source::whole(Data::F32(vec![7.0]), &[1]),
    ];
    Case::new(Op::Normalize { epsilon: 1e-5 }, sources, DType::F32, &[2, 1]).check(1e-6, "one");
}

#[test]
fn scale_and_bias_may_be_views() {
    for size in [1, 3, 4, 7, 9, 16, 33] {
        let wide = || Data::F32(numbers(2 * size + 1));
        let back = move |x: crate::ir::Operand| x.sliced(0, 2 * size, -2, size);
        let every_second = move |x: crate::ir::Operand| x.sliced(0, 1, 2, size);
        for is_constant in [false, true] {
            let source = |source: Source| if is_constant { source.constant() } else { source };
            let sources = vec![
                Source::whole(Data::F32(numbers(3 * size)), &[3, size]),
                source(Source::view(wide(), &[2 * size + 1], back)),
                source(Source::view(wide(), &[2 * size + 1], every_second)),
            ];
            let case = Case::new(Op::Normalize { epsilon: 1e-5 }, sources, DType::F32, &[3, size]);
            case.check(1e-6, &format!("{size} {is_constant}"));
        }
    }
}
