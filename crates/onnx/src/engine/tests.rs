use super::*;
use crate::writer::{Dim, Direction, GraphBuilder};

fn lstm(direction: Direction) -> Vec<u8> {
    let directions = direction.num_directions();
    let mut graph = GraphBuilder::new("lstm");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(5), Dim::Fixed(2)]);
    let x = graph.transpose(x, &[1, 0, 2]);
    let w = graph.initializer_f32("w", &[directions, 12, 2], &vec![0.1; directions * 24]);
    let r = graph.initializer_f32("r", &[directions, 12, 3], &vec![0.1; directions * 36]);
    let y = graph.lstm(x, w, r, None, 3, direction).y_h;
    let y = graph.transpose(y, &[1, 0, 2]);
    let y = graph.reshape(y, &[0, -1]);
    graph.output(y, "y", &[Dim::Batch, Dim::Fixed(directions * 3)]);
    graph.finish().unwrap()
}

#[test]
fn chunks_answer_as_single_rows_do() {
    for direction in [Direction::Forward, Direction::Bidirectional] {
        let model = TractModel::load(&lstm(direction)).unwrap();
        for size in CHUNKS {
            assert_eq!(model.plan_for(size).unwrap().0, size);
        }
        assert_eq!(model.plan_for(31).unwrap().0, 8);
        let data = (0..50 * 10).map(|index| (index % 17) as f32 / 17.0).collect::<Vec<_>>();
        let all = model.run(vec![Tensor::new(vec![50, 5, 2], data.clone()).unwrap()]).unwrap();
        let width = direction.num_directions() * 3;
        assert_eq!(all[0].shape(), [50, width]);
        for (row, together) in data.chunks(10).zip(all[0].data().chunks(width)) {
            let alone = model.run(vec![Tensor::new(vec![1, 5, 2], row.to_vec()).unwrap()]).unwrap();
            for (a, b) in alone[0].data().iter().zip(together) {
                assert!((a - b).abs() < 1e-6, "{a} alone, {b} in a chunk");
            }
        }
    }
}

#[test]
fn panics_of_tract_become_messages() {
    let message = guarded::<()>(|| panic!("index {} out of range", 3)).unwrap_err();
    assert_eq!(message, "tract panicked: index 3 out of range");
}
