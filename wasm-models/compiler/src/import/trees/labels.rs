//! What classifiers answer.

use super::super::ml::scores::{Labels, PostTransform};
use super::super::{Builder, Call};
use super::map_one;
use crate::error::Result;
use crate::ir::{Binary, DType, Data, Expr, Op, Operand, Reduction, Scalar, Unary};

/// Label and scores of two classes from the score `[rows, 1]` of the second.
pub(super) fn of_one_score(
    builder: &mut Builder,
    call: &Call<'_>,
    labels: &Labels,
    score: &Operand,
    is_positive: bool,
    transform: PostTransform,
) -> Result<Vec<Operand>> {
    let limit = if is_positive { 0.5 } else { 0.0 };
    let label = above(builder, call, labels, &score.squeezed(1), limit)?;
    Ok(vec![label, two_scores(builder, call, score, is_positive, transform)?])
}

/// The scores of two classes from that of the second.
pub(in super::super) fn two_scores(
    builder: &mut Builder,
    call: &Call<'_>,
    score: &Operand,
    is_positive: bool,
    transform: PostTransform,
) -> Result<Operand> {
    if transform == PostTransform::Probit {
        return Err(
            call.error("attribute `post_transform` is `PROBIT` with a single score for two classes, expected another")
        );
    }
    let mut constant = |name: &str, data: [f32; 2]| {
        let id = builder.graph.add_constant(format!("{} {name}", call.name), &[1, 2], Data::F32(data.to_vec()))?;
        Ok(Operand::whole(id, &[1, 2]))
    };
    let (sign, start) = (constant("sign", [-1.0, 1.0])?, constant("start", [1.0, 0.0])?);
    let signed = Expr::binary(Binary::Mul, Expr::Input(0), Expr::Input(1));
    match transform {
        PostTransform::Logistic => builder.map(call, Expr::unary(Unary::Sigmoid, signed), &[score, &sign]),
        _ if is_positive => {
            let expr = Expr::binary(Binary::Add, Expr::Input(2), signed);
            builder.map(call, expr, &[score, &sign, &start])
        }
        _ => builder.map(call, signed, &[score, &sign]),
    }
}

/// The second label where a score is above a limit, else the first.
pub(in super::super) fn above(
    builder: &mut Builder,
    call: &Call<'_>,
    labels: &Labels,
    score: &Operand,
    limit: f32,
) -> Result<Operand> {
    let numbers = labels.numbers();
    let label = |index: usize| Expr::Const(Scalar::I64(numbers.get(index).copied().unwrap_or(0)));
    let is_above = Expr::binary(Binary::Less, Expr::f32(limit), Expr::Input(0));
    labels.name(builder, call);
    map_one(builder, call, score, Expr::select(is_above, label(1), label(0)))
}

/// The label of the class with the largest score, of equals the first.
pub(in super::super) fn largest(
    builder: &mut Builder,
    call: &Call<'_>,
    labels: &Labels,
    scores: &Operand,
    takes_part: impl Fn(usize) -> bool,
) -> Result<Operand> {
    let (rows, num_classes) = (scores.shape[0], scores.shape[1]);
    let mut scores = scores.clone();
    if !(0..num_classes).all(&takes_part) {
        let extra = (0..num_classes).map(|class| if takes_part(class) { 0.0 } else { f32::NEG_INFINITY });
        let shape = [1, num_classes];
        let extra = builder.graph.add_constant(format!("{} without", call.name), &shape, Data::F32(extra.collect()))?;
        let sum = Expr::binary(Binary::Add, Expr::Input(0), Expr::Input(1));
        scores = builder.map(call, sum, &[&scores, &Operand::whole(extra, &shape)])?;
    }
    let reduce = Op::Reduce { kind: Reduction::ArgMax, axes: 1 };
    let index = builder.add(&call.name, reduce, vec![scores], DType::I64, &[rows])?;
    labels.name(builder, call);
    let numbers = labels.numbers();
    if numbers.iter().copied().eq(0..num_classes as i64) {
        return Ok(index);
    }
    let numbers = builder.graph.add_constant(format!("{} labels", call.name), &[num_classes], Data::I64(numbers))?;
    let numbers = Operand::whole(numbers, &[num_classes]);
    builder.add(&call.name, Op::Gather { axis: 0 }, vec![numbers, index], DType::I64, &[rows])
}
