//! It learns what can be learnt, and the same every time.

use moola_core::contract::FoldMetrics;

use crate::support::{Place, bars, spec, up_or_down};

#[test]
fn a_pattern_is_learnt() {
    let place = Place::new(bars(1500, 5));
    let mut spec = spec("r1", &place.sha256, up_or_down());
    spec.window.feature_set = String::new();
    spec.window.stride = 1;
    spec.optimizer.epochs = 8;
    spec.optimizer.class_weights = true;
    let result = place.trained(&spec);
    let Some(FoldMetrics::Classification { test, baselines, .. }) = result.metrics else { panic!("no metrics") };
    // The direction stays with probability 0.9.
    assert!(test.accuracy > 0.8, "{}", test.accuracy);
    assert!(test.log_loss < 0.8 * baselines["prior"].log_loss);
    assert!(result.best_epoch >= 1 && result.best_epoch <= result.epochs);
}

#[test]
fn the_same_spec_makes_the_same_bytes_on_any_number_of_threads() {
    let place = Place::new(bars(700, 6));
    let mut first = spec("r1", &place.sha256, up_or_down());
    first.model.num_layers = 2;
    place.trained(&first);
    let model = place.model("r1");
    for (threads, rayon) in [("1", "1"), ("4", "3")] {
        std::fs::remove_dir_all(place.run_dir("r1")).unwrap();
        place.write_spec(&first);
        let mut command = place.command("r1");
        let output = command.env("MOOLA_THREADS", threads).env("RAYON_NUM_THREADS", rayon).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(place.model("r1") == model, "{threads} threads give another model");
    }
    let mut other = first.clone();
    other.seed += 1;
    std::fs::remove_dir_all(place.run_dir("r1")).unwrap();
    place.trained(&other);
    assert!(place.model("r1") != model, "the seed does not matter");
}

#[test]
fn training_stops_when_validation_does_not_improve() {
    let place = Place::new(bars(700, 8));
    let mut spec = spec("r1", &place.sha256, up_or_down());
    spec.optimizer.patience = 1;
    spec.optimizer.epochs = 100;
    spec.optimizer.learning_rate = 2e-2;
    let result = place.trained(&spec);
    assert!(result.epochs < 100 && result.best_epoch + 1 == result.epochs, "{} {}", result.epochs, result.best_epoch);
}
