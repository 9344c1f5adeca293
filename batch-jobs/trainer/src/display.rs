//! Progress for people: a bar on a terminal, a line per epoch elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use moola_core::contract::{EpochProgress, StepProgress};

/// Shows progress on standard error.
#[derive(Debug)]
pub struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    /// A bar where `show_bar`, else lines.
    #[must_use]
    pub fn new(show_bar: bool, num_steps: u64, done_steps: u64) -> Self {
        let bar = show_bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(num_steps), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {per_sec}, {eta} left  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(done_steps);
            bar
        });
        Self { bar }
    }

    pub(crate) fn step(&self, record: &StepProgress, steps_per_epoch: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(record.step);
            if record.step.is_multiple_of(10) || steps_per_epoch < 10 {
                bar.set_message(format!("epoch {} loss {:.4}", record.epoch, record.loss));
            }
        }
    }

    pub(crate) fn epoch(&self, record: &EpochProgress, epochs: usize) {
        let line = format!(
            "epoch {}/{epochs}: train loss {:.5}, validation loss {:.5}, validation score {:.4}, {:.1} s",
            record.epoch, record.train_loss, record.validation_loss, record.validation_score, record.duration_secs
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
