//! What training remembers from step to step, and its checkpoints.
//!
//! A checkpoint is `checkpoints/<step>/state.bin` and, written after it, `checkpoints/<step>/manifest.json` with its
//! digest. `state.bin` is the JSON of the counters and a zero byte, then four lists of little-endian floats: weights, first
//! and second moments, best weights. The order of samples and the dropped units are drawn from the seed and the number of
//! the epoch or step, so no generator has a state to keep.

use moola_core::commit::sha256_hex;
use moola_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::storage::Storage;

/// How many checkpoints are kept.
const KEPT: usize = 2;
const FOLDER: &str = "checkpoints/";

/// Numbers that training remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Optimiser steps done.
    pub step: u64,
    /// The epoch that is under way, from 0.
    pub epoch: usize,
    /// Steps done of that epoch.
    pub step_in_epoch: usize,
    /// Loss times weight of the samples of that epoch so far.
    pub loss_sum: f64,
    /// Weight of the samples of that epoch so far.
    pub weight_sum: f64,
    /// Least validation loss so far.
    pub best_loss: Option<f64>,
    /// The epoch that had it, from 1; 0 for none.
    pub best_epoch: usize,
    /// Epochs since then.
    pub epochs_without_gain: usize,
    /// Whether training is over.
    pub is_done: bool,
    /// Seconds spent training, over all attempts.
    pub duration_secs: f64,
    /// Windows trained on, over all attempts.
    pub num_windows: u64,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Sum of the gradient norms of all steps.
    pub norm_sum: f64,
    /// Steps whose gradient norm was far above the mean until then.
    pub num_outliers: u64,
    /// Mean training loss of the first and of the last whole epoch.
    pub epoch_losses: Option<(f64, f64)>,
}

/// What training remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Numbers.
    pub counters: Counters,
    /// Weights.
    pub weights: Vec<f32>,
    /// First moments of Adam.
    pub first: Vec<f32>,
    /// Second moments of Adam.
    pub second: Vec<f32>,
    /// Weights of the best epoch.
    pub best: Vec<f32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format_version: u32,
    step: u64,
    num_weights: usize,
    spec_sha256: String,
    sha256: String,
}

impl State {
    /// The state before the first step.
    #[must_use]
    pub fn new(weights: Vec<f32>) -> Self {
        let zeros = vec![0.0; weights.len()];
        Self { counters: Counters::default(), first: zeros.clone(), second: zeros, best: weights.clone(), weights }
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&self.counters).map_err(|e| Error::internal("checkpoint").with_source(e))?;
        bytes.push(0);
        for list in [&self.weights, &self.first, &self.second, &self.best] {
            bytes.reserve(4 * list.len());
            list.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8], num_weights: usize) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let counters = serde_json::from_slice(&bytes[..end]).ok()?;
        let (numbers, rest) = bytes[end + 1..].as_chunks::<4>();
        if numbers.len() != 4 * num_weights || !rest.is_empty() {
            return None;
        }
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let list = |index: usize| numbers[index * num_weights..(index + 1) * num_weights].to_vec();
        Some(Self { counters, weights: list(0), first: list(1), second: list(2), best: list(3) })
    }

    /// Writes a checkpoint and deletes all but the latest two.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn save(&self, storage: &Storage, spec_sha256: &str) -> Result<()> {
        let bytes = self.to_bytes()?;
        let manifest = Manifest {
            format_version: 1,
            step: self.counters.step,
            num_weights: self.weights.len(),
            spec_sha256: spec_sha256.to_owned(),
            sha256: sha256_hex(&bytes),
        };
        let manifest = serde_json::to_vec(&manifest).map_err(|e| Error::internal("checkpoint").with_source(e))?;
        let folder = format!("{FOLDER}{:010}", self.counters.step);
        storage.put(&format!("{folder}/state.bin"), bytes)?;
        storage.put(&format!("{folder}/manifest.json"), manifest)?;
        let manifests: Vec<String> = manifests(storage)?;
        for old in manifests.iter().rev().skip(KEPT) {
            // The manifest goes first: what is left without one is no checkpoint.
            storage.delete(old)?;
            storage.delete(&old.replace("manifest.json", "state.bin"))?;
        }
        Ok(())
    }

    /// Reads the latest checkpoint that is whole and of the same spec; `None` where there is none.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn load(storage: &Storage, spec_sha256: &str, num_weights: usize) -> Result<Option<Self>> {
        for file in manifests(storage)?.iter().rev() {
            let manifest = storage.get(file)?.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
            let state = storage.get(&file.replace("manifest.json", "state.bin"))?;
            let state = manifest.zip(state).and_then(|(manifest, bytes)| {
                let fits = manifest.spec_sha256 == spec_sha256 && manifest.sha256 == sha256_hex(&bytes);
                if fits { Self::from_bytes(&bytes, num_weights) } else { None }
            });
            if let Some(state) = state {
                return Ok(Some(state));
            }
            warn!(checkpoint = file, "a checkpoint is damaged or of another spec, and passed over");
        }
        Ok(None)
    }
}

fn manifests(storage: &Storage) -> Result<Vec<String>> {
    Ok(storage.list(FOLDER)?.into_iter().filter(|file| file.ends_with("/manifest.json")).collect())
}
