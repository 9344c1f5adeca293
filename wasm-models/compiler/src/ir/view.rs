//! What views of views touch.

use super::{Operand, row_major};

/// The elements of a view as digits of a row-major index: digit `j` of element `i` is `start[j]` plus, for each part, its index
/// times `steps[j]`. No digit ever carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digits {
    pub(crate) start: Vec<usize>,
    pub(crate) parts: Vec<Part>,
}

/// A dimension of a view, or a factor of one: its index is `i[axis] / minor % size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) axis: usize,
    pub(crate) minor: usize,
    pub(crate) size: usize,
    pub(crate) steps: Vec<isize>,
}

fn digits_of(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut digits = vec![0; shape.len()];
    for (digit, &size) in digits.iter_mut().zip(shape).rev() {
        *digit = index % size.max(1);
        index /= size.max(1);
    }
    digits
}

impl Operand {
    /// How the view walks over the row-major index of `shape`, which has as many elements as the value. `None` where a dimension
    /// of the view wraps around one of the shape without being a multiple of it, and for empty views.
    pub(crate) fn digits(&self, shape: &[usize]) -> Option<Digits> {
        if self.is_empty() {
            return None;
        }
        let weights = row_major(shape);
        let start = digits_of(self.offset, shape);
        let mut parts = Vec::new();
        for (axis, (&size, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            if size == 1 || stride == 0 {
                continue;
            }
            let (mut rest, mut step, mut minor) = (size, stride.unsigned_abs(), 1);
            loop {
                let digit = (0..shape.len()).find(|&j| shape[j] > 1 && weights[j].unsigned_abs() <= step)?;
                let span = weights[digit].unsigned_abs() * shape[digit];
                let wraps = (rest - 1).checked_mul(step)? >= span;
                if wraps && (!span.is_multiple_of(step) || rest % (span / step) != 0) {
                    return None;
                }
                let size = if wraps { span / step } else { rest };
                let steps = digits_of(step, shape).into_iter().map(|x| x as isize * stride.signum()).collect();
                parts.push(Part { axis, minor, size, steps });
                (rest, minor) = (rest / size, minor * size);
                if rest == 1 {
                    break;
                }
                step = span;
            }
        }
        let inside = (0..shape.len()).all(|j| {
            let ends = parts.iter().map(|part| (part.size as isize - 1) * part.steps[j]);
            let (low, high) = ends.fold((0, 0), |(low, high), end| (low + end.min(0), high + end.max(0)));
            let start = start[j] as isize;
            start + low >= 0 && start + high < shape[j] as isize
        });
        inside.then_some(Digits { start, parts })
    }

    /// With other dimensions of together the same size in the place of a dimension, which steps evenly.
    pub(crate) fn reshaped_axis(&self, axis: usize, shape: &[usize]) -> Option<Self> {
        if self.shape[axis] != shape.iter().product::<usize>() {
            return None;
        }
        let mut view = self.clone();
        let step = view.strides[axis];
        view.shape.splice(axis..=axis, shape.iter().copied());
        view.strides.splice(axis..=axis, row_major(shape).into_iter().map(|stride| stride * step));
        Some(view)
    }

    /// This view of a value whose elements are those of `inner` (of the value's shape), as a view of what `inner` reads. `None`
    /// where strides cannot say it.
    pub(crate) fn composed(&self, inner: &Self) -> Option<Self> {
        let mut view =
            Self { value: inner.value, offset: inner.offset, shape: self.shape.clone(), strides: vec![0; self.rank()] };
        if self.is_empty() {
            return Some(view);
        }
        // Dimensions that follow one another are one.
        let (mut shape, mut strides) = (Vec::<usize>::new(), Vec::<isize>::new());
        for (&size, &stride) in inner.shape.iter().zip(&inner.strides).filter(|(size, _)| **size != 1) {
            match (shape.last_mut(), strides.last_mut()) {
                (Some(total), Some(last)) if *last == stride * size as isize => {
                    *total *= size;
                    *last = stride;
                }
                _ => {
                    shape.push(size);
                    strides.push(stride);
                }
            }
        }
        let digits = self.digits(&shape)?;
        let dot = |steps: &[isize]| steps.iter().zip(&strides).map(|(a, b)| a * b).sum::<isize>();
        view.offset =
            view.offset.checked_add_signed(digits.start.iter().zip(&strides).map(|(a, b)| *a as isize * b).sum())?;
        view.strides = digits.merged(self.rank(), |part| dot(&part.steps))?;
        Some(view)
    }
}

impl Digits {
    /// The strides of a view whose parts have the given strides; `None` where the parts of a dimension do not follow one another.
    pub(crate) fn merged(&self, rank: usize, stride: impl Fn(&Part) -> isize) -> Option<Vec<isize>> {
        let mut strides = vec![0; rank];
        for part in &self.parts {
            let step = stride(part);
            if part.minor == 1 {
                strides[part.axis] = step;
            } else if strides[part.axis] * part.minor as isize != step {
                return None;
            }
        }
        Some(strides)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::ValueId;

    #[test]
    fn a_dimension_that_merges_two_has_two_parts() {
        let view = Operand::whole(ValueId(0), &[12, 5]);
        let digits = view.digits(&[3, 4, 5]).expect("digits");
        let parts: Vec<_> = digits.parts.iter().map(|p| (p.axis, p.minor, p.size, p.steps.clone())).collect();
        assert_eq!(parts, [(0, 1, 4, vec![0, 1, 0]), (0, 4, 3, vec![1, 0, 0]), (1, 1, 5, vec![0, 0, 1])]);
        // Every third row, wrapping.
        assert_eq!(view.sliced(0, 0, 3, 4).digits(&[3, 4, 5]), None);
    }

    fn random_view(base: Operand) -> impl Strategy<Value = Operand> {
        let steps = prop::collection::vec(
            (0usize..4, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
            0..4,
        );
        steps.prop_map(move |steps| {
            let mut view = base.clone();
            for (kind, a, b, flag) in steps {
                let rank = view.rank();
                match kind {
                    0 if rank > 1 => {
                        let mut order: Vec<usize> = (0..rank).collect();
                        order.swap(a.index(rank), b.index(rank));
                        view = view.transposed(&order);
                    }
                    1 if rank > 0 => {
                        let axis = a.index(rank);
                        let size = view.shape[axis];
                        let start = b.index(size);
                        let (step, count) = if flag { (-1, start + 1) } else { (2, (size - start).div_ceil(2)) };
                        view = view.sliced(axis, start, step, count);
                    }
                    2 => {
                        let mut shape = view.shape.clone();
                        shape.insert(0, 2);
                        view = view.broadcast(&shape).unwrap_or(view);
                    }
                    3 if rank > 1 => {
                        let mut shape = view.shape.clone();
                        let axis = a.index(rank - 1);
                        shape[axis] *= shape.remove(axis + 1);
                        view = view.reshaped(&shape).unwrap_or(view);
                    }
                    _ => {}
                }
            }
            view
        })
    }

    fn two_views() -> impl Strategy<Value = (Operand, Operand)> {
        let inner = random_view(Operand::whole(ValueId(0), &[3, 4, 5]));
        inner.prop_flat_map(|inner| {
            let outer = random_view(Operand::whole(ValueId(1), &inner.shape));
            (Just(inner), outer)
        })
    }

    proptest! {
        #[test]
        fn a_composed_view_reads_what_both_views_read((inner, outer) in two_views()) {
            let through: Vec<usize> = inner.positions().collect();
            if let Some(view) = outer.composed(&inner) {
                let expected: Vec<usize> = outer.positions().map(|at| through[at]).collect();
                prop_assert_eq!(view.positions().collect::<Vec<_>>(), expected);
            } else {
                // Of a contiguous value, every view is one.
                prop_assert!(!inner.is_contiguous());
            }
        }

        #[test]
        fn digits_are_those_of_every_element((shape, view) in two_views()) {
            let shape = shape.shape;
            if let Some(digits) = view.digits(&shape) {
                let rank = view.rank();
                for (flat, at) in view.positions().enumerate() {
                    let index = digits_of(flat, &view.shape);
                    let found: Vec<usize> = (0..shape.len()).map(|j| {
                        let moved: isize = digits.parts.iter().map(|p| (index[p.axis] / p.minor % p.size) as isize * p.steps[j]).sum();
                        digits.start[j].wrapping_add_signed(moved)
                    }).collect();
                    prop_assert_eq!(&found, &digits_of(at, &shape), "{} of rank {}", flat, rank);
                }
            }
        }
    }
}
