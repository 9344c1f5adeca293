use std::sync::Arc;

use proptest::prelude::*;

use crate::Options;
use crate::ir::{Aggregate, DType, Data, Graph, Node, Op, Operand, Test, TreeForm, TreeNode, Trees};
use crate::testkit::{Running, assert_close, compile_as_it_is};

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    /// Of a coarse grid, so that features meet thresholds.
    fn number(&mut self) -> f64 {
        (self.below(17) as f64 - 8.0) / 4.0
    }
}

/// How random ensembles look.
#[derive(Debug, Clone)]
struct Shape {
    rows: usize,
    features: usize,
    scores: usize,
    trees: usize,
    depth: usize,
    /// Of 8 nodes above the last level, how many are leaves.
    leaves: usize,
    tests: Vec<Test>,
    /// Of 8 branches, how many NaN passes.
    nan_passes: usize,
    /// Every tree counts for one score.
    one_score: bool,
    aggregate: Aggregate,
    dtype: DType,
}

const ALL: [Test; 6] =
    [Test::LessOrEqual, Test::Less, Test::GreaterOrEqual, Test::Greater, Test::Equal, Test::NotEqual];

impl Default for Shape {
    fn default() -> Self {
        Self {
            rows: 5,
            features: 7,
            scores: 1,
            trees: 9,
            depth: 4,
            leaves: 1,
            tests: vec![Test::LessOrEqual],
            nan_passes: 0,
            one_score: true,
            aggregate: Aggregate::Sum,
            dtype: DType::F32,
        }
    }
}

impl Shape {
    fn tree(&self, dice: &mut Dice, score: usize) -> Vec<TreeNode> {
        let mut nodes = vec![TreeNode::Leaf(Vec::new())];
        let mut todo = vec![(0, 0)];
        while let Some((index, level)) = todo.pop() {
            if level == self.depth || (level > 0 && dice.below(8) < self.leaves) {
                let weights = (0..self.scores)
                    .filter(|it| if self.one_score { *it == score } else { dice.below(4) > 0 })
                    .collect::<Vec<_>>();
                nodes[index] =
                    TreeNode::Leaf(weights.into_iter().map(|it| (it, dice.below(64) as f64 / 8.0 - 3.0)).collect());
                continue;
            }
            let yes = nodes.len();
            nodes.extend([TreeNode::Leaf(Vec::new()), TreeNode::Leaf(Vec::new())]);
            nodes[index] = TreeNode::Branch {
                feature: dice.below(self.features),
                test: self.tests[dice.below(self.tests.len())],
                threshold: dice.number(),
                nan_passes: dice.below(8) < self.nan_passes,
                yes,
                no: yes + 1,
            };
            todo.extend([(yes, level + 1), (yes + 1, level + 1)]);
        }
        nodes
    }

    fn trees(&self, dice: &mut Dice) -> Trees {
        let trees = (0..self.trees).map(|_| {
            let score = dice.below(self.scores);
            self.tree(dice, score)
        });
        let trees = trees.collect();
        let base = (0..self.scores).map(|_| dice.number()).collect();
        Trees { trees, num_scores: self.scores, base, aggregate: self.aggregate, table: None }
    }

    fn row_data(&self, dice: &mut Dice) -> Data {
        let numbers = (0..self.rows * self.features).map(|_| if dice.below(9) == 0 { f64::NAN } else { dice.number() });
        match self.dtype {
            DType::F64 => Data::F64(numbers.collect()),
            _ => Data::F32(numbers.map(|x| x as f32).collect()),
        }
    }

    /// Compares the kernel with the evaluator; returns the graph after packing.
    fn check(&self, seed: u64) -> Graph {
        let mut dice = Dice(seed);
        let trees = self.trees(&mut dice);
        self.check_trees(trees, &mut dice, |whole| whole)
    }

    fn check_trees(&self, trees: Trees, dice: &mut Dice, view: impl Fn(Operand) -> Operand) -> Graph {
        let mut graph = Graph::default();
        let x = graph.add_value("x", self.dtype, &[self.rows, self.features]).expect("x");
        let view = view(graph.whole(x));
        let shape = [view.shape[0], self.scores];
        let y = graph.add_value("y", self.dtype, &shape).expect("y");
        graph.inputs.push(x);
        graph.outputs.push(("y".into(), y));
        let op = Op::Trees(Arc::new(trees));
        graph.nodes.push(Node { name: "trees".into(), op, inputs: vec![view], outputs: vec![Some(y)] });
        let data = self.row_data(dice);
        let expected = crate::eval::graph(&graph, std::slice::from_ref(&data));
        crate::passes::pack_trees::run(&mut graph).expect("packs");
        let actual = Running::new(&compile_as_it_is(&graph, &Options::default())).run(1, &[data]);
        match (&actual[0], &expected[0]) {
            (Data::F32(actual), Data::F32(expected)) => assert_close(actual, expected, 1e-6),
            (actual, expected) => assert_eq!(actual, expected),
        }
        graph
    }
}

fn is_complete(graph: &Graph) -> bool {
    let Op::Trees(trees) = &graph.nodes[0].op else { panic!("no trees") };
    matches!(trees.table.as_ref().expect("a table").form, TreeForm::Complete { .. })
}

#[test]
fn every_test_sends_every_number_and_nan_the_right_way() {
    for test in ALL {
        for nan_passes in [0, 4, 8] {
            for dtype in [DType::F32, DType::F64] {
                let shape = Shape { tests: vec![test], nan_passes, dtype, rows: 11, ..Shape::default() };
                shape.check(nan_passes as u64);
            }
        }
    }
}

