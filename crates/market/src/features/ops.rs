//! The kinds of [`Op`]: pointwise, windowed, recursive, and functions of TA-Lib.

use std::sync::LazyLock;

use ta_lib::Core;

use super::engine::{Op, Step};

/// A function of the current values alone.
pub(super) fn map<const N: usize, F>(function: F) -> impl Op
where
    F: Fn([f64; N]) -> f64 + Copy + Send + Sync + 'static,
{
    Map { function }
}

struct Map<F, const N: usize> {
    function: F,
}

impl<F, const N: usize> Op for Map<F, N>
where
    F: Fn([f64; N]) -> f64 + Copy + Send + Sync + 'static,
{
    fn lookback(&self) -> usize {
        0
    }

    fn reach(&self) -> Option<usize> {
        Some(0)
    }

    fn batch(&self, inputs: &[&[f64]], outputs: &mut [&mut [f64]]) {
        let output = &mut *outputs[0];
        let inputs: [&[f64]; N] = std::array::from_fn(|index| &inputs[index][..output.len()]);
        for (row, value) in output.iter_mut().enumerate() {
            *value = (self.function)(inputs.map(|input| input[row]));
        }
    }

    fn open(&self) -> Box<dyn Step> {
        Box::new(Self { function: self.function })
    }
}

impl<F, const N: usize> Step for Map<F, N>
where
    F: Fn([f64; N]) -> f64 + Copy + Send + Sync + 'static,
{
    fn step(&mut self, inputs: &[f64], outputs: &mut [f64]) {
        outputs[0] = (self.function)(std::array::from_fn(|index| inputs[index]));
    }
}

/// A function of the last `len` values of each input, oldest first.
///
/// It is evaluated afresh for every bar, so there is no running sum that could drift.
pub(super) fn window<const N: usize, F>(len: usize, function: F) -> impl Op
where
    F: Fn([&[f64]; N]) -> f64 + Copy + Send + Sync + 'static,
{
    Window { len, function }
}

struct Window<F, const N: usize> {
    len: usize,
    function: F,
}

impl<F, const N: usize> Op for Window<F, N>
where
    F: Fn([&[f64]; N]) -> f64 + Copy + Send + Sync + 'static,
{
    fn lookback(&self) -> usize {
        self.len - 1
    }

    fn reach(&self) -> Option<usize> {
        Some(self.len - 1)
    }

    fn batch(&self, inputs: &[&[f64]], outputs: &mut [&mut [f64]]) {
        for (row, value) in outputs[0].iter_mut().enumerate() {
            *value = (self.function)(std::array::from_fn(|index| &inputs[index][row..row + self.len]));
        }
    }

    fn open(&self) -> Box<dyn Step> {
        Box::new(WindowStep::<F, N> {
            len: self.len,
            function: self.function,
            kept: std::array::from_fn(|_| Vec::with_capacity(4 * self.len)),
        })
    }
}

struct WindowStep<F, const N: usize> {
    len: usize,
    function: F,
    /// At least the last `len` values of each input, once there are so many; cut back when it gets long.
    kept: [Vec<f64>; N],
}

impl<F, const N: usize> Step for WindowStep<F, N>
where
    F: Fn([&[f64]; N]) -> f64 + Copy + Send + Sync + 'static,
{
    fn step(&mut self, inputs: &[f64], outputs: &mut [f64]) {
        for (kept, &value) in self.kept.iter_mut().zip(inputs) {
            if kept.len() == 4 * self.len {
                kept.drain(..3 * self.len);
            }
            kept.push(value);
        }
        let have = self.kept[0].len();
        outputs[0] = if have < self.len {
            f64::NAN
        } else {
            (self.function)(std::array::from_fn(|index| &self.kept[index][have - self.len..]))
        };
    }
}

/// A recursion: `function` takes the state and the current values; the first `lookback` outputs are dropped.
pub(super) fn scan<S, const N: usize, const M: usize, F>(lookback: usize, initial: S, function: F) -> impl Op
where
    S: Clone + Send + Sync + 'static,
    F: Fn(&mut S, [f64; N]) -> [f64; M] + Copy + Send + Sync + 'static,
{
    Scan { lookback, initial, function }
}

