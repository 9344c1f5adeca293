//! Random files against a recursive evaluation of their attributes.

use proptest::prelude::*;

use super::*;
use crate::testkit::assert_close;

const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];

impl File {
    /// The leaf of a row: recursive, by the lists of the file alone.
    fn leaf(&self, tree: i64, id: i64, row: &[f64]) -> i64 {
        let node = self.nodes.iter().find(|node| node.tree == tree && node.id == id).expect("a node");
        let x = row[node.feature as usize];
        let passes = match node.mode {
            "LEAF" => return id,
            "BRANCH_LEQ" => x <= node.value,
            "BRANCH_LT" => x < node.value,
            "BRANCH_GTE" => x >= node.value,
            "BRANCH_GT" => x > node.value,
            "BRANCH_EQ" => x == node.value,
            _ => x != node.value,
        };
        self.leaf(tree, if passes || (x.is_nan() && node.nan_passes) { node.yes } else { node.no }, row)
    }

    /// The scores of a row, with base values.
    fn scores(&self, row: &[f64], roots: &[i64]) -> Vec<f64> {
        let mut scores = Vec::new();
        for score in 0..self.targets {
            let mut weights = Vec::new();
            for (tree, root) in roots.iter().enumerate() {
                let leaf = self.leaf(tree as i64, *root, row);
                let of_leaf = self.weights.iter().filter(|it| it.0 == tree as i64 && it.1 == leaf && it.2 == score);
                weights.extend(of_leaf.map(|it| it.3));
            }
            let value = match self.aggregate {
                Some("MIN") => weights.iter().copied().reduce(f64::min).unwrap_or(0.0),
                Some("MAX") => weights.iter().copied().reduce(f64::max).unwrap_or(0.0),
                Some("AVERAGE") => weights.iter().sum::<f64>() / roots.len() as f64,
                _ => weights.iter().sum(),
            };
            scores.push(value + self.base.get(score as usize).copied().map_or(0.0, f64::from));
        }
        scores
    }
}

/// A random file and the roots of its trees; ids and the order within a tree are shuffled.
fn file(seed: u64, num_trees: i64, depth: usize, targets: i64, modes: &[&'static str]) -> (File, Vec<i64>) {
    let mut state = seed;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % limit
    };
    let mut file = File { targets, features: 5, ..File::default() };
    let mut roots = Vec::new();
    for tree in 0..num_trees {
        let mut ids: Vec<i64> = (0..1 << (depth + 1)).collect();
        for place in (1..ids.len()).rev() {
            ids.swap(place, below(place + 1));
        }
        let root = ids.pop().expect("an id");
        roots.push(root);
        let mut todo = vec![(root, 0)];
        while let Some((id, level)) = todo.pop() {
            if level == depth || (level > 0 && below(4) == 0) {
                file.nodes.push(Listed::leaf(tree, id));
                for _ in 0..below(3) {
                    file.weights.push((tree, id, below(targets as usize) as i64, below(64) as f64 / 8.0 - 4.0));
                }
                continue;
            }
            let (yes, no) = (ids.pop().expect("an id"), ids.pop().expect("an id"));
            let (mode, value) = (modes[below(modes.len())], below(9) as f64 / 2.0 - 2.0);
            let mut node = Listed::branch(tree, id, below(5) as i64, mode, value, yes, no);
            node.nan_passes = below(3) == 0;
            file.nodes.push(node);
            todo.extend([(yes, level + 1), (no, level + 1)]);
        }
    }
    for place in (1..file.nodes.len()).rev() {
        let other = below(place + 1);
        if file.nodes[place].tree == file.nodes[other].tree {
            file.nodes.swap(place, other);
        }
    }
    if file.weights.is_empty() {
        let leaf = file.nodes.iter().find(|node| node.mode == "LEAF").expect("a leaf");
        file.weights.push((leaf.tree, leaf.id, 0, 1.0));
    }
    (file, roots)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn regressors_give_what_their_attributes_say(
        seed in any::<u64>(),
        (num_trees, depth, targets) in (1i64..6, 0usize..5, 1i64..4),
        modes in proptest::sample::subsequence(MODES.to_vec(), 1..=6),
        (doubles, has_base) in any::<(bool, bool)>(),
        dtype in proptest::sample::select(vec![DType::F32, DType::F64]),
        aggregate in proptest::sample::select(vec![None, Some("SUM"), Some("AVERAGE"), Some("MIN"), Some("MAX")]),
        rows in proptest::collection::vec(-5i32..6, 20),
    ) {
        let (mut file, roots) = file(seed, num_trees, depth, targets, &modes);
        file.aggregate = aggregate;
        file.doubles = doubles;
        file.dtype = Some(dtype);
        if has_base {
            file.base = (0..targets).map(|target| target as f32 + 0.5).collect();
        }
        let rows: Vec<f64> = rows.iter().map(|x| if *x == 5 { f64::NAN } else { f64::from(*x) / 2.0 }).collect();
        let expected: Vec<f32> =
            rows.chunks(5).flat_map(|row| file.scores(row, &roots)).map(|score| score as f32).collect();
        let data = match dtype {
            DType::F64 => Data::F64(rows),
            _ => Data::F32(rows.iter().map(|x| *x as f32).collect()),
        };
        assert_close(floats(&file.answers(&data)[0]), &expected, 1e-6);
    }
}

