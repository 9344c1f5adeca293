//! A run that is killed or asked to stop, and started again, ends as if nothing had happened.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use moola_core::contract::Progress;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::{Place, bars, files, spec, up_or_down};

/// The losses of all steps; fails where a step is told twice or left out.
fn losses(place: &Place, run_id: &str) -> Vec<f64> {
    let steps = place.progress(run_id).into_iter().filter_map(|record| match record {
        Progress::Step(step) => Some(step),
        Progress::Epoch(_) => None,
    });
    steps
        .enumerate()
        .map(|(index, step)| {
            assert_eq!(step.step, index as u64 + 1);
            step.loss
        })
        .collect()
}

#[test]
fn a_killed_run_ends_with_the_weights_of_an_undisturbed_one() {
    let place = Place::new(bars(900, 11));
    let mut undisturbed = spec("r1", &place.sha256, up_or_down());
    undisturbed.optimizer.epochs = 6;
    let started = Instant::now();
    place.trained(&undisturbed);
    let usual = started.elapsed();
    let model = place.model("r1");
    let told = losses(&place, "r1");

    // The file names the run, so both runs have one name, each in its own place.
    let other = Place::new(bars(900, 11));
    other.write_spec(&undisturbed);
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let mut kills = 0;
    for _ in 0..6 {
        let mut child = other.start("r1");
        sleep(usual.mul_f64(0.15 + 0.5 * random.random::<f64>()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
    }
    assert!(kills >= 1, "the run was never caught");
    let output = other.command("r1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(other.model("r1") == model, "the model differs after {kills} kills");
    assert_eq!(losses(&other, "r1"), told);
    assert_eq!(other.result("r1").metrics, place.result("r1").metrics);
}

#[test]
fn a_run_that_is_asked_to_stop_says_that_it_can_go_on() {
    let place = Place::new(bars(900, 12));
    let mut undisturbed = spec("r1", &place.sha256, up_or_down());
    undisturbed.optimizer.epochs = 30;
    undisturbed.optimizer.checkpoint_steps = 1_000_000;
    let other = Place::new(bars(900, 12));
    other.write_spec(&undisturbed);
    let mut child = other.start("r1");
    let started = Instant::now();
    while files(&other.run_dir("r1").join("checkpoints")).is_empty() {
        assert!(child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(120));
        sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(!other.run_dir("r1").join("result.json").exists());

    // A damaged checkpoint is passed over for the one before.
    let latest = files(&other.run_dir("r1").join("checkpoints")).pop().unwrap();
    let mut bytes = std::fs::read(latest.join("state.bin")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(latest.join("state.bin"), bytes).unwrap();

    let output = other.command("r1").env("AWS_BATCH_JOB_ATTEMPT", "2").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.trained(&undisturbed);
    assert!(other.model("r1") == place.model("r1"));
    assert_eq!(losses(&other, "r1"), losses(&place, "r1"));
    assert_eq!((place.result("r1").attempts, other.result("r1").attempts), (1, 2));
}