#[test]
fn thresholds_may_be_anything() {
    let specials = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::from(f32::MAX), f64::from(f32::MIN)];
    for dtype in [DType::F32, DType::F64] {
        for test in ALL {
            for nan_passes in [false, true] {
                let trees = specials.iter().map(|&threshold| {
                    vec![
                        TreeNode::Branch { feature: 1, test, threshold, nan_passes, yes: 1, no: 2 },
                        TreeNode::Leaf(vec![(0, 1.0)]),
                        TreeNode::Leaf(vec![]),
                    ]
                });
                let trees = trees
                    .enumerate()
                    .map(|(index, mut tree)| {
                        tree[1] = TreeNode::Leaf(vec![(0, f64::from(1 << index))]);
                        tree
                    })
                    .collect();
                let trees = Trees { trees, num_scores: 1, base: vec![0.0], aggregate: Aggregate::Sum, table: None };
                let shape = Shape { rows: 40, features: 2, dtype, ..Shape::default() };
                shape.check_trees(trees, &mut Dice(7), |whole| whole);
            }
        }
    }
}

#[test]
fn all_aggregates_and_both_kinds_of_leaves() {
    for aggregate in [Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max] {
        for scores in [1, 2, 3, 4, 5, 9, 33] {
            for one_score in [false, true] {
                for dtype in [DType::F32, DType::F64] {
                    Shape { aggregate, scores, one_score, dtype, trees: 23, ..Shape::default() }.check(scores as u64);
                }
            }
        }
    }
}

#[test]
fn small_trees_are_filled_up_and_others_are_linked() {
    assert!(is_complete(&Shape { depth: 6, leaves: 0, ..Shape::default() }.check(1)));
    assert!(is_complete(&Shape { depth: 0, ..Shape::default() }.check(2)));
    assert!(!is_complete(&Shape { depth: 30, leaves: 3, ..Shape::default() }.check(3)));
    assert!(!is_complete(&Shape { depth: 9, leaves: 0, ..Shape::default() }.check(4)));
    assert!(!is_complete(
        &Shape { depth: 12, leaves: 3, trees: 3, one_score: false, scores: 3, ..Shape::default() }.check(5)
    ));
    // Distances and slots that two bytes cannot hold.
    let wide = Shape { depth: 16, leaves: 0, trees: 1, ..Shape::default() }.check(6);
    let Op::Trees(trees) = &wide.nodes[0].op else { panic!("no trees") };
    assert!(matches!(trees.table.as_ref().expect("a table").form, TreeForm::Linked { is_narrow: false, .. }));
    Shape { depth: 12, features: 9000, rows: 6, ..Shape::default() }.check(7);
}

#[test]
fn rows_may_be_strided_and_turned_round() {
    for features in [3, 8, 40] {
        let shape = Shape { rows: 7, features, nan_passes: 3, ..Shape::default() };
        let mut dice = Dice(features as u64);
        let trees = shape.trees(&mut dice);
        shape.check_trees(trees.clone(), &mut dice, |whole| whole.sliced(0, 6, -1, 7));
        shape.check_trees(trees.clone(), &mut dice, |whole| whole.sliced(1, features - 1, -1, features));
        let turned = Shape { features: 7, rows: features, ..shape.clone() };
        let trees = turned.trees(&mut dice);
        shape_turned(&shape, trees, &mut dice);
    }
}

fn shape_turned(shape: &Shape, trees: Trees, dice: &mut Dice) {
    shape.check_trees(trees, dice, |whole| whole.transposed(&[1, 0]));
}

#[test]
fn a_row_does_not_depend_on_its_block() {
    let mut dice = Dice(3);
    let weights = |dice: &mut Dice| dice.below(1 << 20) as f64 / 3e5;
    for (depth, one_score) in [(5, true), (5, false), (14, true), (14, false)] {
        let shape = Shape { scores: 3, depth, leaves: 2, one_score, trees: 50, ..Shape::default() };
        let mut trees = shape.trees(&mut dice);
        for node in trees.trees.iter_mut().flatten() {
            if let TreeNode::Leaf(leaf) = node {
                leaf.iter_mut().for_each(|(_, weight)| *weight = f64::from(weights(&mut dice) as f32));
            }
        }
        let row = (0..7).map(|_| dice.number() as f32).collect::<Vec<_>>();
        let answers = [1, 4].map(|rows| {
            let mut graph = Graph::default();
            let x = graph.add_value("x", DType::F32, &[rows, 7]).expect("x");
            let y = graph.add_value("y", DType::F32, &[rows, 3]).expect("y");
            graph.inputs.push(x);
            graph.outputs.push(("y".into(), y));
            let inputs = vec![graph.whole(x)];
            let op = Op::Trees(Arc::new(trees.clone()));
            graph.nodes.push(Node { name: "trees".into(), op, inputs, outputs: vec![Some(y)] });
            crate::passes::pack_trees::run(&mut graph).expect("packs");
            let data = Data::F32(row.repeat(rows));
            let Data::F32(answer) =
                Running::new(&compile_as_it_is(&graph, &Options::default())).run(1, &[data]).remove(0)
            else {
                panic!("no floats")
            };
            answer
        });
        assert_eq!(answers[0].repeat(4), answers[1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_ensembles_agree_with_the_evaluator(
        seed in any::<u64>(),
        (rows, features, scores, trees) in (1usize..10, 1usize..70, 1usize..7, 1usize..30),
        (depth, leaves, nan_passes) in (0usize..12, 1usize..6, 0usize..9),
        tests in proptest::sample::subsequence(ALL.to_vec(), 1..=6),
        (one_score, is_double) in any::<(bool, bool)>(),
        aggregate in proptest::sample::select(vec![Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max]),
    ) {
        let dtype = if is_double { DType::F64 } else { DType::F32 };
        Shape { rows, features, scores, trees, depth, leaves, tests, nan_passes, one_score, aggregate, dtype }.check(seed);
    }
}