struct Scan<S, F, const N: usize, const M: usize> {
    lookback: usize,
    initial: S,
    function: F,
}

impl<S, F, const N: usize, const M: usize> Op for Scan<S, F, N, M>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(&mut S, [f64; N]) -> [f64; M] + Copy + Send + Sync + 'static,
{
    fn lookback(&self) -> usize {
        self.lookback
    }

    fn reach(&self) -> Option<usize> {
        None
    }

    fn batch(&self, inputs: &[&[f64]], outputs: &mut [&mut [f64]]) {
        let mut state = self.initial.clone();
        let num_bars = inputs[0].len();
        let inputs: [&[f64]; N] = std::array::from_fn(|index| &inputs[index][..num_bars]);
        for row in 0..num_bars {
            let values = (self.function)(&mut state, inputs.map(|input| input[row]));
            if let Some(row) = row.checked_sub(self.lookback) {
                for (output, value) in outputs.iter_mut().zip(values) {
                    output[row] = value;
                }
            }
        }
    }

    fn open(&self) -> Box<dyn Step> {
        Box::new(ScanStep { to_drop: self.lookback, state: self.initial.clone(), function: self.function })
    }
}

struct ScanStep<S, F, const N: usize, const M: usize> {
    to_drop: usize,
    state: S,
    function: F,
}

impl<S, F, const N: usize, const M: usize> Step for ScanStep<S, F, N, M>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(&mut S, [f64; N]) -> [f64; M] + Copy + Send + Sync + 'static,
{
    fn step(&mut self, inputs: &[f64], outputs: &mut [f64]) {
        let values = (self.function)(&mut self.state, std::array::from_fn(|index| inputs[index]));
        if self.to_drop == 0 {
            outputs.copy_from_slice(&values);
        } else {
            self.to_drop -= 1;
            outputs.fill(f64::NAN);
        }
    }
}

/// TA-Lib with its default settings: unstable period 0 and the standard candle thresholds.
pub(super) static TA: LazyLock<Core> = LazyLock::new(Core::new);

/// A function of TA-Lib in its two forms; made by [`ta!`].
///
/// `batch` fills each output from its start, `open` makes a handle from at least `lookback + 1` values of each
/// input, `update` moves the handle on by one bar. TA-Lib promises that both forms give the same bits.
pub(super) struct TaLib<B, O, U> {
    pub(super) lookback: usize,
    pub(super) num_inputs: usize,
    pub(super) batch: B,
    pub(super) open: O,
    pub(super) update: U,
}

impl<B, O, U, H> Op for TaLib<B, O, U>
where
    B: Fn(&[&[f64]], &mut [&mut [f64]]) + Send + Sync,
    O: Fn(&[Vec<f64>], &mut [f64]) -> Option<H> + Copy + Send + Sync + 'static,
    U: Fn(&mut H, &[f64], &mut [f64]) + Copy + Send + Sync + 'static,
    H: Send + 'static,
{
    fn lookback(&self) -> usize {
        self.lookback
    }

    fn reach(&self) -> Option<usize> {
        None
    }

    fn batch(&self, inputs: &[&[f64]], outputs: &mut [&mut [f64]]) {
        (self.batch)(inputs, outputs);
    }

    fn open(&self) -> Box<dyn Step> {
        Box::new(TaLibStep {
            warm_up: self.lookback + 1,
            history: vec![Vec::with_capacity(self.lookback + 1); self.num_inputs],
            handle: None,
            open: self.open,
            update: self.update,
        })
    }
}

struct TaLibStep<H, O, U> {
    warm_up: usize,
    history: Vec<Vec<f64>>,
    handle: Option<H>,
    open: O,
    update: U,
}

