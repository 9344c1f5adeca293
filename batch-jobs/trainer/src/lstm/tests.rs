use burn::tensor::activation;
use burn::tensor::backend::AutodiffBackend;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

type Plain = Flex;
type Tracked = Autodiff<Flex>;

fn random<B: Backend, const D: usize>(shape: [usize; D], seed: u64) -> Tensor<B, D> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let size = shape.iter().product();
    let data: Vec<f32> = (0..size).map(|_| random.random::<f32>() * 1.6 - 0.8).collect();
    Tensor::from_data(TensorData::new(data, shape), &Default::default())
}

fn list<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

/// The same layer as a graph of burn's own operations.
fn graph<B: Backend>(x: Tensor<B, 3>, w: Tensor<B, 3>, r: Tensor<B, 3>, b: Tensor<B, 2>) -> Tensor<B, 3> {
    let [batch, steps, inputs] = x.dims();
    let [directions, width, hidden] = r.dims();
    let mut outputs = Vec::new();
    for direction in 0..directions {
        let w = w.clone().slice([direction..direction + 1, 0..width]).reshape([width, inputs]).transpose();
        let r = r.clone().slice([direction..direction + 1, 0..width]).reshape([width, hidden]).transpose();
        let b = b.clone().slice([direction..direction + 1, 0..width]);
        let mut h = Tensor::<B, 2>::zeros([batch, hidden], &x.device());
        let mut c = h.clone();
        let mut states = Vec::new();
        for step in 0..steps {
            let t = if direction == 0 { step } else { steps - 1 - step };
            let x = x.clone().slice([0..batch, t..t + 1]).reshape([batch, inputs]);
            let gates = x.matmul(w.clone()) + h.clone().matmul(r.clone()) + b.clone();
            let gate = |k: usize| gates.clone().slice([0..batch, k * hidden..(k + 1) * hidden]);
            let (i, o, f) = (activation::sigmoid(gate(0)), activation::sigmoid(gate(1)), activation::sigmoid(gate(2)));
            c = f * c + i * gate(3).tanh();
            h = o * c.clone().tanh();
            states.push(h.clone().reshape([batch, 1, hidden]));
        }
        if direction == 1 {
            states.reverse();
        }
        outputs.push(Tensor::cat(states, 1));
    }
    Tensor::cat(outputs, 2)
}

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{index}: {a} {b}");
    }
}

#[test]
fn activations_are_close_to_the_exact_functions() {
    for step in -200_000..200_000 {
        let x = step as f32 * 1e-4;
        let exact = f64::from(x);
        assert!((f64::from(super::activation::tanh(x)) - exact.tanh()).abs() < 4e-7, "{x}");
        let logistic = 1.0 / (1.0 + (-exact).exp());
        assert!((f64::from(super::activation::sigmoid(x)) - logistic).abs() < 2.5e-7, "{x}");
    }
    assert!(super::activation::tanh(f32::NAN).is_nan());
    assert_eq!(super::activation::tanh(1e30), super::activation::tanh(8.0));
}

#[test]
fn result_and_gradients_are_those_of_the_graph_of_steps() {
    // More rows than a chunk, a last chunk that is smaller, one and two directions.
    for (batch, steps, inputs, hidden, directions) in
        [(3, 5, 4, 6, 1), (70, 7, 4, 5, 2), (33, 1, 3, 8, 2), (1, 9, 2, 3, 2)]
    {
        let make = || {
            (
                random::<Tracked, 3>([batch, steps, inputs], 1).require_grad(),
                random::<Tracked, 3>([directions, 4 * hidden, inputs], 2).require_grad(),
                random::<Tracked, 3>([directions, 4 * hidden, hidden], 3).require_grad(),
                random::<Tracked, 2>([directions, 4 * hidden], 4).require_grad(),
            )
        };
        let weight = random::<Tracked, 3>([batch, steps, directions * hidden], 5);
        let (x, w, r, b) = make();
        let y = lstm(x.clone(), w.clone(), r.clone(), b.clone());
        let grads = (y.clone() * weight.clone()).sum().backward();
        let (x2, w2, r2, b2) = make();
        let y2 = graph(x2.clone(), w2.clone(), r2.clone(), b2.clone());
        let grads2 = (y2.clone() * weight).sum().backward();
        close(&list(y), &list(y2), 2e-6);
        close(&list(x.grad(&grads).unwrap()), &list(x2.grad(&grads2).unwrap()), 2e-5);
        close(&list(w.grad(&grads).unwrap()), &list(w2.grad(&grads2).unwrap()), 5e-5);
        close(&list(r.grad(&grads).unwrap()), &list(r2.grad(&grads2).unwrap()), 5e-5);
        close(&list(b.grad(&grads).unwrap()), &list(b2.grad(&grads2).unwrap()), 5e-5);
    }
}

#[test]
fn gradients_are_slopes() {
    let (batch, steps, inputs, hidden) = (2, 4, 3, 3);
    let shapes = ([2, 4 * hidden, inputs], [2, 4 * hidden, hidden]);
    let loss = |w: &[f32], r: &[f32]| -> f64 {
        let w = Tensor::<Plain, 3>::from_data(TensorData::new(w.to_vec(), shapes.0), &Default::default());
        let r = Tensor::<Plain, 3>::from_data(TensorData::new(r.to_vec(), shapes.1), &Default::default());
        let y = lstm(random([batch, steps, inputs], 7), w, r, random([2, 4 * hidden], 8));
        list(y).iter().enumerate().map(|(index, y)| f64::from(*y) * (index as f64 * 0.37).sin()).sum()
    };
    let (w, r) = (random::<Tracked, 3>(shapes.0, 9).require_grad(), random::<Tracked, 3>(shapes.1, 10).require_grad());
    let y = lstm(random([batch, steps, inputs], 7), w.clone(), r.clone(), random([2, 4 * hidden], 8));
    let factors: Vec<f32> = (0..batch * steps * 2 * hidden).map(|index| (index as f64 * 0.37).sin() as f32).collect();
    let factors = Tensor::from_data(TensorData::new(factors, [batch, steps, 2 * hidden]), &Default::default());
    let grads = (y * factors).sum().backward();
    let (dw, dr) = (list(w.grad(&grads).unwrap()), list(r.grad(&grads).unwrap()));
    let (w, r) = (list(w.inner()), list(r.inner()));
    let step = 1e-2_f32;
    for place in (0..w.len()).step_by(5) {
        let moved = |by: f32| {
            let mut w = w.clone();
            w[place] += by;
            loss(&w, &r)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        assert!((slope - f64::from(dw[place])).abs() < 2e-3, "w {place}: {slope} {}", dw[place]);
    }
    for place in (0..r.len()).step_by(5) {
        let moved = |by: f32| {
            let mut r = r.clone();
            r[place] += by;
            loss(&w, &r)
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
        assert!((slope - f64::from(dr[place])).abs() < 2e-3, "r {place}: {slope} {}", dr[place]);
    }
}

#[test]
fn an_input_without_gradient_gets_none() {
    let x = random::<Tracked, 3>([2, 3, 4], 1);
    let w = random::<Tracked, 3>([1, 8, 4], 2).require_grad();
    let grads = lstm(x.clone(), w.clone(), random([1, 8, 2], 3), random([1, 8], 4)).sum().backward();
    assert!(x.grad(&grads).is_none() && w.grad(&grads).is_some());
    assert_eq!(<Tracked as AutodiffBackend>::InnerBackend::name(&Default::default()), Plain::name(&Default::default()));
}
