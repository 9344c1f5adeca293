//! The LSTM on slices, for the CPU: whole sequence forward, and backward through time.
//!
//! The batch is cut into chunks of rows whose number depends on the batch alone, and threads take whole chunks; sums over
//! chunks are made in their order. So the result does not depend on the number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::activation::{sigmoid, tanh};

/// Gates of a cell, in the order input, output, forget, cell: that of ONNX.
const GATES: usize = 4;
const CHUNK_ROWS: usize = 32;
const MIN_CHUNK_ROWS: usize = 8;

/// Sizes of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    pub(super) directions: usize,
}

impl Sizes {
    fn chunk_rows(self) -> usize {
        if self.batch > CHUNK_ROWS { CHUNK_ROWS } else { self.batch.div_ceil(2).max(MIN_CHUNK_ROWS) }
    }
}

/// Weights of one layer; see [`super::lstm`] for the shapes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) w: &'a [f32],
    pub(super) r: &'a [f32],
    pub(super) b: &'a [f32],
}

/// Memory of earlier passes. Fresh memory of this size costs a page fault per 4 kB, every step anew.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
const MAX_POOLED: usize = 256;

/// Numbers in memory that is used again.
#[derive(Debug, Default)]
struct Buffer(Vec<f32>);

impl Buffer {
    /// `len` numbers of any value: all must be written before they are read.
    fn stale(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let place = pool.iter().position(|list| (len..=2 * len).contains(&list.capacity()));
        let mut list = place.map(|place| pool.swap_remove(place)).unwrap_or_default();
        drop(pool);
        list.resize(len, 0.0);
        Self(list)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < MAX_POOLED && self.0.capacity() > 0 {
            pool.push(std::mem::take(&mut self.0));
        }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// What the backward pass needs of one direction of one chunk; time first: `[steps, rows, ..]`.
#[derive(Debug)]
struct DirectionTape {
    /// Activated gates, `[steps, rows, 4 * hidden]`.
    gates: Buffer,
    /// Cell states, their `tanh`, and hidden states, `[steps, rows, hidden]` each.
    cells: Buffer,
    cell_tanhs: Buffer,
    hiddens: Buffer,
}

/// What the backward pass needs of a chunk of rows.
#[derive(Debug)]
pub(super) struct ChunkTape {
    rows: usize,
    /// The input, time first.
    x: Buffer,
    directions: Vec<DirectionTape>,
}

/// Gradients of a layer's weights and, where wanted, of its input.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) x: Option<Vec<f32>>,
    pub(super) w: Vec<f32>,
    pub(super) r: Vec<f32>,
    pub(super) b: Vec<f32>,
}

/// Runs a layer over `x` `[batch, steps, inputs]`; gives `[batch, steps, directions * hidden]`.
pub(super) fn forward(sizes: Sizes, x: &[f32], weights: Weights<'_>) -> (Vec<f32>, Vec<ChunkTape>) {
    let Sizes { batch, steps, inputs, hidden, directions } = sizes;
    let mut y = vec![0.0; batch * steps * directions * hidden];
    let rows = sizes.chunk_rows();
    let jobs = y.chunks_mut(rows * steps * directions * hidden).zip(x.chunks(rows * steps * inputs)).collect();
    let tapes = parallel(jobs, |(y, x): (&mut [f32], &[f32])| {
        let rows = x.len() / (steps * inputs);
        let x = time_first(x, rows, steps, inputs);
        let run = |direction| forward_direction(sizes, rows, &x, weights, direction);
        let directions: Vec<DirectionTape> = (0..directions).map(run).collect();
        for (place, tape) in directions.iter().enumerate() {
            for t in 0..steps {
                for row in 0..rows {
                    let from = (t * rows + row) * hidden;
                    let to = ((row * steps + t) * directions.len() + place) * hidden;
                    y[to..to + hidden].copy_from_slice(&tape.hiddens[from..from + hidden]);
                }
            }
        }
        ChunkTape { rows, x, directions }
    });
    (y, tapes)
}

/// `[rows, steps, width]` to `[steps, rows, width]`.
fn time_first(x: &[f32], rows: usize, steps: usize, width: usize) -> Buffer {
    let mut out = Buffer::stale(x.len());
    for t in 0..steps {
        for row in 0..rows {
            let (from, to) = ((row * steps + t) * width, (t * rows + row) * width);
            out[to..to + width].copy_from_slice(&x[from..from + width]);
        }
    }
    out
}

fn forward_direction(sizes: Sizes, rows: usize, x: &[f32], weights: Weights<'_>, direction: usize) -> DirectionTape {
    let Sizes { steps, inputs, hidden, .. } = sizes;
    let width = GATES * hidden;
    let w = &weights.w[direction * width * inputs..][..width * inputs];
    let r = &weights.r[direction * width * hidden..][..width * hidden];
    let b = &weights.b[direction * width..][..width];
    let mut gates = Buffer::stale(steps * rows * width);
    gates.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(b));
    // One large product for the input at all steps.
    product(steps * rows, inputs, width, Matrix::rows(x, inputs), Matrix::columns(w, inputs), &mut gates, true);
    let size = rows * hidden;
    let mut cells = Buffer::stale(steps * size);
    let mut cell_tanhs = Buffer::stale(steps * size);
    let mut hiddens = Buffer::stale(steps * size);
    let mut last = None;
    for step in 0..steps {
        let t = if direction == 0 { step } else { steps - 1 - step };
        let gates = &mut gates[t * rows * width..][..rows * width];
        let mut old_cells: &[f32] = &[];
        let (cells_before, cells_from) = cells.split_at_mut(t * size);
        let (cells, cells_after) = cells_from.split_at_mut(size);
        if let Some(last) = last {
            let last_hidden = &hiddens[last * size..][..size];
            product(rows, hidden, width, Matrix::rows(last_hidden, hidden), Matrix::columns(r, hidden), gates, true);
            old_cells = if direction == 0 { &cells_before[last * size..] } else { &cells_after[..size] };
        }
        activate(
            hidden,
            gates,
            old_cells,
            cells,
            &mut cell_tanhs[t * size..][..size],
            &mut hiddens[t * size..][..size],
        );
        last = Some(t);
    }
    DirectionTape { gates, cells, cell_tanhs, hiddens }
}

