//! Files that are wrong: an error names the attribute.

use super::*;

fn good() -> File {
    File {
        targets: 2,
        features: 3,
        nodes: vec![
            Listed::branch(4, 0, 2, "BRANCH_LEQ", 0.5, 1, 2),
            Listed::leaf(4, 1),
            Listed::branch(4, 2, 1, "BRANCH_GT", 0.5, 3, 4),
            Listed::leaf(4, 3),
            Listed::leaf(4, 4),
        ],
        weights: vec![(4, 1, 0, 1.0), (4, 3, 1, 2.0), (4, 4, 0, 3.0)],
        ..File::default()
    }
}

fn refuses(change: impl FnOnce(&mut File), parts: &[&str]) {
    let mut file = good();
    change(&mut file);
    let error = file.import().expect_err("an error").to_string();
    for part in parts.iter().chain(&["TreeEnsemble", "node `"]) {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
}

#[test]
fn nodes_that_make_no_tree() {
    good().import().expect("imports");
    refuses(
        |file| {
            file.nodes[3] = Listed::branch(4, 3, 0, "BRANCH_LT", 0.0, 2, 4);
            file.weights.remove(1);
        },
        &["node 2 of tree 4 is its own descendant"],
    );
    refuses(
        |file| {
            file.nodes[3] = Listed::branch(4, 3, 0, "BRANCH_LT", 0.0, 0, 4);
            file.weights.remove(1);
        },
        &["tree 4 has no root"],
    );
    refuses(|file| file.nodes[2].no = 9, &["nodes_falsenodeids", "node 2 of tree 4", "node 9"]);
    refuses(|file| file.nodes[2].no = -1, &["nodes_falsenodeids", "node -1"]);
    refuses(|file| file.nodes[4].id = 3, &["nodes_nodeids", "node 3 of tree 4 is there twice"]);
    refuses(|file| file.nodes[2].no = 3, &["node 0 of tree 4 and node 4 of tree 4 are both roots"]);
    refuses(|file| file.nodes[0].feature = 3, &["nodes_featureids", "node 0 of tree 4", "feature 3", "3 features"]);
    refuses(|file| file.nodes[0].feature = -1, &["nodes_featureids", "feature -1"]);
    refuses(|file| file.nodes[0].mode = "BRANCH_LIKE", &["nodes_modes", "`BRANCH_LIKE`", "BRANCH_LEQ"]);
    refuses(|file| file.nodes.clear(), &["nodes_treeids", "0 entries"]);
    refuses(
        |file| {
            file.nodes.push(Listed::branch(4, 5, 0, "BRANCH_LT", 0.0, 6, 6));
            file.nodes.push(Listed::branch(4, 6, 0, "BRANCH_LT", 0.0, 5, 5));
        },
        &["2 nodes cannot be reached"],
    );
}

#[test]
fn weights_that_belong_nowhere() {
    refuses(|file| file.weights[0].1 = 2, &["target_nodeids", "node 2 of tree 4 is no leaf"]);
    refuses(|file| file.weights[0].0 = 5, &["target_nodeids", "tree 5 is no leaf"]);
    refuses(|file| file.weights[0].2 = 2, &["target_ids", "holds 2", "0 to 1"]);
    refuses(|file| file.weights[0].2 = -1, &["target_ids", "holds -1"]);
    refuses(|file| file.weights[0].3 = f64::NAN, &["target_weights", "NaN"]);
    refuses(
        |file| {
            file.doubles = true;
            file.weights[0].3 = 1e300;
        },
        &["target_weights", "float32"],
    );
    refuses(|file| file.weights.clear(), &["target_ids", "0 entries"]);
    refuses(|file| file.base = vec![1.0], &["base_values", "1 entries"]);
    refuses(|file| file.targets = 0, &["n_targets", "0"]);
    refuses(|file| file.targets = i64::MAX, &["n_targets"]);
    refuses(|file| file.aggregate = Some("MEDIAN"), &["aggregate_function", "`MEDIAN`"]);
    refuses(|file| file.transform = Some("TANH"), &["post_transform", "`TANH`"]);
    refuses(|file| file.classes = vec![1], &["1 class labels"]);
}

#[test]
fn deep_trees_are_refused() {
    refuses(
        |file| {
            file.nodes = vec![Listed::leaf(0, 20_000)];
            file.nodes.extend((0..10_000).flat_map(|id| {
                let no = if id == 9_999 { 20_000 } else { id + 1 };
                [Listed::branch(0, id, 0, "BRANCH_LT", 0.0, 10_000 + id, no), Listed::leaf(0, 10_000 + id)]
            }));
            file.weights = vec![(0, 20_000, 0, 1.0)];
        },
        &["4096 branches deep"],
    );
}

#[test]
fn lists_of_different_lengths() {
    let (whole, short) = ([0, 1, 2], [0, 1]);
    let names = ["nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"];
    for wrong in names {
        let mut attributes = vec![("nodes_treeids", Attr::Ints(&[0, 0, 0])), ("n_targets", Attr::Int(1))];
        attributes.extend(names.map(|name| (name, Attr::Ints(if name == wrong { &short } else { &whole }))));
        attributes.push(("nodes_modes", Attr::Texts(&["LEAF", "LEAF", "LEAF"])));
        attributes.push(("nodes_values", Attr::Floats(&[0.0; 3])));
        let model = OnnxModel::new(17).input("x", DType::F32, &[None, Some(2)]);
        let model = model.node("ml:TreeEnsembleRegressor", &["x"], &["y"], &attributes).output("y").bytes();
        let error = import(&model, &Options::default()).expect_err("an error").to_string();
        assert!(error.contains(&format!("`{wrong}` has 2 entries, expected 3")), "{error}");
    }
}
