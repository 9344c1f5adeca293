//! AdamW (Loshchilov and Hutter 2019) with gradients clipped by their global norm.

#[cfg(test)]
mod tests;

use moola_core::contract::OptimizerSpec;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Euclidean norm over all gradients, summed in double precision.
#[must_use]
pub fn global_norm(gradients: &[f32]) -> f64 {
    gradients.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Scales gradients down to the norm `max`; 0 leaves them.
pub fn clip(gradients: &mut [f32], norm: f64, max: f64) {
    if max > 0.0 && norm > max {
        let factor = (max / norm) as f32;
        gradients.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Does step number `step` (from 1): decays weights by `learning_rate * weight_decay`, then moves them by Adam.
pub fn adam_step(
    spec: &OptimizerSpec,
    step: u64,
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradients: &[f32],
) {
    let step = i32::try_from(step).unwrap_or(i32::MAX);
    let rate = (spec.learning_rate / (1.0 - BETA1.powi(step))) as f32;
    let correction = (1.0 / (1.0 - BETA2.powi(step))) as f32;
    let keep = (1.0 - spec.learning_rate * spec.weight_decay) as f32;
    let (beta1, beta2, epsilon) = (BETA1 as f32, BETA2 as f32, EPSILON as f32);
    // Rounded after the difference: 1 - 0.999 in single precision is off by 1e-5 of itself.
    let (new1, new2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
    for ((weight, gradient), (m, v)) in weights.iter_mut().zip(gradients).zip(first.iter_mut().zip(second.iter_mut())) {
        *m = beta1 * *m + new1 * gradient;
        *v = beta2 * *v + new2 * gradient * gradient;
        *weight = *weight * keep - rate * *m / ((*v * correction).sqrt() + epsilon);
    }
}
