use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Call, types};
use crate::error::{CompileError, Result};
use crate::eval::{self, MAX_WORK};
use crate::ir::{DType, Data, Expr, Graph, Node, Op, Operand, Scalar, Value, ValueId, num_elements};

/// Most dimensions of a tensor.
pub(crate) const MAX_RANK: usize = 16;

/// Most elements that all constants together may get by being computed.
const MAX_FOLDED: usize = 1 << 26;

/// Builds the IR of one graph.
#[derive(Debug)]
pub(crate) struct Builder {
    pub(crate) graph: Graph,
    /// Versions of the operator sets by domain.
    pub(crate) opsets: HashMap<String, i64>,
    /// Texts that the numbers of an output index, by its name.
    pub(crate) labels: HashMap<String, Vec<String>>,
    /// Names that something reads.
    pub(crate) used: HashSet<String>,
    known: HashMap<String, Operand>,
    /// The names in `known`, in the order of their definitions.
    defined: Vec<String>,
    folded: usize,
    work: usize,
    /// Nodes that were read, those of chosen branches included.
    pub(super) num_nodes: usize,
}

impl Builder {
    pub(crate) fn new(opsets: HashMap<String, i64>) -> Self {
        Self {
            graph: Graph::default(),
            opsets,
            labels: HashMap::new(),
            used: HashSet::new(),
            known: HashMap::new(),
            defined: Vec::new(),
            folded: 0,
            work: 0,
            num_nodes: 0,
        }
    }

    /// Gives an operand a name of the ONNX graph.
    pub(crate) fn define(&mut self, name: &str, operand: Operand) -> Result<()> {
        check_shape(&operand.shape).map_err(|reason| CompileError::model(format!("value `{name}` {reason}")))?;
        self.defined.push(name.to_owned());
        match self.known.insert(name.to_owned(), operand) {
            Some(_) => Err(CompileError::model(format!("value `{name}` is defined twice"))),
            None => Ok(()),
        }
    }