impl<H, O, U> Step for TaLibStep<H, O, U>
where
    O: Fn(&[Vec<f64>], &mut [f64]) -> Option<H> + Copy + Send + Sync + 'static,
    U: Fn(&mut H, &[f64], &mut [f64]) + Copy + Send + Sync + 'static,
    H: Send + 'static,
{
    fn step(&mut self, inputs: &[f64], outputs: &mut [f64]) {
        outputs.fill(f64::NAN);
        if let Some(handle) = &mut self.handle {
            (self.update)(handle, inputs, outputs);
            return;
        }
        for (history, &value) in self.history.iter_mut().zip(inputs) {
            history.push(value);
        }
        if self.history[0].len() == self.warm_up {
            self.handle = (self.open)(&self.history, outputs);
            self.history = Vec::new();
        }
    }
}

/// What a TA-Lib stream returns for one bar.
pub(super) trait Values {
    /// Writes each value in order.
    fn write(self, outputs: &mut [f64]);
}

impl Values for f64 {
    fn write(self, outputs: &mut [f64]) {
        outputs[0] = self;
    }
}

impl Values for i32 {
    fn write(self, outputs: &mut [f64]) {
        outputs[0] = f64::from(self);
    }
}

impl Values for (f64, f64) {
    fn write(self, outputs: &mut [f64]) {
        outputs.copy_from_slice(&[self.0, self.1]);
    }
}

impl Values for (f64, i32) {
    fn write(self, outputs: &mut [f64]) {
        outputs.copy_from_slice(&[self.0, f64::from(self.1)]);
    }
}

impl Values for (f64, f64, f64) {
    fn write(self, outputs: &mut [f64]) {
        outputs.copy_from_slice(&[self.0, self.1, self.2]);
    }
}

/// Makes the [`TaLib`] op of one function: its names, its inputs, its parameters, its outputs.
///
/// With `+ flag` after the outputs, one more output follows that TA-Lib gives as an integer.
macro_rules! ta {
    ($batch:ident $open:ident $lookback:ident $stream:ident; $($x:ident)+; $($arg:expr),*; $($y:ident)+) => {
        $crate::features::ops::ta!(
            @make $open $lookback $stream; $($x)+; $($arg),*;
            move |inputs: &[&[f64]], outputs: &mut [&mut [f64]]| {
                let [$($x),+] = inputs else { return };
                let [$($y),+] = outputs else { return };
                let last = [$($x.len()),+][0] - 1;
                let done = $crate::features::ops::TA.$batch(0, last, $($x,)+ $($arg,)* $($y),+);
                debug_assert!(done.is_ok());
            }
        )
    };
    ($batch:ident $open:ident $lookback:ident $stream:ident; $($x:ident)+; $($arg:expr),*; $($y:ident)* + flag) => {
        $crate::features::ops::ta!(
            @make $open $lookback $stream; $($x)+; $($arg),*;
            move |inputs: &[&[f64]], outputs: &mut [&mut [f64]]| {
                let [$($x),+] = inputs else { return };
                let [$($y,)* flag] = outputs else { return };
                let last = [$($x.len()),+][0] - 1;
                let mut flags = vec![0_i32; flag.len()];
                let done = $crate::features::ops::TA.$batch(0, last, $($x,)+ $($arg,)* $($y,)* &mut flags);
                debug_assert!(done.is_ok());
                for (value, integer) in flag.iter_mut().zip(flags) {
                    *value = f64::from(integer);
                }
            }
        )
    };
    (@make $open:ident $lookback:ident $stream:ident; $($x:ident)+; $($arg:expr),*; $run:expr) => {
        $crate::features::ops::TaLib {
            lookback: $crate::features::ops::TA.$lookback($($arg),*).expect("parameters are in range"),
            num_inputs: [$(stringify!($x)),+].len(),
            batch: $run,
            open: move |history: &[Vec<f64>], outputs: &mut [f64]| {
                let [$($x),+] = history else { return None };
                let (handle, values) = $crate::features::ops::TA.$open($($x,)+ $($arg),*).ok()?;
                $crate::features::ops::Values::write(values, outputs);
                Some(handle)
            },
            update: move |handle: &mut ta_lib::$stream, inputs: &[f64], outputs: &mut [f64]| {
                let &[$($x),+] = inputs else { return };
                if let Ok(values) = handle.update($($x),+) {
                    $crate::features::ops::Values::write(values, outputs);
                }
            },
        }
    };
}
pub(super) use ta;
