//! The native engine: tract.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use moola_core::ports::{Artifact, Engine, LoadedModel, ModelFormat, Tensor};
use moola_core::{Error, Result};
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::prelude as tract;
use tract_onnx::prelude::{DatumType, Framework, InferenceModelExt, IntoRunnable, TractResult};
use tract_onnx::tract_hir::internal::DimLike;

use crate::inspect::{MAX_ELEMENTS, ModelInfo, checked, invalid, is_exposed};
use crate::lower::lower_ml;
use crate::writer::BATCH;

/// Runs ONNX models with tract.
///
/// A model is compiled for a batch of one when it is loaded, and for 8 and 32 when a batch first
/// needs them: with a known batch tract picks better kernels, and takes recurrent nodes that leave out their first
/// state. A larger batch runs in chunks. A model whose file or graph fixes the batch to one runs row by row.
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

    fn choose<'a>(&self, artifacts: &'a [Artifact]) -> Option<&'a Artifact> {
        artifacts.iter().find(|artifact| artifact.format == ModelFormat::Onnx)
    }

    fn load(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Arc<dyn LoadedModel>> {
        if artifact.format != ModelFormat::Onnx {
            let file = format!("{} ({})", artifact.file, artifact.format);
            return Err(Error::invalid("artifact", file, "an ONNX file, which is all that the native engine loads"));
        }
        Ok(Arc::new(TractModel::load(bytes)?))
    }
}

/// The batch sizes that models are compiled for.
const CHUNKS: [usize; 3] = [32, 8, 1];

type Plan = Arc<tract::TypedRunnableModel>;
type Ports = Vec<(String, Vec<Option<usize>>)>;

#[derive(Debug)]
struct TractModel {
    inputs: Ports,
    outputs: Ports,
    model: pb::ModelProto,
    info: ModelInfo,
    /// For each size of [`CHUNKS`]; `None` where the graph does not take it.
    plans: [OnceLock<Option<Plan>>; CHUNKS.len()],
}

impl TractModel {
    fn load(bytes: &[u8]) -> Result<Self> {
        let (info, mut model) = checked(bytes)?;
        expose_outputs(&mut model, &info);
        lower_ml(&mut model)?;
        let (one, shapes) = guarded(|| compile(&model, &info, 1))
            .map_err(|message| invalid(format!("the model cannot be compiled: {message}")))?;
        let names = info.outputs.iter().filter(|output| is_exposed(output)).map(|output| output.name.clone());
        let outputs = names.zip(shapes).map(|(name, shape)| match shape.split_first() {
            Some((Some(1), rest)) => Ok((name, rest.to_vec())),
            _ => Err(invalid(format!("output `{name}` has no batch dimension, expected the batch first"))),
        });
        let inputs = info.inputs.iter().map(|input| (input.name.clone(), input.shape[1..].to_vec()));
        let is_dynamic = info.inputs.iter().all(|input| input.shape.first() == Some(&None));
        let plans = CHUNKS.map(|size| match size {
            1 => OnceLock::from(Some(Arc::clone(&one))),
            _ if is_dynamic => OnceLock::new(),
            _ => OnceLock::from(None),
        });
        Ok(Self { inputs: inputs.collect(), outputs: outputs.collect::<Result<_>>()?, model, info, plans })
    }

    /// The largest plan for at most `num_rows` rows, with its batch size.
    fn plan_for(&self, num_rows: usize) -> Result<(usize, &Plan)> {
        let fitting = CHUNKS.iter().zip(&self.plans).filter(|(size, _)| **size <= num_rows);
        let mut ready = fitting.filter_map(|(&size, plan)| {
            let compiled = plan.get_or_init(|| match guarded(|| compile(&self.model, &self.info, size)) {
                Ok((plan, shapes)) if shapes.iter().all(|shape| shape.first() == Some(&Some(size))) => Some(plan),
                Ok(_) => None,
                Err(message) => {
                    tracing::debug!(size, message, "model cannot be compiled for a batch");
                    None
                }
            });
            compiled.as_ref().map(|plan| (size, plan))
        });
        ready.next().ok_or_else(|| Error::internal(format!("the model has no plan for {num_rows} rows")))
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

    fn run_chunks(&self, batch: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut shapes = Vec::<Vec<usize>>::new();
        let mut data = vec![Vec::new(); self.outputs.len()];
        let mut row = 0;
        while row < batch {
            let (size, plan) = self.plan_for(batch - row)?;
            let chunks = inputs.iter().map(|input| [&[size], &input.shape()[1..]].concat()).collect::<Vec<_>>();
            let parts = inputs.iter().zip(&chunks).map(|(input, shape)| {
                let len = input.data().len() / batch;
                (shape.as_slice(), &input.data()[row * len..(row + size) * len])
            });
            let results = self.run_plan(plan, size, &parts.collect::<Vec<_>>())?;
            shapes = results.iter().map(|result| [&[batch], &result.shape()[1..]].concat()).collect();
            for (all, result) in data.iter_mut().zip(results) {
                all.extend(result.into_data());
            }
            row += size;
        }
        shapes.into_iter().zip(data).map(|(shape, data)| Tensor::new(shape, data)).collect()
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
        let (size, plan) = self.plan_for(batch)?;
        if size < batch {
            return self.run_chunks(batch, &inputs);
        }
        let parts = inputs.iter().map(|input| (input.shape(), input.data())).collect::<Vec<_>>();
        self.run_plan(plan, batch, &parts)
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

/// Keeps the outputs that callers see: class labels are not computed.
fn expose_outputs(model: &mut pb::ModelProto, info: &ModelInfo) {
    if let Some(graph) = &mut model.graph {
        let mut exposed = info.outputs.iter().map(is_exposed);
        graph.output.retain(|_| exposed.next().unwrap_or(false));
    }
}

/// Optimises the model; returns the shapes of the outputs, `None` where a size is open.
fn compile(model: &pb::ModelProto, info: &ModelInfo, batch: usize) -> TractResult<(Plan, Vec<Vec<Option<usize>>>)> {
    let mut model = model.clone();
    set_batch(&mut model, info, batch);
    // What a file says of inner shapes speaks of a symbol for the batch: let tract infer them.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let model = onnx.model_for_proto_model(&model)?.into_typed()?;
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
    let mut shapes = Vec::new();
    for outlet in model.output_outlets()? {
        let shape = &model.outlet_fact(*outlet)?.shape;
        shapes.push(shape.iter().map(|dim| dim.to_usize().ok()).collect());
    }
    Ok((model.into_runnable()?, shapes))
}

fn set_batch(model: &mut pb::ModelProto, info: &ModelInfo, batch: usize) {
    let inputs = model.graph.iter_mut().flat_map(|graph| &mut graph.input);
    for (index, input) in inputs.enumerate().filter(|(_, input)| info.inputs.iter().any(|it| it.name == input.name)) {
        let kind = input.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        let Some(pb::type_proto::Value::TensorType(tensor)) = kind else { continue };
        for (axis, dim) in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim).enumerate() {
            dim.value = match (axis, dim.value.take()) {
                (0, _) => Some(dimension::Value::DimValue(batch as i64)),
                (_, Some(dimension::Value::DimValue(size))) if size > 0 => Some(dimension::Value::DimValue(size)),
                // Equal names stay equal, and no expression is parsed.
                (_, Some(dimension::Value::DimParam(name))) if is_identifier(&name) => {
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

#[cfg(test)]
mod tests;