    /// Forgets the names that `body` defines.
    pub(crate) fn scoped<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.defined.len();
        let result = body(self);
        for name in self.defined.drain(before..) {
            self.known.remove(&name);
        }
        result
    }

    /// What a name of the ONNX graph stands for.
    pub(crate) fn find(&self, name: &str) -> Result<Operand> {
        let found = self.known.get(name).cloned();
        found.ok_or_else(|| CompileError::model(format!("value `{name}` is read before it is defined")))
    }

    /// Adds a constant that shares its numbers.
    pub(crate) fn share(&mut self, name: &str, shape: &[usize], data: &Arc<Data>) -> Operand {
        let value =
            Value { name: name.to_owned(), dtype: data.dtype(), shape: shape.to_vec(), data: Some(Arc::clone(data)) };
        self.graph.values.push(value);
        Operand::whole(ValueId(self.graph.values.len() - 1), shape)
    }

    /// Counts work that a small file could ask for without end: elements of constants that it does not hold itself.
    pub(crate) fn spend(&mut self, name: &str, work: usize) -> Result<()> {
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK {
            return Err(CompileError::node(name, "the constants of the model take too long to compute"));
        }
        Ok(())
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, name: &str, shape: &[usize], data: Data) -> Result<Operand> {
        check_shape(shape).map_err(|reason| CompileError::model(format!("constant `{name}` {reason}")))?;
        self.folded += data.len();
        if self.folded > MAX_FOLDED {
            let reason = format!("the computed constants have more than {MAX_FOLDED} elements together");
            return Err(CompileError::node(name, reason));
        }
        let id = self.graph.add_constant(name, shape, data)?;
        Ok(Operand::whole(id, shape))
    }

    /// Adds a node with one output and returns the output. Where all inputs are constants, it is computed now.
    pub(crate) fn add(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<Operand>,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Operand> {
        for shape in inputs.iter().map(|input| input.shape.as_slice()).chain([shape]) {
            check_shape(shape).map_err(|reason| CompileError::node(name, format!("a tensor {reason}")))?;
        }
        let mut node = Node { name: name.to_owned(), op, inputs, outputs: Vec::new() };
        if let Some(data) = self.fold(&node, dtype, shape) {
            return self.constant(name, shape, data);
        }
        let output = self.graph.add_value(name, dtype, shape)?;
        node.outputs.push(Some(output));
        self.graph.nodes.push(node);
        Ok(Operand::whole(output, shape))
    }

    /// What a node computes of constants; `None` where it has other inputs, cannot be computed here, or would take too much.
    fn fold(&mut self, node: &Node, dtype: DType, shape: &[usize]) -> Option<Data> {
        let is_constant = |input: &Operand| self.graph.value(input.value).data.is_some();
        if !node.inputs.iter().all(is_constant) {
            return None;
        }
        let len = num_elements(shape)?;
        let work = eval::work(node, len)?.checked_add(self.work)?;
        if self.folded + len > MAX_FOLDED || work > MAX_WORK {
            return None;
        }
        let inputs = node
            .inputs
            .iter()
            .map(|input| Some(eval::Input { shape: input.shape.clone(), data: self.graph.constant(input)? }))
            .collect::<Option<Vec<_>>>()?;
        self.work = work;
        let data = eval::node(node, &inputs, &[eval::Output { dtype, shape: shape.to_vec() }]).ok()?.pop()?;
        (data.dtype() == dtype && data.len() == len).then_some(data)
    }

    /// An expression over operands that are broadcast to one shape.
    pub(crate) fn map(&mut self, call: &Call<'_>, expr: Expr, inputs: &[&Operand]) -> Result<Operand> {
        let shape = broadcast_shape(inputs.iter().map(|input| input.shape.as_slice())).ok_or_else(|| {
            let shapes = inputs.iter().map(|input| format!("{:?}", input.shape)).collect::<Vec<_>>().join(", ");
            call.error(format!("shapes {shapes} do not broadcast"))
        })?;
        check_shape(&shape).map_err(|reason| call.error(format!("the result {reason}")))?;
        let types: Vec<DType> = inputs.iter().map(|input| self.graph.dtype(input)).collect();
        let dtype = types::of(&expr, &types).map_err(|reason| call.error(reason))?;
        // Constants of one number become part of the expression.
        let numbers: Vec<Option<Scalar>> = inputs.iter().map(|input| self.scalar(input)).collect();
        let mut expr = expr;
        let mut views: Vec<Operand> = inputs.iter().filter_map(|input| input.broadcast(&shape)).collect();
        if numbers.iter().any(Option::is_none) && numbers.iter().any(Option::is_some) {
            let before = |index: usize| numbers[..index].iter().filter(|number| number.is_none()).count();
            expr = expr.map_leaves(&mut |leaf| match leaf {
                Expr::Input(index) => numbers[*index].map_or_else(|| Expr::Input(before(*index)), Expr::Const),
                leaf => leaf.clone(),
            });
            let mut is_kept = numbers.iter().map(Option::is_none);
            views.retain(|_| is_kept.next().unwrap_or(true));
        }
        // What repeats in all inputs is computed once and repeats in the result.
        let mut once = shape.clone();
        for (axis, size) in once.iter_mut().enumerate() {
            if *size > 1 && views.iter().all(|view| view.strides[axis] == 0) {
                *size = 1;
                views.iter_mut().for_each(|view| view.shape[axis] = 1);
            }
        }
        // The result lies in memory in the order of the first input that fills it, so that channels stay last where they are.
        let order = views.iter().find_map(|view| self.order(view)).unwrap_or_else(|| (0..once.len()).collect());
        let views = views.iter().map(|view| view.transposed(&order)).collect();
        let shape_in_order: Vec<usize> = order.iter().map(|&axis| once[axis]).collect();
        let result = self.add(&call.name, Op::Map(expr), views, dtype, &shape_in_order)?;
        let back: Vec<usize> =
            (0..once.len()).filter_map(|axis| order.iter().position(|other| *other == axis)).collect();
        let result = result.transposed(&back);
        result.broadcast(&shape).ok_or_else(|| call.error(format!("shape {once:?} does not broadcast to {shape:?}")))
    }

    /// The dimensions of a computed operand by their strides, largest first; `None` where it does not fill its shape.
    fn order(&self, view: &Operand) -> Option<Vec<usize>> {
        let is_constant = self.graph.value(view.value).data.is_some();
        let is_long = |axis: &usize| view.shape[*axis] != 1;
        let mut long: Vec<usize> = (0..view.rank()).filter(is_long).collect();
        if is_constant || long.iter().any(|&axis| view.strides[axis] <= 0) {
            return None;
        }
        long.sort_by_key(|&axis| std::cmp::Reverse(view.strides[axis]));
        let mut long = long.into_iter();
        (0..view.rank()).map(|axis| if is_long(&axis) { long.next() } else { Some(axis) }).collect()
    }

    /// The number of a constant that has one.
    pub(crate) fn scalar(&self, operand: &Operand) -> Option<Scalar> {
        if operand.len() != 1 {
            return None;
        }
        match self.graph.constant(operand)? {
            Data::F32(data) => Some(Scalar::F32(*data.first()?)),
            Data::F64(data) => Some(Scalar::F64(*data.first()?)),
            Data::I32(data) => Some(Scalar::I32(*data.first()?)),
            Data::I64(data) => Some(Scalar::I64(*data.first()?)),
            Data::Bool(data) => Some(Scalar::Bool(*data.first()?)),
            Data::I8(_) => None,
        }
    }

    /// The same elements in another shape: a view, or a copy where there is none.
    pub(crate) fn reshaped(&mut self, call: &Call<'_>, operand: &Operand, shape: &[usize]) -> Result<Operand> {
        check_shape(shape).map_err(|reason| call.error(format!("the result {reason}")))?;
        if num_elements(shape) != num_elements(&operand.shape) {
            return Err(call.error(format!("shape {:?} does not reshape to {shape:?}", operand.shape)));
        }
        if let Some(view) = operand.reshaped(shape) {
            return Ok(view);
        }
        let copy = self.copied(&call.name, operand)?;
        copy.reshaped(shape).ok_or_else(|| call.error(format!("a copy does not reshape to {shape:?}")))
    }

    /// A contiguous copy.
    pub(crate) fn copied(&mut self, name: &str, operand: &Operand) -> Result<Operand> {
        let dtype = self.graph.dtype(operand);
        self.add(name, Op::Map(Expr::Input(0)), vec![operand.clone()], dtype, &operand.shape)
    }

    /// The operand as a whole value that a node wrote; copies where it is a view, a constant or an input.
    pub(crate) fn materialized(&mut self, name: &str, operand: &Operand) -> Result<ValueId> {
        let value = self.graph.value(operand.value);
        let is_written = value.data.is_none() && !self.graph.inputs.contains(&operand.value);
        let is_output = self.graph.outputs.iter().any(|(_, id)| *id == operand.value);
        if is_written
            && !is_output
            && operand.len() == value.len()
            && value.shape == operand.shape
            && operand.is_contiguous()
        {
            return Ok(operand.value);
        }
        let dtype = value.dtype;
        if dtype == DType::I8 {
            return Err(CompileError::model(format!("`{name}` is int8, expected {}", super::tensor::ACCEPTED)));
        }
        let output = self.graph.add_value(name, dtype, &operand.shape)?;
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            op: Op::Map(Expr::Input(0)),
            inputs: vec![operand.clone()],
            outputs: vec![Some(output)],
        });
        Ok(output)
    }
}

/// Why a shape is not accepted.
pub(crate) fn check_shape(shape: &[usize]) -> Result<(), String> {
    if shape.len() > MAX_RANK {
        return Err(format!("has {} dimensions, expected at most {MAX_RANK}", shape.len()));
    }
    match num_elements(shape) {
        Some(_) => Ok(()),
        None => Err(format!("has shape {shape:?}, expected at most {} elements", crate::ir::MAX_ELEMENTS)),
    }
}

/// The shape that all broadcast to (aligned at the last axes).
pub(crate) fn broadcast_shape<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> Option<Vec<usize>> {
    let mut all = Vec::<usize>::new();
    for shape in shapes {
        while all.len() < shape.len() {
            all.insert(0, 1);
        }
        let missing = all.len() - shape.len();
        for (size, &other) in all[missing..].iter_mut().zip(shape) {
            match (*size, other) {
                (a, b) if a == b => {}
                (1, other) => *size = other,
                (_, 1) => {}
                _ => return None,
            }
        }
    }
    Some(all)
}
