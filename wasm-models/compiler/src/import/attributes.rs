use super::Builder;
use crate::error::{CompileError, Result};
use crate::ir::{Data, Operand};
use crate::onnx;

/// Most numbers of a constant input that says how a node works.
pub(super) const MAX_INTS: usize = 1 << 20;

/// An ONNX node with its inputs.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Its name, or that of its first output.
    pub(crate) name: String,
    pub(crate) op: &'a str,
    /// Empty for the default domain.
    pub(crate) domain: &'a str,
    /// The version of its operator set.
    pub(crate) version: i64,
    /// `None` for one that is left out.
    pub(crate) inputs: Vec<Option<Operand>>,
    wanted: Vec<bool>,
    pub(crate) node: &'a onnx::Node,
}

impl<'a> Call<'a> {
    pub(crate) fn new(node: &'a onnx::Node, builder: &Builder) -> Result<Self> {
        let name =
            if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        let at = |error: CompileError| error.at(&name, &node.op_type);
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let Some(&version) = builder.opsets.get(domain) else {
            return Err(at(CompileError::node(
                &name,
                format!("the model does not import the operator set `{domain}`"),
            )));
        };
        let inputs = node.input.iter().map(|input| match input.as_str() {
            "" => Ok(None),
            input => builder.find(input).map(Some).map_err(at),
        });
        let inputs = inputs.collect::<Result<_>>()?;
        let wanted = node.output.iter().map(|output| builder.used.contains(output)).collect();
        Ok(Self { name, op: &node.op_type, domain, version, inputs, wanted, node })
    }

    /// Whether something reads an output.
    pub(crate) fn wants(&self, output: usize) -> bool {
        self.wanted.get(output).copied().unwrap_or(false)
    }

    /// An error about this node.
    pub(crate) fn error(&self, reason: impl Into<String>) -> CompileError {
        CompileError::node(&self.name, reason).at(&self.name, self.op)
    }

    /// An input that must be there.
    pub(crate) fn input(&self, index: usize) -> Result<&Operand> {
        self.optional(index).ok_or_else(|| self.error(format!("input {index} is missing")))
    }

    /// An input that may be left out.
    pub(crate) fn optional(&self, index: usize) -> Option<&Operand> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// An input whose integers must be known when compiling.
    pub(crate) fn constant_ints(&self, builder: &Builder, index: usize) -> Result<Vec<i64>> {
        let input = self.input(index)?;
        if input.len() > MAX_INTS {
            return Err(self.error(format!("input {index} has {} numbers, expected at most {MAX_INTS}", input.len())));
        }
        match builder.graph.constant(input) {
            Some(Data::I64(data)) => Ok(data),
            Some(Data::I32(data)) => Ok(data.into_iter().map(i64::from).collect()),
            Some(data) => Err(self.error(format!("input {index} is {}, expected int64", data.dtype().name()))),
            None => Err(self.error(format!("input {index} is computed, expected a constant"))),
        }
    }

    /// Integers that were an attribute in older operator sets, and are an input now; `None` where they are left out.
    pub(crate) fn given_ints(&self, builder: &Builder, attribute: &str, index: usize) -> Result<Option<Vec<i64>>> {
        match (self.ints(attribute), self.optional(index)) {
            (Some(ints), _) => Ok(Some(ints.to_vec())),
            (None, Some(_)) => self.constant_ints(builder, index).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn attribute(&self, name: &str) -> Option<&'a onnx::Attribute> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// Whether an attribute is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |it| it.i)
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |it| it.f)
    }

    pub(crate) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|it| it.ints.as_slice())
    }

    pub(crate) fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.attribute(name).map(|it| it.floats.as_slice())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.attribute(name).map(|it| String::from_utf8_lossy(&it.s).into_owned())
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let strings = self.attribute(name).map(|it| it.strings.as_slice()).unwrap_or_default();
        strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// A subgraph.
    pub(crate) fn graph(&self, name: &str) -> Option<&'a onnx::Graph> {
        self.attribute(name).and_then(|it| it.g.as_ref())
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&'a onnx::Tensor> {
        self.attribute(name).and_then(|it| it.t.as_ref())
    }

    /// Sizes that must not be negative.
    pub(crate) fn sizes(&self, what: &str, ints: &[i64]) -> Result<Vec<usize>> {
        let sizes = ints.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
        sizes.ok_or_else(|| self.error(format!("`{what}` is {ints:?}, expected no negative numbers")))
    }

    /// Different dimensions, in order.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut sorted = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>>>()?;
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.error(format!("axes {axes:?} name a dimension twice")));
        }
        Ok(sorted)
    }

    /// A dimension, counted from the end where negative.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let counted = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(counted)
            .ok()
            .filter(|axis| *axis < rank)
            .ok_or_else(|| self.error(format!("axis {axis} is out of range, expected one of {rank} dimensions")))
    }
}
