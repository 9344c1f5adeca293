use super::*;

#[test]
fn steps_are_those_of_torch_adamw() {
    // torch.optim.AdamW([1.0, -2.0], lr=0.1, weight_decay=0.01) with gradients [0.5, -1.0], then [0.25, 3.0], in the
    // formula of its documentation, evaluated in double precision.
    let spec = OptimizerSpec { learning_rate: 0.1, weight_decay: 0.01, ..OptimizerSpec::default() };
    let mut weights = [1.0_f32, -2.0];
    let (mut first, mut second) = ([0.0; 2], [0.0; 2]);
    let mut exact = [1.0_f64, -2.0];
    let (mut m, mut v) = ([0.0_f64; 2], [0.0_f64; 2]);
    for (step, gradients) in [[0.5_f32, -1.0], [0.25, 3.0]].iter().enumerate() {
        adam_step(&spec, step as u64 + 1, &mut weights, &mut first, &mut second, gradients);
        for k in 0..2 {
            let g = f64::from(gradients[k]);
            exact[k] *= 1.0 - 0.1 * 0.01;
            m[k] = 0.9 * m[k] + 0.1 * g;
            v[k] = 0.999 * v[k] + 0.001 * g * g;
            let (m, v) = (m[k] / (1.0 - 0.9_f64.powi(step as i32 + 1)), v[k] / (1.0 - 0.999_f64.powi(step as i32 + 1)));
            exact[k] -= 0.1 * m / (v.sqrt() + 1e-8);
        }
    }
    for (weight, exact) in weights.iter().zip(exact) {
        assert!((f64::from(*weight) - exact).abs() < 1e-6, "{weight} {exact}");
    }
    // The first step moves by the learning rate whatever the gradient's size.
    let mut weights = [0.0_f32];
    let spec = OptimizerSpec { weight_decay: 0.0, ..spec };
    adam_step(&spec, 1, &mut weights, &mut [0.0], &mut [0.0], &[1e-3]);
    assert!((weights[0] + 0.1).abs() < 1e-5, "{}", weights[0]);
}

#[test]
fn clipping_keeps_the_direction() {
    let mut gradients = [3.0_f32, -4.0];
    let norm = global_norm(&gradients);
    assert_eq!(norm, 5.0);
    clip(&mut gradients, norm, 10.0);
    assert_eq!(gradients, [3.0, -4.0]);
    clip(&mut gradients, norm, 0.0);
    assert_eq!(gradients, [3.0, -4.0]);
    clip(&mut gradients, norm, 1.0);
    assert!((global_norm(&gradients) - 1.0).abs() < 1e-6 && gradients[0] > 0.0);
}
