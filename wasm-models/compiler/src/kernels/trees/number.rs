//! What the kernel does with one number or with four.

use wasm_encoder::MemArg;

use crate::emit::{At, F32, F32x4, F64, Func, I32x4, Local};
use crate::ir::DType;

/// A float, a 64-bit float, or four floats.
pub(super) trait Number: Local {
    const BYTES: usize;
    const DTYPE: DType;

    fn load(f: &mut Func, at: At) -> Self;
    fn load_on_stack(f: &mut Func, place: MemArg);
    fn less_or_equal_on_stack(f: &mut Func);
    /// The first `lanes` numbers of it.
    fn store(self, f: &mut Func, at: At, lanes: usize);
    fn constant(f: &mut Func, value: f64) -> Self;
    fn add(self, f: &mut Func, other: Self) -> Self;
    fn divide(self, f: &mut Func, other: Self) -> Self;
    fn smaller(self, f: &mut Func, other: Self) -> Self;
    fn larger(self, f: &mut Func, other: Self) -> Self;
    /// 0 instead of an infinity.
    fn finite_or_zero(self, f: &mut Func) -> Self;
    /// Another number instead of NaN.
    fn unless_nan(self, f: &mut Func, other: Self) -> Self;
}

macro_rules! scalar {
    ($name:ident, $bytes:expr, $constant:ident, $load:ident, $store:ident, $const:ident,
     $add:ident, $div:ident, $lt:ident, $le:ident, $eq:ident, $abs:ident, $zero:expr, $infinity:expr) => {
        impl Number for $name {
            const BYTES: usize = $bytes;
            const DTYPE: DType = DType::$name;

            fn load(f: &mut Func, at: At) -> Self {
                let place = f.place(at, 2);
                f.sink().$load(place);
                f.take()
            }

            fn load_on_stack(f: &mut Func, place: MemArg) {
                f.sink().$load(place);
            }

            fn less_or_equal_on_stack(f: &mut Func) {
                f.sink().$le();
            }

            fn store(self, f: &mut Func, at: At, _lanes: usize) {
                let place = f.place(at, 2);
                f.get(self);
                f.sink().$store(place);
            }

            fn constant(f: &mut Func, value: f64) -> Self {
                f.$constant(value as _)
            }

            fn add(self, f: &mut Func, other: Self) -> Self {
                f.op2(self, other, |s| {
                    s.$add();
                })
            }

            fn divide(self, f: &mut Func, other: Self) -> Self {
                f.op2(self, other, |s| {
                    s.$div();
                })
            }

            fn smaller(self, f: &mut Func, other: Self) -> Self {
                f.get(other);
                f.get(self);
                f.op2(other, self, |s| {
                    s.$lt().select();
                })
            }

            fn larger(self, f: &mut Func, other: Self) -> Self {
                f.get(other);
                f.get(self);
                f.op2(self, other, |s| {
                    s.$lt().select();
                })
            }

            fn finite_or_zero(self, f: &mut Func) -> Self {
                f.sink().$const($zero);
                f.get(self);
                f.op1(self, |s| {
                    s.$abs().$const($infinity).$eq().select();
                })
            }

            fn unless_nan(self, f: &mut Func, other: Self) -> Self {
                f.get(self);
                f.get(other);
                f.op2(self, self, |s| {
                    s.$eq().select();
                })
            }
        }
    };
}

scalar!(
    F32,
    4,
    f32,
    f32_load,
    f32_store,
    f32_const,
    f32_add,
    f32_div,
    f32_lt,
    f32_le,
    f32_eq,
    f32_abs,
    0f32.into(),
    f32::INFINITY.into()
);
scalar!(
    F64,
    8,
    f64,
    f64_load,
    f64_store,
    f64_const,
    f64_add,
    f64_div,
    f64_lt,
    f64_le,
    f64_eq,
    f64_abs,
    0f64.into(),
    f64::INFINITY.into()
);

impl Number for F32x4 {
    const BYTES: usize = 16;
    const DTYPE: DType = DType::F32;

    fn load(f: &mut Func, at: At) -> Self {
        f.load_f32x4(at)
    }

    fn load_on_stack(f: &mut Func, place: MemArg) {
        f.sink().v128_load(place);
    }

    fn less_or_equal_on_stack(f: &mut Func) {
        f.sink().f32x4_le();
    }

    fn store(self, f: &mut Func, at: At, lanes: usize) {
        f.store_lanes(at, self, lanes);
    }

    fn constant(f: &mut Func, value: f64) -> Self {
        f.splat(value as f32)
    }

    fn add(self, f: &mut Func, other: Self) -> Self {
        f.add(self, other)
    }

    fn divide(self, f: &mut Func, other: Self) -> Self {
        f.div(self, other)
    }

    fn smaller(self, f: &mut Func, other: Self) -> Self {
        f.pmin(self, other)
    }

    fn larger(self, f: &mut Func, other: Self) -> Self {
        f.pmax(self, other)
    }

    fn finite_or_zero(self, f: &mut Func) -> Self {
        let infinity = f.splat(f32::INFINITY);
        let size: Self = f.op1(self, |s| {
            s.f32x4_abs();
        });
        f.get(self);
        f.op2(size, infinity, |s| {
            s.f32x4_eq().v128_andnot();
        })
    }

    fn unless_nan(self, f: &mut Func, other: Self) -> Self {
        let is_number: I32x4 = f.op2(self, self, |s| {
            s.f32x4_eq();
        });
        f.select(is_number, self, other)
    }
}
