use moola_core::contract::ModelSpec;

use super::*;

fn shape(task: Task) -> Shape {
    let spec = ModelSpec { hidden_size: 4, num_heads: 2, ..ModelSpec::default() };
    let num_outputs = if task == Task::Classification { 3 } else { 1 };
    Shape::new(&spec, task, 6, 4, 2, num_outputs)
}

fn batch(num_rows: usize) -> Batch {
    let numbers = |count: usize, step: f32| (0..count).map(|index| (index as f32 * step).sin()).collect();
    Batch { num_rows, bars: numbers(num_rows * 24, 0.37), features: numbers(num_rows * 2, 0.71), masks: None }
}

#[test]
fn gradients_of_the_whole_model_are_slopes_of_the_loss() {
    let rows = [0, 1, 2, 3, 4];
    for (task, targets) in [
        (Task::Classification, Targets::of_classes(vec![0.0, 1.0, 2.0, 1.0, 0.0], vec![0.5, 1.0, 3.0])),
        (
            Task::Regression,
            Targets { values: vec![1.0, 5.0, 2.0, 0.0, 3.0], class_weights: vec![], target: (2.0, 2.0) },
        ),
    ] {
        let shape = shape(task);
        let mut parameters = Parameters::new(&shape, 5);
        let masks = Some((0..5 * shape.head_inputs()).map(|index| if index % 3 == 0 { 0.0 } else { 1.5 }).collect());
        let loss = |parameters: &Parameters| {
            let batch = Batch { masks: masks.clone(), ..batch(5) };
            gradient(&shape, parameters, batch, &targets, &rows)
        };
        let Gradient { values, .. } = loss(&parameters);
        assert_eq!(values.len(), parameters.data().len());
        let names: Vec<(String, usize)> = parameters.names().map(|(name, size)| (name.to_owned(), size)).collect();
        let mut offset = 0;
        for (name, size) in names {
            for place in [offset, offset + size / 2, offset + size - 1] {
                let (step, value) = (1e-2_f32, parameters.data()[place]);
                parameters.data_mut()[place] = value + step;
                let above = loss(&parameters).loss;
                parameters.data_mut()[place] = value - step;
                let below = loss(&parameters).loss;
                parameters.data_mut()[place] = value;
                let slope = (above - below) / (2.0 * f64::from(step));
                assert!((slope - f64::from(values[place])).abs() < 1e-3, "{name}: {slope} {}", values[place]);
            }
            offset += size;
        }
    }
}

#[test]
fn losses_are_weighted_means() {
    let targets = Targets::of_classes(vec![0.0, 1.0], vec![3.0, 1.0]);
    let loss = targets.loss(&[0.5, 0.5, 0.75, 0.25], &[0, 1]);
    assert!((loss - (3.0 * 2.0_f64.ln() + 4.0_f64.ln()) / 4.0).abs() < 1e-12, "{loss}");
    assert!(targets.loss(&[f64::NAN, 0.5, 0.75, 0.25], &[0, 1]).is_nan());
    assert_eq!(targets.score(&[0.6, 0.4, 0.75, 0.25], &[0, 1]).unwrap(), 0.5);
    assert!(targets.score(&[f64::NAN, 0.4, 0.75, 0.25], &[0, 1]).unwrap().is_nan());
}

#[test]
fn weights_that_are_no_numbers_show_in_the_loss() {
    let shape = shape(Task::Classification);
    let mut parameters = Parameters::new(&shape, 5);
    parameters.data_mut()[0] = f32::NAN;
    let targets = Targets::of_classes(vec![0.0, 1.0], vec![1.0; 3]);
    assert!(gradient(&shape, &parameters, batch(2), &targets, &[0, 1]).loss.is_nan());
}
