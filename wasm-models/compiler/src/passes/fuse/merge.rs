//! Products of one input with several constant weights (queries, keys and values; both directions of a recurrent layer) become one.

use std::collections::HashMap;

use super::super::editor::{Editor, expression};
use super::super::simplify::own_weights;
use super::columns::{columns, widened};
use crate::error::Result;
use crate::ir::{DType, Data, Expr, Graph, Op, Operand, Packing, Scalar, ValueId, num_elements};

/// A product whose epilogue reads constants per column alone.
struct Member {
    index: usize,
    output: ValueId,
    width: usize,
    /// The epilogue; its inputs stand for `columns`.
    epilogue: Expr,
    columns: Vec<Vec<f64>>,
}

pub(super) fn products_of_one_input(graph: &mut Graph) -> Result<()> {
    let mut readers = HashMap::<ValueId, Vec<(usize, usize)>>::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for (input, operand) in node.inputs.iter().enumerate() {
            readers.entry(operand.value).or_default().push((index, input));
        }
    }
    let mut editor = Editor::new(graph);
    let mut groups: Vec<Vec<Member>> = Vec::new();
    let mut places = HashMap::<Operand, Vec<usize>>::new();
    for index in 0..editor.len() {
        let Some(member) = member(&mut editor, index) else { continue };
        let same = places.entry(editor.node(index).inputs[0].clone()).or_default();
        match same.iter().find(|&&group| groups[group][0].epilogue == member.epilogue) {
            Some(&group) => groups[group].push(member),
            None => {
                same.push(groups.len());
                groups.push(vec![member]);
            }
        }
    }
    for group in groups.into_iter().filter(|group| group.len() > 1) {
        merge(&mut editor, &readers, &group)?;
    }
    editor.finish();
    Ok(())
}

fn member(editor: &mut Editor<'_>, index: usize) -> Option<Member> {
    let node = editor.node(index);
    let Op::MatMul { packing: Packing::None, .. } = node.op else { return None };
    let [Some(output)] = node.outputs[..] else { return None };
    let weights = &node.inputs[1];
    let batch = weights.rank() - 2;
    let is_shared =
        weights.strides[..batch].iter().zip(&weights.shape).all(|(stride, size)| *stride == 0 || *size == 1);
    // Weights that others read too would be stored twice; parts of larger ones are stored apart anyway.
    let is_part = weights.shape[batch] * weights.shape[batch + 1] < editor.graph.value(weights.value).len();
    let is_own = own_weights(editor, node) && (is_part || editor.reads(weights.value) == 1) && is_shared;
    let value = editor.graph.value(output);
    if !is_own || value.dtype != DType::F32 || value.is_empty() || weights.is_empty() || editor.is_output(output) {
        return None;
    }
    let known: Vec<_> = node.inputs.iter().skip(2).map(|input| columns(editor.graph, input)).collect::<Option<_>>()?;
    let mut found = Vec::new();
    let mut op = node.op.clone();
    let epilogue = expression(&mut op)?.map_leaves(&mut |leaf| {
        let numbers = match leaf {
            Expr::Input(at) if *at >= 2 => known[at - 2].clone(),
            Expr::Const(Scalar::F32(number)) => vec![f64::from(*number)],
            other => return other.clone(),
        };
        found.push(numbers);
        Expr::Input(found.len() - 1)
    });
    Some(Member { index, output, width: weights.shape[batch + 1], epilogue, columns: found })
}

/// Merges products where all that reads them can read the merged result instead.
fn merge(editor: &mut Editor<'_>, readers: &HashMap<ValueId, Vec<(usize, usize)>>, group: &[Member]) -> Result<()> {
    let first = &group[0];
    let width: usize = group.iter().map(|member| member.width).sum();
    let mut shape = editor.graph.value(first.output).shape.clone();
    let last = shape.len() - 1;
    shape[last] = width;
    let k = editor.node(first.index).inputs[0].shape[last];
    if num_elements(&shape).is_none() || num_elements(&[k, width]).is_none() {
        return Ok(());
    }
    let merged = editor.add_value(&editor.node(first.index).name.clone(), DType::F32, &shape)?;
    let whole = Operand::whole(merged, &shape);
    let mut views = Vec::new();
    let mut start = 0;
    for member in group {
        let part = whole.sliced(last, start, 1, member.width);
        start += member.width;
        for &(reader, input) in readers.get(&member.output).into_iter().flatten() {
            let operand = editor.node(reader).inputs.get(input).filter(|operand| operand.value == member.output);
            let Some(view) = operand.and_then(|operand| operand.composed(&part)) else { return Ok(()) };
            views.push((reader, input, view));
        }
    }
    let mut weights = vec![0.0; k * width];
    let mut start = 0;
    for member in group {
        let mut one = editor.node(member.index).inputs[1].clone();
        one.shape[..last - 1].fill(1);
        let Some(Data::F32(numbers)) = editor.graph.constant(&one) else { return Ok(()) };
        for (row, numbers) in weights.chunks_exact_mut(width).zip(numbers.chunks_exact(member.width)) {
            row[start..start + member.width].copy_from_slice(numbers);
        }
        start += member.width;
    }
    let name = editor.node(first.index).name.clone();
    let weights = editor.add_constant(&format!("{name}.weights"), &[k, width], Data::F32(weights))?;
    let mut full = editor.node(first.index).inputs[1].shape.clone();
    full[last] = width;
    let Some(weights) = weights.broadcast(&full) else { return Ok(()) };
    let mut inputs = vec![editor.node(first.index).inputs[0].clone(), weights];
    let mut leaves = Vec::new();
    for at in 0..first.columns.len() {
        let numbers: Vec<f32> = group.iter().flat_map(|member| widened(&member.columns[at], member.width)).collect();
        if numbers.iter().all(|number| number.to_bits() == numbers[0].to_bits()) {
            leaves.push(Expr::f32(numbers[0]));
            continue;
        }
        let constant = editor.add_constant(&format!("{name}.columns"), &[width], Data::F32(numbers))?;
        let Some(constant) = constant.broadcast(&shape) else { return Ok(()) };
        leaves.push(Expr::Input(inputs.len()));
        inputs.push(constant);
    }
    let epilogue = first.epilogue.map_leaves(&mut |leaf| match leaf {
        Expr::Input(at) => leaves[*at].clone(),
        other => other.clone(),
    });
    for (reader, input, view) in views {
        editor.redirect(reader, input, view);
    }
    for member in &group[1..] {
        editor.remove(member.index);
    }
    editor.replace(first.index, Op::MatMul { epilogue, packing: Packing::None }, inputs);
    editor.take_output(first.index, merged);
    Ok(())
}
