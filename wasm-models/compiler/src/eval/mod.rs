//! Computes nodes of the IR directly and slowly: folds constants, and says in tests what a kernel should give.
//!
//! Numbers are computed in double precision (or 64-bit integers) and rounded to the type after each operation.

mod linear;
mod map;
mod recurrent;
mod reduce;
mod tensor;
#[cfg(test)]
mod tests;
mod trees;

#[cfg(test)]
use std::collections::HashMap;

use crate::error::{CompileError, Result};
use crate::ir::{DType, Data, Node, Op, Operand, Packing};
#[cfg(test)]
use crate::ir::{Graph, ValueId};

/// Most multiplications, or similar, that computing the constants of a graph may take.
pub(crate) const MAX_WORK: usize = 1 << 29;

/// Multiplications, or similar, and reads that computing a node of `len` results takes; `None` where they are too many to count.
pub(crate) fn work(node: &Node, len: usize) -> Option<usize> {
    let each = match (&node.op, &node.inputs[..]) {
        (Op::MatMul { .. }, [a, ..]) => *a.shape.last()?,
        (Op::Conv { .. }, [_, w, ..]) => w.shape.iter().take(2).product(),
        _ => 1,
    };
    let read = |sum: usize, input: &Operand| sum.checked_add(input.len());
    node.inputs.iter().try_fold(len.checked_mul(each)?, read)
}

/// An input of a node: its elements in the order of the view, and its shape.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// Type and shape of an output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

impl Output {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The outputs of a node, those that nobody reads included where that is simplest.
///
/// # Errors
/// Where an operation is not computed here, or not with these numbers (a division by zero, an index out of range).
pub(crate) fn node(node: &Node, inputs: &[Input], outputs: &[Output]) -> Result<Vec<Data>> {
    let unpacked = |packing: &Packing| match packing {
        Packing::None => Ok(()),
        Packing::Panels { .. } => Err(CompileError::node(&node.name, "has packed weights")),
    };
    let output = &outputs[0];
    let data = match &node.op {
        Op::Map(expr) => map::eval(expr, inputs, None, output)?,
        Op::MatMul { epilogue, packing } => {
            unpacked(packing)?;
            map::eval(epilogue, inputs, Some(linear::matmul(inputs, output)), output)?
        }
        Op::Conv { stride, dilation, before, groups, epilogue, packing } => {
            unpacked(packing)?;
            let product = linear::conv(inputs, output, [*stride, *dilation, *before, *groups]);
            map::eval(epilogue, inputs, Some(product), output)?
        }
        Op::Reduce { kind, axes } => reduce::reduce(*kind, *axes, &inputs[0], output),
        Op::Softmax { log } => reduce::softmax(*log, &inputs[0], output),
        Op::Normalize { epsilon } => reduce::normalize(*epsilon, inputs, output),
        Op::Gather { axis } => tensor::gather(*axis, inputs)?,
        Op::Concat { axis } => tensor::concat(*axis, inputs, output),
        Op::Pad { before, fill } => tensor::pad(before, *fill, &inputs[0], output),
        Op::Recurrent { .. } => return recurrent::eval(node, inputs),
        Op::Trees(trees) => trees::eval(trees, &inputs[0]),
    };
    Ok(vec![data])
}

/// Numbers of a type, in double precision or 64 bits.
#[derive(Debug, Clone)]
enum Numbers {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

impl Numbers {
    fn of(data: &Data) -> Self {
        match data {
            Data::F32(data) => Self::Float(data.iter().map(|x| f64::from(*x)).collect()),
            Data::F64(data) => Self::Float(data.clone()),
            Data::I32(data) => Self::Int(data.iter().map(|x| i64::from(*x)).collect()),
            Data::I64(data) => Self::Int(data.clone()),
            Data::Bool(data) => Self::Int(data.iter().map(|x| i64::from(*x)).collect()),
            Data::I8(data) => Self::Int(data.iter().map(|x| i64::from(*x)).collect()),
        }
    }

    /// As floats, whatever they are.
    fn floats(self) -> Vec<f64> {
        match self {
            Self::Float(data) => data,
            Self::Int(data) => data.into_iter().map(|x| x as f64).collect(),
        }
    }

    /// As numbers of a type. Integers wrap, floats are cut towards zero and saturate.
    fn to(self, dtype: DType) -> Data {
        match (dtype, self) {
            (DType::F64, it) => Data::F64(it.floats()),
            // An integer is rounded once.
            (DType::F32, Self::Int(data)) => Data::F32(data.into_iter().map(|x| x as f32).collect()),
            (DType::F32, Self::Float(data)) => Data::F32(data.into_iter().map(|x| x as f32).collect()),
            (DType::I32, Self::Int(data)) => Data::I32(data.into_iter().map(|x| x as i32).collect()),
            (DType::I32, Self::Float(data)) => Data::I32(data.into_iter().map(|x| x as i32).collect()),
            (DType::I64, Self::Int(data)) => Data::I64(data),
            (DType::I64, Self::Float(data)) => Data::I64(data.into_iter().map(|x| x as i64).collect()),
            (DType::I8, Self::Int(data)) => Data::I8(data.into_iter().map(|x| x as i8).collect()),
            (DType::I8, Self::Float(data)) => Data::I8(data.into_iter().map(|x| x as i8).collect()),
            (DType::Bool, Self::Int(data)) => Data::Bool(data.into_iter().map(|x| x != 0).collect()),
            (DType::Bool, Self::Float(data)) => Data::Bool(data.into_iter().map(|x| x != 0.0).collect()),
        }
    }
}

/// All outputs of a graph, before its weights are packed.
#[cfg(test)]
pub(crate) fn graph(graph: &Graph, inputs: &[Data]) -> Vec<Data> {
    let mut known: HashMap<ValueId, Data> = graph.inputs.iter().copied().zip(inputs.iter().cloned()).collect();
    for (index, value) in graph.values.iter().enumerate() {
        if let Some(data) = &value.data {
            known.insert(ValueId(index), (**data).clone());
        }
    }
    for it in &graph.nodes {
        let inputs: Vec<Input> = it
            .inputs
            .iter()
            .map(|input| Input { shape: input.shape.clone(), data: known[&input.value].pick(input.positions()) })
            .collect();
        let outputs = it.outputs.iter().map(|id| match id {
            Some(id) => Output { dtype: graph.value(*id).dtype, shape: graph.value(*id).shape.clone() },
            None => Output { dtype: DType::F32, shape: Vec::new() },
        });
        let outputs: Vec<Output> = outputs.collect();
        let results = node(it, &inputs, &outputs).expect("a node that can be computed");
        for ((id, data), output) in it.outputs.iter().zip(results).zip(outputs) {
            if let Some(id) = id {
                assert_eq!((data.dtype(), data.len()), (output.dtype, output.len()), "{}: {:?}", it.name, it.op);
                known.insert(*id, data);
            }
        }
    }
    graph.outputs.iter().map(|(_, id)| known[id].clone()).collect()
}
