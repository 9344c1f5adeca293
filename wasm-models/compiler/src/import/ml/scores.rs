//! What classifiers and regressors do with their scores.

use super::super::{Builder, Call};
use crate::error::Result;
use crate::ir::{Binary, DType, Expr, Op, Operand, Reduction, Unary};

/// What is done with scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum PostTransform {
    None,
    Logistic,
    Softmax,
    /// Softmax that leaves out zeros.
    SoftmaxZero,
    /// The quantile function of the normal distribution, as onnxruntime approximates it.
    Probit,
}

impl PostTransform {
    pub(in super::super) fn read(call: &Call<'_>) -> Result<Self> {
        match call.text("post_transform").as_deref() {
            None | Some("NONE") => Ok(Self::None),
            Some("LOGISTIC") => Ok(Self::Logistic),
            Some("SOFTMAX") => Ok(Self::Softmax),
            Some("SOFTMAX_ZERO") => Ok(Self::SoftmaxZero),
            Some("PROBIT") => Ok(Self::Probit),
            Some(other) => {
                let expected = "expected `NONE`, `LOGISTIC`, `SOFTMAX`, `SOFTMAX_ZERO` or `PROBIT`";
                Err(call.error(format!("attribute `post_transform` is `{other}`, {expected}")))
            }
        }
    }
}

/// Transforms scores `[rows, scores]` of float32.
pub(in super::super) fn post_transform(
    builder: &mut Builder,
    call: &Call<'_>,
    transform: PostTransform,
    scores: Operand,
) -> Result<Operand> {
    let is_single = scores.shape[1] == 1;
    match transform {
        PostTransform::Softmax | PostTransform::SoftmaxZero if is_single => Ok(scores),
        PostTransform::None => Ok(scores),
        PostTransform::Logistic => builder.map(call, Expr::unary(Unary::Sigmoid, Expr::Input(0)), &[&scores]),
        PostTransform::Softmax => {
            let shape = scores.shape.clone();
            builder.add(&call.name, Op::Softmax { log: false }, vec![scores], DType::F32, &shape)
        }
        PostTransform::SoftmaxZero => softmax_zero(builder, call, &scores),
        PostTransform::Probit => probit(builder, call, &scores),
    }
}

/// Sum or largest of each row, `[rows, 1]`.
pub(super) fn over_row(builder: &mut Builder, call: &Call<'_>, kind: Reduction, x: &Operand) -> Result<Operand> {
    let reduce = Op::Reduce { kind, axes: 1 };
    let shape = &x.shape[..x.rank() - 1];
    Ok(builder.add(&call.name, reduce, vec![x.clone()], DType::F32, shape)?.unsqueezed(x.rank() - 1))
}

/// `exp(x - max)` of numbers that are not (nearly) 0, others times `exp(-max)`, divided by the sum of the former.
fn softmax_zero(builder: &mut Builder, call: &Call<'_>, scores: &Operand) -> Result<Operand> {
    let max = over_row(builder, call, Reduction::Max, scores)?;
    let (x, limit) = (|| Expr::Input(0), || Expr::f32(1e-7));
    let counts = || Expr::binary(Binary::Less, limit(), Expr::unary(Unary::Abs, x()));
    let exp = || Expr::unary(Unary::Exp, Expr::binary(Binary::Sub, x(), Expr::Input(1)));
    let powers = builder.map(call, Expr::select(counts(), exp(), Expr::f32(0.0)), &[scores, &max])?;
    let sum = over_row(builder, call, Reduction::Sum, &powers)?;
    let rest = Expr::binary(Binary::Mul, x(), Expr::unary(Unary::Exp, Expr::unary(Unary::Neg, Expr::Input(1))));
    let value = Expr::select(counts(), Expr::Input(2), rest);
    let share = Expr::binary(Binary::Div, value, Expr::Input(3));
    builder.map(call, share, &[scores, &max, &powers, &sum])
}

/// `sqrt(2)` times the inverse error function of `2 x - 1`, after Winitzki, as onnxruntime has it.
fn probit(builder: &mut Builder, call: &Call<'_>, scores: &Operand) -> Result<Operand> {
    const A: f32 = 0.147;
    let two = |op, a, b| Expr::binary(op, a, b);
    let doubled = two(Binary::Mul, Expr::f32(2.0), Expr::Input(0));
    // `1 - (2 x - 1)^2`
    let rest = two(Binary::Mul, doubled.clone(), two(Binary::Sub, Expr::f32(2.0), doubled));
    let log = builder.map(call, Expr::unary(Unary::Log, rest), &[scores])?;
    let half = || {
        two(Binary::Add, Expr::f32(2.0 / (std::f32::consts::PI * A)), two(Binary::Mul, Expr::f32(0.5), Expr::Input(1)))
    };
    let rest = || two(Binary::Mul, Expr::f32(1.0 / A), Expr::Input(1));
    let root = Expr::unary(Unary::Sqrt, two(Binary::Sub, two(Binary::Mul, half(), half()), rest()));
    // `root - half` loses digits near 0 where `-rest / (root + half)` does not.
    let square = two(Binary::Div, Expr::unary(Unary::Neg, rest()), two(Binary::Add, root, half()));
    let sign = Expr::select(
        two(Binary::Less, Expr::Input(0), Expr::f32(0.5)),
        Expr::f32(-std::f32::consts::SQRT_2),
        Expr::f32(std::f32::consts::SQRT_2),
    );
    builder.map(call, two(Binary::Mul, sign, Expr::unary(Unary::Sqrt, square)), &[scores, &log])
}

/// The labels of classes.
pub(in super::super) enum Labels {
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    /// Reads `classlabels_strings`, or the numbers of another attribute.
    pub(in super::super) fn read(call: &Call<'_>, numbers: &str) -> Result<Self> {
        let texts = call.texts("classlabels_strings");
        let ints = call.ints(numbers).unwrap_or_default();
        match (texts.is_empty(), ints.is_empty()) {
            (true, _) => Ok(Self::Numbers(ints.to_vec())),
            (false, true) => Ok(Self::Texts(texts)),
            (false, false) => {
                Err(call
                    .error(format!("attributes `classlabels_strings` and `{numbers}` are both given, expected one")))
            }
        }
    }

    pub(in super::super) fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// What the label output holds: the labels, or the places of those that are text.
    pub(in super::super) fn numbers(&self) -> Vec<i64> {
        match self {
            Self::Numbers(numbers) => numbers.clone(),
            Self::Texts(texts) => (0..texts.len() as i64).collect(),
        }
    }

    /// Notes the texts that the first output of a node indexes.
    pub(in super::super) fn name(&self, builder: &mut Builder, call: &Call<'_>) {
        if let (Self::Texts(texts), Some(output)) = (self, call.node.output.first()) {
            builder.labels.insert(output.clone(), texts.clone());
        }
    }
}
