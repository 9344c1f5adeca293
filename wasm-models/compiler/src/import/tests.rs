// Lists of one tensor read as the longer ones do.
#![allow(clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::testkit::{Attr, OnnxModel};

mod conv;
mod elementwise;
mod interface;
mod linear;
mod reduce;
mod shape;

/// What an imported model with fixed shapes computes, directly.
fn run(model: OnnxModel, inputs: &[Data]) -> Vec<Data> {
    let imported = import(&model.bytes(), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let graph = &imported.graphs.last().expect("a graph").1;
    crate::ir::verify(graph, "import").unwrap_or_else(|error| panic!("{error}"));
    crate::eval::graph(graph, inputs)
}

/// Why a model is refused.
fn refusal(model: OnnxModel) -> String {
    match import(&model.bytes(), &Options::default()) {
        Ok(imported) => panic!("imports: {imported:?}"),
        Err(error) => error.to_string(),
    }
}

/// A node as a test names it.
struct Case<'a> {
    opset: i64,
    op: &'a str,
    attributes: &'a [(&'a str, Attr<'a>)],
}

fn case<'a>(opset: i64, op: &'a str, attributes: &'a [(&'a str, Attr<'a>)]) -> Case<'a> {
    Case { opset, op, attributes }
}

type Tensor<'a> = (&'a [usize], Data);

impl Case<'_> {
    /// A model of this node with inputs `x0`.. that a caller gives, constants `c0`.. behind them, and outputs `y0`...
    fn model(&self, inputs: &[Tensor<'_>], constants: &[Tensor<'_>], outputs: usize) -> OnnxModel {
        let mut model = OnnxModel::new(self.opset);
        let mut names = Vec::new();
        for (index, (shape, data)) in inputs.iter().enumerate() {
            let open: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
            names.push(format!("x{index}"));
            model = model.input(&names[index], data.dtype(), &open);
        }
        for (index, (shape, data)) in constants.iter().enumerate() {
            names.push(format!("c{index}"));
            model = model.constant(&format!("c{index}"), shape, data);
        }
        let results: Vec<String> = (0..outputs).map(|index| format!("y{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let result_names: Vec<&str> = results.iter().map(String::as_str).collect();
        model = model.node(self.op, &names, &result_names, self.attributes);
        results.iter().fold(model, |model, name| model.output(name))
    }

    /// Its first output.
    fn run(&self, inputs: &[Tensor<'_>], constants: &[Tensor<'_>]) -> Data {
        self.runs(inputs, constants, 1).remove(0)
    }

    fn runs(&self, inputs: &[Tensor<'_>], constants: &[Tensor<'_>], outputs: usize) -> Vec<Data> {
        let data: Vec<Data> = inputs.iter().map(|(_, data)| data.clone()).collect();
        run(self.model(inputs, constants, outputs), &data)
    }

    fn refusal(&self, inputs: &[Tensor<'_>], constants: &[Tensor<'_>]) -> String {
        refusal(self.model(inputs, constants, 1))
    }
}

fn f32s(numbers: &[f32]) -> Data {
    Data::F32(numbers.to_vec())
}

fn i64s(numbers: &[i64]) -> Data {
    Data::I64(numbers.to_vec())
}

fn count(len: usize) -> Data {
    Data::F32((0..len).map(|index| index as f32).collect())
}

fn close(actual: &Data, expected: &[f32]) {
    let Data::F32(actual) = actual else { panic!("{actual:?}") };
    crate::testkit::assert_close(actual, expected, 3e-6);
}
