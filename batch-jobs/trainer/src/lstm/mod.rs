//! The LSTM as one differentiable operation.
//!
//! A graph of the steps costs three times as much as the mathematics: it slices, adds and stores per step. Here the forward
//! pass keeps the activated gates, and the backward pass does one small product per step for the hidden state, and one large
//! product over all steps for each of the gradients of weights and input.

mod activation;
mod kernel;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorMetadata, TensorPrimitive};

pub use kernel::set_num_threads;
use kernel::{ChunkTape, Sizes, Weights};

/// Gradients of one layer.
#[derive(Debug)]
pub struct LstmGradients<B: Backend> {
    /// Of the input, where it was asked for.
    pub x: Option<FloatTensor<B>>,
    /// Of the input's weights.
    pub w: FloatTensor<B>,
    /// Of the state's weights.
    pub r: FloatTensor<B>,
    /// Of the biases.
    pub b: FloatTensor<B>,
}

/// A back-end without automatic differentiation that has the LSTM's two passes. Shapes are those of [`lstm`].
pub trait LstmKernel: Backend {
    /// What the forward pass keeps for the backward pass.
    type Tape: Clone + Send + fmt::Debug + 'static;

    /// Runs the layer.
    fn lstm_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Self::Tape);

    /// Gradients, from that of the result.
    fn lstm_backward(tape: Self::Tape, dy: FloatTensor<Self>, needs_x: bool) -> LstmGradients<Self>;
}

/// A back-end that runs the LSTM, with gradients where it has them.
pub trait LstmBackend: Backend {
    /// Runs the layer; see [`lstm`].
    fn lstm(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Runs one LSTM layer from a zero state, in one direction or both.
///
/// With σ the logistic function and ∘ the product number by number (ONNX `LSTM`):
/// `i, o, f = σ(W x + R h + b)`, `g = tanh(W x + R h + b)`, `c = f ∘ c + i ∘ g`, `h = o ∘ tanh(c)`.
///
/// # Shapes
/// `x` `[batch, steps, inputs]`, `w` `[directions, 4 * hidden, inputs]`, `r` `[directions, 4 * hidden, hidden]`, `b`
/// `[directions, 4 * hidden]`, gates in the order input, output, forget, cell. Returns
/// `[batch, steps, directions * hidden]`; the second direction runs from the last step to the first.
pub fn lstm<B: LstmBackend>(x: Tensor<B, 3>, w: Tensor<B, 3>, r: Tensor<B, 3>, b: Tensor<B, 2>) -> Tensor<B, 3> {
    let y = B::lstm(
        x.into_primitive().tensor(),
        w.into_primitive().tensor(),
        r.into_primitive().tensor(),
        b.into_primitive().tensor(),
    );
    Tensor::from_primitive(TensorPrimitive::Float(y))
}

/// What the CPU keeps of a forward pass.
#[derive(Clone)]
pub struct FlexTape {
    sizes: Sizes,
    chunks: Arc<Vec<ChunkTape>>,
    weights: [FlexTensor; 3],
}

impl fmt::Debug for FlexTape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlexTape").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

fn sizes(x: &FlexTensor, w: &FlexTensor) -> Sizes {
    let (x, w) = (x.shape(), w.shape());
    Sizes { batch: x[0], steps: x[1], inputs: x[2], hidden: w[1] / 4, directions: w[0] }
}

fn tensor(data: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape.to_vec()))
}

impl LstmKernel for Flex {
    type Tape = FlexTape;

    fn lstm_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, Self::Tape) {
        let [x, w, r, b] = [x, w, r, b].map(|tensor| tensor.to_contiguous());
        let sizes = sizes(&x, &w);
        let weights = Weights { w: numbers(&w), r: numbers(&r), b: numbers(&b) };
        let (y, chunks) = kernel::forward(sizes, numbers(&x), weights);
        let y = tensor(y, &[sizes.batch, sizes.steps, sizes.directions * sizes.hidden]);
        (y, FlexTape { sizes, chunks: Arc::new(chunks), weights: [w, r, b] })
    }

    fn lstm_backward(tape: Self::Tape, dy: FloatTensor<Self>, needs_x: bool) -> LstmGradients<Self> {
        let FlexTape { sizes, chunks, weights: [w, r, b] } = tape;
        let dy = dy.to_contiguous();
        let weights = Weights { w: numbers(&w), r: numbers(&r), b: numbers(&b) };
        let gradients = kernel::backward(sizes, &chunks, weights, numbers(&dy), needs_x);
        let Sizes { batch, steps, inputs, hidden, directions } = sizes;
        LstmGradients {
            x: gradients.x.map(|x| tensor(x, &[batch, steps, inputs])),
            w: tensor(gradients.w, &[directions, 4 * hidden, inputs]),
            r: tensor(gradients.r, &[directions, 4 * hidden, hidden]),
            b: tensor(gradients.b, &[directions, 4 * hidden]),
        }
    }
}

/// The numbers of a contiguous tensor.
fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or(&[])
}

impl LstmBackend for Flex {
    fn lstm(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::lstm_forward(x, w, r, b).0
    }
}

impl<B: LstmKernel, C: CheckpointStrategy> LstmBackend for Autodiff<B, C> {
    fn lstm(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Lstm;

        impl<B: LstmKernel> Backward<B, 4> for Lstm {
            type State = B::Tape;

            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let dy = grads.consume::<B>(&ops.node);
                let [x, w, r, b] = ops.parents;
                let gradients = B::lstm_backward(ops.state, dy, x.is_some());
                let all = [(x, gradients.x), (w, Some(gradients.w)), (r, Some(gradients.r)), (b, Some(gradients.b))];
                for (node, gradient) in all {
                    if let (Some(node), Some(gradient)) = (node, gradient) {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let (y, tape) = B::lstm_forward(x.primitive, w.primitive, r.primitive, b.primitive);
        match Lstm.prepare::<C>([x.node, w.node, r.node, b.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(tape, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