/// Gradients from `dy`, the gradient of the result.
pub(super) fn backward(
    sizes: Sizes,
    tapes: &[ChunkTape],
    weights: Weights<'_>,
    dy: &[f32],
    needs_x: bool,
) -> Gradients {
    let Sizes { batch, steps, inputs, hidden, directions } = sizes;
    let width = GATES * hidden;
    let rows = sizes.chunk_rows();
    let mut dx = if needs_x { vec![0.0; batch * steps * inputs] } else { Vec::new() };
    let mut dx_chunks: Vec<Option<&mut [f32]>> = if needs_x {
        dx.chunks_mut(rows * steps * inputs).map(Some).collect()
    } else {
        tapes.iter().map(|_| None).collect()
    };
    let jobs = tapes.iter().zip(dy.chunks(rows * steps * directions * hidden)).zip(dx_chunks.drain(..)).collect();
    let parts = parallel(jobs, |((tape, dy), dx): ((&ChunkTape, &[f32]), Option<&mut [f32]>)| {
        let rows = tape.rows;
        let mut part = Gradients {
            x: None,
            w: vec![0.0; directions * width * inputs],
            r: vec![0.0; directions * width * hidden],
            b: vec![0.0; directions * width],
        };
        let mut dx_time_first = dx.as_ref().map(|dx| Buffer::stale(dx.len()));
        for (direction, states) in tape.directions.iter().enumerate() {
            let dgates = backward_direction(sizes, rows, states, weights, dy, direction);
            // One large product each for the weights, the input and the state at all steps.
            let dw = &mut part.w[direction * width * inputs..][..width * inputs];
            let count = steps * rows;
            product(width, count, inputs, Matrix::columns(&dgates, width), Matrix::rows(&tape.x, inputs), dw, false);
            let (with_past, past) = if direction == 0 {
                (&dgates[rows * width..], &states.hiddens[..(steps - 1) * rows * hidden])
            } else {
                (&dgates[..(steps - 1) * rows * width], &states.hiddens[rows * hidden..])
            };
            let dr = &mut part.r[direction * width * hidden..][..width * hidden];
            let count = (steps - 1) * rows;
            product(width, count, hidden, Matrix::columns(with_past, width), Matrix::rows(past, hidden), dr, false);
            let db = &mut part.b[direction * width..][..width];
            for row in dgates.chunks_exact(width) {
                db.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            if let Some(dx) = &mut dx_time_first {
                let w = &weights.w[direction * width * inputs..][..width * inputs];
                let count = steps * rows;
                let (dgates, w) = (Matrix::rows(&dgates, width), Matrix::rows(w, inputs));
                product(count, width, inputs, dgates, w, dx, direction > 0);
            }
        }
        if let Some((dx, dx_time_first)) = dx.zip(dx_time_first) {
            for t in 0..steps {
                for row in 0..rows {
                    let (from, to) = ((t * rows + row) * inputs, (row * steps + t) * inputs);
                    dx[to..to + inputs].copy_from_slice(&dx_time_first[from..from + inputs]);
                }
            }
        }
        part
    });
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or(Gradients { x: None, w: Vec::new(), r: Vec::new(), b: Vec::new() });
    for part in parts {
        for (sums, values) in [(&mut total.w, part.w), (&mut total.r, part.r), (&mut total.b, part.b)] {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }
    total.x = needs_x.then_some(dx);
    total
}

/// Gradient of the gates before activation, `[steps, rows, 4 * hidden]`.
fn backward_direction(
    sizes: Sizes,
    rows: usize,
    tape: &DirectionTape,
    weights: Weights<'_>,
    dy: &[f32],
    direction: usize,
) -> Buffer {
    let Sizes { steps, hidden, directions, .. } = sizes;
    let width = GATES * hidden;
    let size = rows * hidden;
    let r = &weights.r[direction * width * hidden..][..width * hidden];
    let mut dgates = Buffer::stale(steps * rows * width);
    let mut dhidden = vec![0.0; size];
    let mut dcell = vec![0.0; size];
    for step in (0..steps).rev() {
        let (t, before) = if direction == 0 {
            (step, step.checked_sub(1))
        } else {
            let t = steps - 1 - step;
            (t, (t + 1 < steps).then_some(t + 1))
        };
        for row in 0..rows {
            let from = ((row * steps + t) * directions + direction) * hidden;
            let dy = &dy[from..from + hidden];
            dhidden[row * hidden..][..hidden].iter_mut().zip(dy).for_each(|(sum, value)| *sum += value);
        }
        let old_cells = before.map_or(&[][..], |before| &tape.cells[before * size..][..size]);
        let dgates = &mut dgates[t * rows * width..][..rows * width];
        deactivate(
            hidden,
            &tape.gates[t * rows * width..][..rows * width],
            old_cells,
            &tape.cell_tanhs[t * size..][..size],
            &dhidden,
            &mut dcell,
            dgates,
        );
        if before.is_some() {
            // One small product for the hidden state of the step before.
            let (dgates, r) = (Matrix::rows(dgates, width), Matrix::rows(r, hidden));
            product(rows, width, hidden, dgates, r, &mut dhidden, false);
        }
    }
    dgates
}

/// Activates the gates in place and makes cells, their `tanh` and hidden states of all rows; no `old_cells` are zeros.
fn activate(hidden: usize, gates: &mut [f32], old: &[f32], cells: &mut [f32], tanhs: &mut [f32], hiddens: &mut [f32]) {
    #[inline(always)]
    fn body(hidden: usize, gates: &mut [f32], old: &[f32], cells: &mut [f32], tanhs: &mut [f32], hiddens: &mut [f32]) {
        let rows = gates.chunks_exact_mut(GATES * hidden).zip(cells.chunks_exact_mut(hidden));
        let states = tanhs.chunks_exact_mut(hidden).zip(hiddens.chunks_exact_mut(hidden));
        for (row, ((gates, cells), (tanhs, hiddens))) in rows.zip(states).enumerate() {
            let (input, rest) = gates.split_at_mut(hidden);
            let (output, rest) = rest.split_at_mut(hidden);
            let (forget, cell) = rest.split_at_mut(hidden);
            input.iter_mut().for_each(|x| *x = sigmoid(*x));
            output.iter_mut().for_each(|x| *x = sigmoid(*x));
            forget.iter_mut().for_each(|x| *x = sigmoid(*x));
            cell.iter_mut().for_each(|x| *x = tanh(*x));
            for (c, (i, g)) in cells.iter_mut().zip(input.iter().zip(&*cell)) {
                *c = i * g;
            }
            if let Some(old) = old.get(row * hidden..(row + 1) * hidden) {
                for (c, (f, old)) in cells.iter_mut().zip(forget.iter().zip(old)) {
                    *c += f * old;
                }
            }
            for ((c, h), (t, o)) in cells.iter().zip(hiddens).zip(tanhs.iter_mut().zip(&*output)) {
                *t = tanh(*c);
                *h = o * *t;
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(h: usize, g: &mut [f32], old: &[f32], c: &mut [f32], t: &mut [f32], y: &mut [f32]) {
            body(h, g, old, c, t, y);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, which is all that the function asks for.
            unsafe { avx2(hidden, gates, old, cells, tanhs, hiddens) };
            return;
        }
    }
    body(hidden, gates, old, cells, tanhs, hiddens);
}

/// Gradients of the gates before activation from that of the hidden states; `dcell` is that of the cells, and becomes
/// that of the cells of the step before.
fn deactivate(
    hidden: usize,
    gates: &[f32],
    old: &[f32],
    tanhs: &[f32],
    dhidden: &[f32],
    dcell: &mut [f32],
    dgates: &mut [f32],
) {
    #[inline(always)]
    fn body(
        hidden: usize,
        gates: &[f32],
        old: &[f32],
        tanhs: &[f32],
        dhidden: &[f32],
        dcell: &mut [f32],
        dgates: &mut [f32],
    ) {
        let rows = gates.chunks_exact(GATES * hidden).zip(dgates.chunks_exact_mut(GATES * hidden));
        for (row, (gates, dgates)) in rows.enumerate() {
            let place = row * hidden..(row + 1) * hidden;
            let (tanhs, dhidden, dcell) = (&tanhs[place.clone()], &dhidden[place.clone()], &mut dcell[place.clone()]);
            let (input, rest) = gates.split_at(hidden);
            let (output, rest) = rest.split_at(hidden);
            let (forget, cell) = rest.split_at(hidden);
            let (dinput, rest) = dgates.split_at_mut(hidden);
            let (doutput, rest) = rest.split_at_mut(hidden);
            let (dforget, dnew) = rest.split_at_mut(hidden);
            for j in 0..hidden {
                let dc = dcell[j] + dhidden[j] * output[j] * (1.0 - tanhs[j] * tanhs[j]);
                doutput[j] = dhidden[j] * tanhs[j] * output[j] * (1.0 - output[j]);
                dinput[j] = dc * cell[j] * input[j] * (1.0 - input[j]);
                dnew[j] = dc * input[j] * (1.0 - cell[j] * cell[j]);
                dforget[j] = dc * forget[j] * (1.0 - forget[j]);
                dcell[j] = dc * forget[j];
            }
            match old.get(place) {
                Some(old) => dforget.iter_mut().zip(old).for_each(|(d, old)| *d *= old),
                None => dforget.fill(0.0),
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(h: usize, g: &[f32], old: &[f32], t: &[f32], dh: &[f32], dc: &mut [f32], dg: &mut [f32]) {
            body(h, g, old, t, dh, dc, dg);
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, which is all that the function asks for.
            unsafe { avx2(hidden, gates, old, tanhs, dhidden, dcell, dgates) };
            return;
        }
    }
    body(hidden, gates, old, tanhs, dhidden, dcell, dgates);
}

/// A matrix in a slice, by the distances of rows and columns.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `width` numbers one after the other.
    fn rows(data: &'a [f32], width: usize) -> Self {
        Self { data, row_stride: width, column_stride: 1 }
    }

    /// Columns of `height` numbers one after the other: the transpose of [`Matrix::rows`].
    fn columns(data: &'a [f32], height: usize) -> Self {
        Self { data, row_stride: 1, column_stride: height }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows.max(1) - 1) * self.row_stride + (columns.max(1) - 1) * self.column_stride < self.data.len()
    }
}

/// `out = a * b`, or `out += a * b`, on one thread; `a` `[m, k]`, `b` `[k, n]`, `out` `[m, n]` in rows.
fn product(m: usize, k: usize, n: usize, a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], add: bool) {
    assert_eq!(out.len(), m * n, "size of a product");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            out.fill(0.0);
        }
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "sizes of factors");
    // SAFETY: the strides stay inside the slices for these sizes, as was just asserted; `out` is borrowed mutably, so it
    // overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

static NUM_THREADS: AtomicUsize = AtomicUsize::new(0);

/// Sets how many threads the LSTM uses from now on in this process; 0 for as many as there are cores.
pub fn set_num_threads(count: usize) {
    NUM_THREADS.store(count, Ordering::Relaxed);
}

fn num_threads() -> usize {
    match NUM_THREADS.load(Ordering::Relaxed) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// Does the jobs on several threads; results in the order of the jobs.
fn parallel<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let num_threads = num_threads().min(jobs.len());
    if num_threads <= 1 {
        return jobs.into_iter().map(work).collect();
    }
    let jobs: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<Mutex<Option<R>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some((job, result)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index).zip(results.get(index))
        } {
            let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
            *result.lock().unwrap_or_else(PoisonError::into_inner) = job.map(&work);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..num_threads {
            scope.spawn(worker);
        }
        worker();
    });
    results.into_iter().filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