#[test]
fn thresholds_of_double_precision_keep_their_meaning() {
    let near = 0.1f32;
    let between = [f64::from(near), 0.1, f64::from(near.next_up()) - 1e-12, f64::from(near) + 1e-12, 1e300, -1e300];
    for (mode, value) in MODES.iter().flat_map(|mode| between.map(|value| (*mode, value))) {
        let file = File {
            targets: 1,
            features: 1,
            doubles: true,
            nodes: vec![Listed::branch(0, 0, 0, mode, value, 1, 2), Listed::leaf(0, 1), Listed::leaf(0, 2)],
            weights: vec![(0, 1, 0, 1.0), (0, 2, 0, 2.0)],
            ..File::default()
        };
        let rows = [near.next_down(), near, near.next_up(), 7.0];
        let expected: Vec<f32> = rows.iter().map(|x| file.scores(&[f64::from(*x)], &[0])[0] as f32).collect();
        assert_eq!(floats(&file.answers(&Data::F32(rows.to_vec()))[0]), expected, "{mode} {value}");
    }
}

/// A TreeEnsemble of three nodes and four leaves.
fn lists(modes: [u8; 3], attributes: Vec<(&str, Attr<'_>)>, dtype: DType) -> Vec<u8> {
    let modes = Tensor { dims: vec![3], data_type: 2, raw_data: modes.to_vec(), ..Tensor::default() };
    let mut all = vec![("nodes_modes", Attr::Tensor(Box::new(modes))), ("tree_roots", Attr::Ints(&[0]))];
    all.extend(attributes);
    let model = OnnxModel::new(17).input("x", dtype, &[None, Some(2)]);
    model.node("ml:TreeEnsemble", &["x"], &["y"], &all).output("y").bytes()
}

#[test]
fn a_tree_ensemble_of_doubles_answers_in_doubles() {
    let attributes = vec![
        ("nodes_splits", tensor(&Data::F64(vec![3.5, 1.2, 4.2]))),
        ("n_targets", Attr::Int(2)),
        ("aggregate_function", Attr::Int(1)),
        ("nodes_featureids", Attr::Ints(&[0, 0, 0])),
        ("nodes_truenodeids", Attr::Ints(&[1, 0, 1])),
        ("nodes_trueleafs", Attr::Ints(&[0, 1, 1])),
        ("nodes_falsenodeids", Attr::Ints(&[2, 2, 3])),
        ("nodes_falseleafs", Attr::Ints(&[0, 1, 1])),
        ("leaf_targetids", Attr::Ints(&[0, 1, 0, 1])),
        ("leaf_weights", tensor(&Data::F64(vec![5.23, 12.12, -12.23, 7.21]))),
    ];
    let model = lists([0, 0, 0], attributes, DType::F64);
    let rows = Data::F64(vec![1.2, 3.4, -0.12, 1.66, 4.14, 1.77, 5.0, 0.0]);
    // `x <= 3.5`, then `<= 1.2`: leaf 0 or 2; else `<= 4.2`: leaf 1 or 3.
    let expected = Data::F64(vec![5.23, 0.0, 5.23, 0.0, 0.0, 12.12, 0.0, 7.21]);
    assert_eq!(answers(&model, &rows, 2), [expected]);
}

#[test]
fn sets_are_spelled_out() {
    let big: Vec<f32> = (0..100).map(|x| x as f32 * 3.0).collect();
    let mut members = big.clone();
    members.extend([f32::NAN, 12.5, 7.0, f32::NAN]);
    let attributes = vec![
        ("nodes_splits", tensor(&Data::F32(vec![0.0, 60.0, 0.0]))),
        ("n_targets", Attr::Int(1)),
        ("nodes_featureids", Attr::Ints(&[0, 0, 0])),
        ("nodes_truenodeids", Attr::Ints(&[1, 0, 2])),
        ("nodes_trueleafs", Attr::Ints(&[0, 1, 1])),
        ("nodes_falsenodeids", Attr::Ints(&[2, 1, 3])),
        ("nodes_falseleafs", Attr::Ints(&[0, 1, 1])),
        ("leaf_targetids", Attr::Ints(&[0, 0, 0, 0])),
        ("leaf_weights", tensor(&Data::F32(vec![1.0, 2.0, 3.0, 4.0]))),
        ("membership_values", tensor(&Data::F32(members))),
        ("nodes_missing_value_tracks_true", Attr::Ints(&[0, 0, 1])),
    ];
    // The first set, then `x <= 60`; else the second set.
    let model = lists([6, 0, 6], attributes, DType::F32);
    for values in [[0.0, 3.0, 60.0, 63.0], [297.0, 300.0, 12.5, 7.0], [-1.0, 1.0, f32::NAN, 12.0]] {
        let expected = values.map(|x| match x {
            _ if big.contains(&x) && x <= 60.0 => 1.0,
            _ if big.contains(&x) => 2.0,
            _ if x == 12.5 || x == 7.0 || x.is_nan() => 3.0,
            _ => 4.0,
        });
        let rows = values.iter().flat_map(|x| [*x, 0.0]).collect();
        assert_eq!(answers(&model, &Data::F32(rows), 2), [Data::F32(expected.to_vec())]);
    }
}
