use super::*;

#[test]
fn matrices_of_all_ranks() {
    let run = |a: &[usize], b: &[usize]| {
        let len = |shape: &[usize]| shape.iter().product::<usize>();
        case(13, "MatMul", &[]).run(&[(a, count(len(a)))], &[(b, count(len(b)))])
    };
    assert_eq!(run(&[2, 2], &[2, 2]), f32s(&[2.0, 3.0, 6.0, 11.0]));
    assert_eq!(run(&[3], &[3]), f32s(&[5.0]));
    assert_eq!(run(&[2], &[2, 3]), f32s(&[3.0, 4.0, 5.0]));
    assert_eq!(run(&[2, 3], &[3]), f32s(&[5.0, 14.0]));
    assert_eq!(run(&[2, 1, 2], &[2, 1]), f32s(&[1.0, 3.0]));
    assert_eq!(run(&[2], &[2, 2, 1]), f32s(&[1.0, 3.0]));
    // [2, 1, 1, 2] and [2, 2, 1] to [2, 2, 1, 1].
    assert_eq!(run(&[2, 1, 1, 2], &[2, 2, 1]), f32s(&[1.0, 3.0, 3.0, 13.0]));
    let refused = case(13, "MatMul", &[]).refusal(&[(&[2, 3], count(6))], &[(&[2, 3], count(6))]);
    assert_eq!(refused, "node `y0` (`MatMul`): shapes [2, 3] and [2, 3] do not multiply");
}

#[test]
fn gemm_scales_and_transposes() {
    let a: Tensor<'_> = (&[3, 2], count(6));
    let b: Tensor<'_> = (&[2, 3], count(6));
    let attributes =
        [("transA", Attr::Int(1)), ("transB", Attr::Int(1)), ("alpha", Attr::Float(0.5)), ("beta", Attr::Float(2.0))];
    // A^T = [[0, 2, 4], [1, 3, 5]], B^T = [[0, 3], [1, 4], [2, 5]].
    let expected = [[10.0, 28.0], [13.0, 40.0]];
    let c: Tensor<'_> = (&[2, 1], f32s(&[1.0, -1.0]));
    let y = case(13, "Gemm", &attributes).run(&[a.clone()], &[b.clone(), c]);
    let with_c = |row: usize, column: usize, c: f32| 0.5 * expected[row][column] + 2.0 * c;
    assert_eq!(y, f32s(&[with_c(0, 0, 1.0), with_c(0, 1, 1.0), with_c(1, 0, -1.0), with_c(1, 1, -1.0)]));
    let y = case(11, "Gemm", &attributes[..3]).run(&[a.clone()], &[b.clone()]);
    assert_eq!(y, f32s(&[5.0, 14.0, 6.5, 20.0]));
    let refused = case(13, "Gemm", &attributes).refusal(&[a], &[b, (&[3], count(3))]);
    assert!(refused.contains("C of shape [3]"), "{refused}");
}
