//! The native engine: tract.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use moola_core::ports::{Engine, LoadedModel, Tensor};
use moola_core::{Error, Result};
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::prelude as tract;
use tract_onnx::prelude::{DatumType, Framework, InferenceModelExt, IntoRunnable, TractResult};
use tract_onnx::tract_hir::internal::{DimLike, SymbolScope};

use crate::inspect::{MAX_ELEMENTS, ModelInfo, checked, invalid, is_exposed};
use crate::lower::{add_initial_states, lower_ml};
use crate::writer::BATCH;

/// Runs ONNX models with tract.
///
/// Each model is compiled twice: for a batch of one, where tract picks matrix-vector kernels, and for any batch.
/// A model whose graph cannot take any batch (its file fixes it to one, or an operator needs to know it) is run row
/// by row.
///
/// The loader checks sizes before anything is allocated and turns tract's panics into `Invalid`, so that a malformed
/// file is refused; it is a guard, not a sandbox: a hostile graph can still take as much time and memory as its
/// operators ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        "native"
    }

    fn load(&self, model: &[u8]) -> Result<Arc<dyn LoadedModel>> {
        Ok(Arc::new(TractModel::load(model)?))
    }
}

type Plan = Arc<tract::TypedRunnableModel>;
type Ports = Vec<(String, Vec<Option<usize>>)>;

#[derive(Debug)]
struct TractModel {
    inputs: Ports,
    outputs: Ports,
    /// For a batch of one.
    one: Plan,
    /// For any batch, where the model can take any.
    any: Option<Plan>,
}

impl TractModel {
    fn load(bytes: &[u8]) -> Result<Self> {
        let (info, mut model) = checked(bytes)?;
        expose_outputs(&mut model, &info);
        lower_ml(&mut model)?;
        let (one, one_shapes) = guarded(|| compile(&model, &info, Batch::One))
            .map_err(|message| invalid(format!("the model cannot be compiled: {message}")))?;
        let names = info.outputs.iter().filter(|output| is_exposed(output)).map(|output| output.name.clone());
        let names = names.collect::<Vec<_>>();
        for (name, shape) in names.iter().zip(&one_shapes) {
            if shape.first() != Some(&Some(1)) {
                return Err(invalid(format!("output `{name}` has no batch dimension, expected the batch first")));
            }
        }
        let is_dynamic = info.inputs.iter().all(|input| input.shape.first() == Some(&None));
        let any = is_dynamic.then(|| {
            add_initial_states(&mut model);
            guarded(|| compile(&model, &info, Batch::Any))
        });
        let (any, shapes) = match any {
            Some(Ok((any, shapes))) => (Some(any), shapes),
            Some(Err(message)) => {
                tracing::debug!(message, "model runs row by row: it cannot be compiled for any batch");
                (None, one_shapes)
            }
            None => (None, one_shapes),
        };
        let without_batch = |shape: &[Option<usize>]| shape.iter().skip(1).copied().collect::<Vec<_>>();
        Ok(Self {
            inputs: info.inputs.iter().map(|input| (input.name.clone(), without_batch(&input.shape))).collect(),
            outputs: names.into_iter().zip(&shapes).map(|(name, shape)| (name, without_batch(shape))).collect(),
            one,
            any,
        })
    }

    /// Checks the inputs and returns their batch size.
    fn batch_of(&self, inputs: &[Tensor]) -> Result<usize> {
        if inputs.len() != self.inputs.len() {
            let names = self.inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            return Err(invalid(format!("{} inputs given, expected {} ({names:?})", inputs.len(), names.len())));
        }
        let batch = inputs.first().map_or(0, Tensor::num_rows);
        for (tensor, (name, shape)) in inputs.iter().zip(&self.inputs) {
            let fits = tensor.shape().len() == shape.len() + 1
                && tensor.num_rows() == batch
                && tensor.shape()[1..].iter().zip(shape).all(|(size, wanted)| wanted.is_none_or(|it| it == *size));
            if !fits || batch == 0 {
                let given = tensor.shape();
                return Err(invalid(format!(
                    "input `{name}` has shape {given:?}, expected {} with the same batch of at least 1 in all inputs",
                    describe(shape)
                )));
            }
            if tensor.data().len() > MAX_ELEMENTS {
                let given = tensor.data().len();
                return Err(invalid(format!("input `{name}` has {given} numbers, expected at most {MAX_ELEMENTS}")));
            }
        }
        Ok(batch)
    }

    fn run_plan(&self, plan: &Plan, batch: usize, inputs: &[(&[usize], &[f32])]) -> Result<Vec<Tensor>> {
        let results = guarded(|| {
            // A fresh state per call: tract's recurrent operators carry theirs from one run of a state to the next.
            let values = inputs.iter().map(|(shape, data)| Ok(tract::Tensor::from_shape(shape, data)?.into()));
            plan.run(values.collect::<TractResult<_>>()?)
        });
        let results = results.map_err(|message| Error::internal(format!("the model failed: {message}")))?;
        let tensors = results.iter().zip(&self.outputs).map(|(value, (name, _))| {
            if value.shape().first() != Some(&batch) {
                let shape = value.shape();
                return Err(Error::internal(format!("output `{name}` has shape {shape:?}, expected {batch} rows")));
            }
            let failed =
                |error: tract::TractError| Error::internal(format!("output `{name}` is no float32: {error:#}"));
            let data = if value.datum_type() == DatumType::F32 {
                value.try_as_plain_ram().and_then(|plain| Ok(plain.as_slice::<f32>()?.to_vec())).map_err(failed)?
            } else {
                let cast = value.cast_to::<f32>().map_err(failed)?;
                cast.try_as_plain_ram().and_then(|plain| Ok(plain.as_slice::<f32>()?.to_vec())).map_err(failed)?
            };
            Tensor::new(value.shape().to_vec(), data)
        });
        tensors.collect()
    }

