use std::fmt;

/// Why a model cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    /// The ONNX node, by its name or that of its first output.
    pub node: Option<String>,
    /// Its operator.
    pub operator: Option<String>,
    /// What is wrong and what would be accepted.
    pub reason: String,
    /// Whether the compiler is wrong, not the model.
    pub is_fault: bool,
}

/// What the compiler returns.
pub type Result<T, E = CompileError> = std::result::Result<T, E>;

impl CompileError {
    /// About the model as a whole.
    pub fn model(reason: impl Into<String>) -> Self {
        Self { node: None, operator: None, reason: reason.into(), is_fault: false }
    }

    /// About a node whose operator is not known yet; see [`CompileError::at`].
    pub fn node(name: &str, reason: impl Into<String>) -> Self {
        Self { node: Some(name.to_owned()), ..Self::model(reason) }
    }

    /// Says that the compiler is wrong.
    #[must_use]
    pub fn as_fault(self) -> Self {
        Self { is_fault: true, ..self }
    }

    /// Says which node is meant, unless that is known.
    #[must_use]
    pub fn at(mut self, node: &str, operator: &str) -> Self {
        self.node.get_or_insert_with(|| node.to_owned());
        self.operator.get_or_insert_with(|| operator.to_owned());
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, &self.operator) {
            (Some(node), Some(operator)) => write!(f, "node `{node}` (`{operator}`): {}", self.reason),
            (Some(node), None) => write!(f, "node `{node}`: {}", self.reason),
            _ => f.write_str(&self.reason),
        }
    }
}
