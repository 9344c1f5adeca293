mod ensembles;
mod hostile;
mod rules;

use crate::import::{Imported, import};
use crate::ir::{DType, Data};
use crate::onnx::Tensor;
use crate::testkit::{Attr, OnnxModel};
use crate::{CompileError, Options};

/// A node of a tree as a file lists it.
#[derive(Debug, Clone)]
struct Listed {
    tree: i64,
    id: i64,
    feature: i64,
    mode: &'static str,
    value: f64,
    yes: i64,
    no: i64,
    nan_passes: bool,
}

impl Listed {
    fn leaf(tree: i64, id: i64) -> Self {
        Self { tree, id, feature: 0, mode: "LEAF", value: 0.0, yes: 0, no: 0, nan_passes: false }
    }

    fn branch(tree: i64, id: i64, feature: i64, mode: &'static str, value: f64, yes: i64, no: i64) -> Self {
        Self { tree, id, feature, mode, value, yes, no, nan_passes: false }
    }
}

/// The attributes of a TreeEnsembleClassifier or TreeEnsembleRegressor.
#[derive(Debug, Clone, Default)]
struct File {
    classes: Vec<i64>,
    texts: Vec<&'static str>,
    targets: i64,
    nodes: Vec<Listed>,
    /// `(tree, node, score, weight)`.
    weights: Vec<(i64, i64, i64, f64)>,
    base: Vec<f32>,
    aggregate: Option<&'static str>,
    transform: Option<&'static str>,
    doubles: bool,
    /// Of the input.
    dtype: Option<DType>,
    features: usize,
}

fn tensor(data: &Data) -> Attr<'static> {
    let code = match data {
        Data::F64(_) => 11,
        _ => 1,
    };
    let dims = vec![data.len() as i64];
    Attr::Tensor(Box::new(Tensor { dims, data_type: code, raw_data: data.to_bytes(), ..Tensor::default() }))
}

impl File {
    fn is_classifier(&self) -> bool {
        !self.classes.is_empty() || !self.texts.is_empty()
    }

    fn bytes(&self) -> Vec<u8> {
        let ints = |field: fn(&Listed) -> i64| self.nodes.iter().map(field).collect::<Vec<_>>();
        let (trees, ids) = (ints(|it| it.tree), ints(|it| it.id));
        let (features, yes, no) = (ints(|it| it.feature), ints(|it| it.yes), ints(|it| it.no));
        let passes = ints(|it| i64::from(it.nan_passes));
        let modes: Vec<&str> = self.nodes.iter().map(|it| it.mode).collect();
        let weight = |field: fn(&(i64, i64, i64, f64)) -> i64| self.weights.iter().map(field).collect::<Vec<_>>();
        let (weight_trees, weight_nodes, scores) = (weight(|it| it.0), weight(|it| it.1), weight(|it| it.2));
        let prefix = if self.is_classifier() { "class" } else { "target" };
        let names = ["treeids", "nodeids", "ids"].map(|name| format!("{prefix}_{name}"));
        let mut attributes = vec![
            ("nodes_treeids", Attr::Ints(&trees)),
            ("nodes_nodeids", Attr::Ints(&ids)),
            ("nodes_featureids", Attr::Ints(&features)),
            ("nodes_modes", Attr::Texts(&modes)),
            ("nodes_truenodeids", Attr::Ints(&yes)),
            ("nodes_falsenodeids", Attr::Ints(&no)),
            (&names[0], Attr::Ints(&weight_trees)),
            (&names[1], Attr::Ints(&weight_nodes)),
            (&names[2], Attr::Ints(&scores)),
        ];
        if passes.contains(&1) {
            attributes.push(("nodes_missing_value_tracks_true", Attr::Ints(&passes)));
        }
        let values: Vec<f64> = self.nodes.iter().map(|it| it.value).collect();
        let weights: Vec<f64> = self.weights.iter().map(|it| it.3).collect();
        let floats = |numbers: &[f64]| numbers.iter().map(|x| *x as f32).collect::<Vec<_>>();
        let (value_floats, weight_floats) = (floats(&values), floats(&weights));
        let weights_name = format!("{prefix}_weights{}", if self.doubles { "_as_tensor" } else { "" });
        if self.doubles {
            attributes.push(("nodes_values_as_tensor", tensor(&Data::F64(values))));
            attributes.push((&weights_name, tensor(&Data::F64(weights))));
        } else {
            attributes.push(("nodes_values", Attr::Floats(&value_floats)));
            attributes.push((&weights_name, Attr::Floats(&weight_floats)));
        }
        if !self.base.is_empty() {
            attributes.push(("base_values", Attr::Floats(&self.base)));
        }
        attributes.extend(self.aggregate.map(|name| ("aggregate_function", Attr::Text(name))));
        attributes.extend(self.transform.map(|name| ("post_transform", Attr::Text(name))));
        let model = OnnxModel::new(17).input("x", self.dtype.unwrap_or(DType::F32), &[None, Some(self.features)]);
        if !self.is_classifier() {
            attributes.push(("n_targets", Attr::Int(self.targets)));
            return model.node("ml:TreeEnsembleRegressor", &["x"], &["scores"], &attributes).output("scores").bytes();
        }
        if self.texts.is_empty() {
            attributes.push(("classlabels_int64s", Attr::Ints(&self.classes)));
        } else {
            attributes.push(("classlabels_strings", Attr::Texts(&self.texts)));
        }
        let model = model.node("ml:TreeEnsembleClassifier", &["x"], &["label", "scores"], &attributes);
        model.output("label").output("scores").bytes()
    }

    fn import(&self) -> Result<Imported, CompileError> {
        import(&self.bytes(), &Options::default())
    }

    /// The answers, computed from the IR, of rows one by one and in a block of four.
    fn answers(&self, rows: &Data) -> Vec<Data> {
        answers(&self.bytes(), rows, self.features)
    }
}

/// Appends data of one type.
fn append(all: &mut Data, more: Data) {
    match (all, more) {
        (Data::F32(all), Data::F32(more)) => all.extend(more),
        (Data::F64(all), Data::F64(more)) => all.extend(more),
        (Data::I64(all), Data::I64(more)) => all.extend(more),
        (all, more) => panic!("{} after {}", more.dtype().name(), all.dtype().name()),
    }
}

/// What the IR of a model gives for four rows, which have to be the same alone and together.
fn answers(model: &[u8], rows: &Data, features: usize) -> Vec<Data> {
    let imported = import(model, &Options::default()).expect("imports");
    let together = crate::eval::graph(&imported.graphs[0].1, std::slice::from_ref(rows));
    let mut alone = Vec::<Data>::new();
    for row in 0..4 {
        let row = rows.pick(row * features..(row + 1) * features);
        for (index, data) in crate::eval::graph(&imported.graphs[1].1, &[row]).into_iter().enumerate() {
            match alone.get_mut(index) {
                Some(all) => append(all, data),
                None => alone.push(data),
            }
        }
    }
    assert_eq!(format!("{alone:?}"), format!("{together:?}"));
    together
}

fn floats(data: &Data) -> &[f32] {
    match data {
        Data::F32(data) => data,
        other => panic!("{} for float32", other.dtype().name()),
    }
}