    fn run_rows(&self, batch: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let shapes = inputs.iter().map(|input| [&[1], &input.shape()[1..]].concat()).collect::<Vec<Vec<usize>>>();
        let mut shapes_out = Vec::<Vec<usize>>::new();
        let mut data_out = vec![Vec::new(); self.outputs.len()];
        for row in 0..batch {
            let parts = inputs.iter().zip(&shapes).map(|(input, shape)| {
                let len = input.data().len() / batch;
                (shape.as_slice(), &input.data()[row * len..(row + 1) * len])
            });
            let results = self.run_plan(&self.one, 1, &parts.collect::<Vec<_>>())?;
            shapes_out = results.iter().map(|result| [&[batch], &result.shape()[1..]].concat()).collect();
            for (all, result) in data_out.iter_mut().zip(results) {
                all.extend(result.into_data());
            }
        }
        shapes_out.into_iter().zip(data_out).map(|(shape, data)| Tensor::new(shape, data)).collect()
    }
}

impl LoadedModel for TractModel {
    fn inputs(&self) -> &[(String, Vec<Option<usize>>)] {
        &self.inputs
    }

    fn outputs(&self) -> &[(String, Vec<Option<usize>>)] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let batch = self.batch_of(&inputs)?;
        let plan = if batch == 1 { Some(&self.one) } else { self.any.as_ref() };
        match plan {
            Some(plan) => {
                let parts = inputs.iter().map(|input| (input.shape(), input.data())).collect::<Vec<_>>();
                self.run_plan(plan, batch, &parts)
            }
            None => self.run_rows(batch, &inputs),
        }
    }
}

fn describe(shape: &[Option<usize>]) -> String {
    let sizes = shape.iter().map(|size| size.map_or("any".to_owned(), |size| size.to_string()));
    format!("[{}]", std::iter::once(BATCH.to_owned()).chain(sizes).collect::<Vec<_>>().join(", "))
}

/// Runs tract, turning its errors and panics into a message.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    let mut message = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => format!("tract panicked: {}", panic_message(&*panic)),
    };
    if let Some((end, _)) = message.char_indices().nth(500) {
        message.truncate(end);
        message.push_str(" ...");
    }
    Err(message)
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Batch {
    One,
    Any,
}

/// Keeps the outputs that callers see: class labels are not computed.
fn expose_outputs(model: &mut pb::ModelProto, info: &ModelInfo) {
    if let Some(graph) = &mut model.graph {
        let mut exposed = info.outputs.iter().map(is_exposed);
        graph.output.retain(|_| exposed.next().unwrap_or(false));
    }
}

/// Optimises the model; returns the shapes of the outputs, `None` where a size is open.
fn compile(model: &pb::ModelProto, info: &ModelInfo, batch: Batch) -> TractResult<(Plan, Vec<Vec<Option<usize>>>)> {
    let mut model = model.clone();
    set_batch(&mut model, info, batch);
    let symbols = SymbolScope::default();
    let template = tract::InferenceModel { symbols: symbols.clone(), ..Default::default() };
    // What a file says of inner shapes speaks of its own symbol for the batch: let tract infer them.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let model = onnx.model_for_proto_model_with_model_template(&model, template)?.into_typed()?;
    for node in model.nodes() {
        for output in &node.outputs {
            let sizes = output.fact.shape.iter().map(|dim| dim.to_usize().unwrap_or(1));
            if sizes.fold(1usize, usize::saturating_mul) > MAX_ELEMENTS {
                let shape = &output.fact.shape;
                let message = format!("node `{}` makes a tensor of shape {shape:?}", node.name);
                return Err(tract::TractError::msg(format!("{message}, expected at most {MAX_ELEMENTS} elements")));
            }
        }
    }
    let model = model.into_optimized()?;
    let symbol = symbols.sym(BATCH).into();
    let mut shapes = Vec::new();
    for outlet in model.output_outlets()? {
        let shape = &model.outlet_fact(*outlet)?.shape;
        if batch == Batch::Any && shape.first() != Some(&symbol) {
            return Err(tract::TractError::msg(format!("an output has shape {shape:?}, expected the batch first")));
        }
        shapes.push(shape.iter().map(|dim| dim.to_usize().ok()).collect());
    }
    Ok((model.into_runnable()?, shapes))
}

fn set_batch(model: &mut pb::ModelProto, info: &ModelInfo, batch: Batch) {
    let inputs = model.graph.iter_mut().flat_map(|graph| &mut graph.input);
    for (index, input) in inputs.enumerate().filter(|(_, input)| info.inputs.iter().any(|it| it.name == input.name)) {
        let kind = input.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        let Some(pb::type_proto::Value::TensorType(tensor)) = kind else { continue };
        for (axis, dim) in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim).enumerate() {
            dim.value = match (axis, batch, dim.value.take()) {
                (0, Batch::One, _) => Some(dimension::Value::DimValue(1)),
                (0, Batch::Any, _) => Some(dimension::Value::DimParam(BATCH.to_owned())),
                (_, _, Some(dimension::Value::DimValue(size))) if size > 0 => Some(dimension::Value::DimValue(size)),
                // Equal names stay equal, none is taken for the batch, and no expression is parsed.
                (_, _, Some(dimension::Value::DimParam(name))) if is_identifier(&name) => {
                    Some(dimension::Value::DimParam(format!("dim_{name}")))
                }
                _ => Some(dimension::Value::DimParam(format!("open_{index}_{axis}"))),
            };
        }
    }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
