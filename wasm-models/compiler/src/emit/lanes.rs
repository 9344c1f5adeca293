//! Comparisons, masks, integers and 64-bit floats in the lanes of a vector.

use super::{At, F32x4, F64, F64x2, Func, I32, I32x4, I64x2, Local};

impl F32x4 {
    /// The same bits as integers or masks.
    pub(crate) fn bits(self) -> I32x4 {
        I32x4(self.0)
    }
}

impl I32x4 {
    /// The same bits as floats.
    pub(crate) fn floats(self) -> F32x4 {
        F32x4(self.0)
    }
}

impl F64x2 {
    /// The same bits as integers or masks.
    pub(crate) fn bits(self) -> I64x2 {
        I64x2(self.0)
    }
}

impl I64x2 {
    /// The same bits as floats.
    pub(crate) fn floats(self) -> F64x2 {
        F64x2(self.0)
    }
}

macro_rules! one {
    ($($name:ident($from:ty) -> $to:ty: $instruction:ident, $doc:literal;)*) => {
        impl Func {$(
            #[doc = $doc]
            pub(crate) fn $name(&mut self, x: $from) -> $to {
                self.op1(x, |s| {
                    s.$instruction();
                })
            }
        )*}
    };
}

macro_rules! two {
    ($($name:ident($a:ty, $b:ty) -> $to:ty: $instruction:ident, $doc:literal;)*) => {
        impl Func {$(
            #[doc = $doc]
            pub(crate) fn $name(&mut self, a: $a, b: $b) -> $to {
                self.op2(a, b, |s| {
                    s.$instruction();
                })
            }
        )*}
    };
}

one! {
    neg(F32x4) -> F32x4: f32x4_neg, "`-x`.";
    abs(F32x4) -> F32x4: f32x4_abs, "`|x|`.";
    sqrt(F32x4) -> F32x4: f32x4_sqrt, "The square root.";
    floor(F32x4) -> F32x4: f32x4_floor, "The largest integer that is not larger.";
    ceil(F32x4) -> F32x4: f32x4_ceil, "The smallest integer that is not smaller.";
    nearest(F32x4) -> F32x4: f32x4_nearest, "The nearest integer, the even one of two.";
    floats_of(I32x4) -> F32x4: f32x4_convert_i32x4_s, "As floats.";
    not(I32x4) -> I32x4: v128_not, "Where it does not hold.";
    first_two(F32x4) -> F64x2: f64x2_promote_low_f32x4, "The first two with 64 bits.";
    narrowed(F64x2) -> F32x4: f32x4_demote_f64x2_zero, "With 32 bits, then two zeros.";
    splat_f64(F64) -> F64x2: f64x2_splat, "A number twice.";
    nearest_f64x2(F64x2) -> F64x2: f64x2_nearest, "The nearest integer, the even one of two.";
    trunc_f64x2(F64x2) -> F64x2: f64x2_trunc, "Cut towards zero.";
    floor_f64x2(F64x2) -> F64x2: f64x2_floor, "The largest integer that is not larger.";
    abs_f64x2(F64x2) -> F64x2: f64x2_abs, "`|x|`.";
    neg_f64x2(F64x2) -> F64x2: f64x2_neg, "`-x`.";
}

two! {
    equal(F32x4, F32x4) -> I32x4: f32x4_eq, "`a == b`.";
    not_equal(F32x4, F32x4) -> I32x4: f32x4_ne, "`a != b`, also where one is NaN.";
    less(F32x4, F32x4) -> I32x4: f32x4_lt, "`a < b`.";
    less_or_equal(F32x4, F32x4) -> I32x4: f32x4_le, "`a <= b`.";
    and(I32x4, I32x4) -> I32x4: v128_and, "The bits of both.";
    or(I32x4, I32x4) -> I32x4: v128_or, "The bits of either.";
    xor(I32x4, I32x4) -> I32x4: v128_xor, "The bits of one alone.";
    add_i32x4(I32x4, I32x4) -> I32x4: i32x4_add, "`a + b`.";
    sub_i32x4(I32x4, I32x4) -> I32x4: i32x4_sub, "`a - b`.";
    add_f64x2(F64x2, F64x2) -> F64x2: f64x2_add, "`a + b`.";
    sub_f64x2(F64x2, F64x2) -> F64x2: f64x2_sub, "`a - b`.";
    mul_f64x2(F64x2, F64x2) -> F64x2: f64x2_mul, "`a * b`.";
    div_f64x2(F64x2, F64x2) -> F64x2: f64x2_div, "`a / b`.";
    pmin_f64x2(F64x2, F64x2) -> F64x2: f64x2_pmin, "`b < a ? b : a`.";
    pmax_f64x2(F64x2, F64x2) -> F64x2: f64x2_pmax, "`a < b ? b : a`.";
    equal_f64x2(F64x2, F64x2) -> I64x2: f64x2_eq, "`a == b`.";
    less_f64x2(F64x2, F64x2) -> I64x2: f64x2_lt, "`a < b`.";
    add_i64x2(I64x2, I64x2) -> I64x2: i64x2_add, "`a + b`.";
    sub_i64x2(I64x2, I64x2) -> I64x2: i64x2_sub, "`a - b`.";
}

impl Func {
    /// Set in the first `count` lanes.
    pub(crate) fn first_lanes(&mut self, count: usize) -> I32x4 {
        self.v128_const(std::array::from_fn(|lane| if lane < count { u32::MAX } else { 0 }));
        self.take()
    }

    /// The same number twice.
    pub(crate) fn splat_f64_const(&mut self, value: f64) -> F64x2 {
        let bits = u128::from(value.to_bits());
        self.sink().v128_const((bits << 64 | bits).cast_signed());
        self.take()
    }

    /// `yes` where the mask is set, else `no`.
    pub(crate) fn select_f64x2(&mut self, mask: I64x2, yes: F64x2, no: F64x2) -> F64x2 {
        self.get(yes);
        self.get(no);
        self.get(mask);
        self.sink().v128_bitselect();
        self.take()
    }

    /// Shifts the bits of four integers to the left.
    pub(crate) fn shift_left(&mut self, x: I32x4, bits: i32) -> I32x4 {
        self.get(x);
        self.sink().i32_const(bits).i32x4_shl();
        self.take()
    }

    /// Shifts the bits of four integers to the right; the sign is kept.
    pub(crate) fn shift_right(&mut self, x: I32x4, bits: i32) -> I32x4 {
        self.get(x);
        self.sink().i32_const(bits).i32x4_shr_s();
        self.take()
    }

    /// Shifts the bits of two integers to the left.
    pub(crate) fn shift_left_i64x2(&mut self, x: I64x2, bits: i32) -> I64x2 {
        self.get(x);
        self.sink().i32_const(bits).i64x2_shl();
        self.take()
    }

    /// Shifts the bits of two integers to the right; the sign is kept.
    pub(crate) fn shift_right_i64x2(&mut self, x: I64x2, bits: i32) -> I64x2 {
        self.get(x);
        self.sink().i32_const(bits).i64x2_shr_s();
        self.take()
    }

    /// The low halves of `a` and `b`, or their high halves.
    pub(crate) fn halves<T: Local>(&mut self, a: T, b: T, high: [bool; 2]) -> T {
        let lanes = std::array::from_fn(|i| (i % 8 + 8 * usize::from(high[i / 8]) + 16 * (i / 8)) as u8);
        self.op2(a, b, |s| {
            s.i8x16_shuffle(lanes);
        })
    }

    /// Loads a float into each lane from its own place.
    pub(crate) fn gather_f32x4(&mut self, places: [At; 4]) -> F32x4 {
        let place = self.place(places[0], 2);
        self.sink().v128_load32_zero(place);
        let lanes: F32x4 = self.take();
        for (lane, at) in places.into_iter().enumerate().skip(1) {
            self.load_lane(lanes, lane as u8, at);
        }
        lanes
    }

    /// Loads four bytes, each 0 or 1, as masks.
    pub(crate) fn load_masks(&mut self, at: At) -> I32x4 {
        let place = self.place(at, 0);
        self.sink().v128_load32_zero(place).i16x8_extend_low_i8x16_s().i32x4_extend_low_i16x8_s().i32x4_neg();
        self.take()
    }

    /// Loads bytes, each 0 or 1, as masks: one for each of `places`, at most four; the lanes behind are not set.
    pub(crate) fn gather_masks(&mut self, places: &[At]) -> I32x4 {
        let lanes = self.splat_i32(0);
        for (lane, &at) in places.iter().enumerate() {
            self.get(lanes);
            let place = self.place(at, 0);
            self.sink().i32_load8_u(place).i32x4_replace_lane(lane as u8).local_set(lanes.0);
        }
        self.get(lanes);
        self.sink().i32x4_neg().local_set(lanes.0);
        lanes
    }

    /// Stores the first `count` (1 to 4) of four masks as bytes, each 0 or 1.
    pub(crate) fn store_masks(&mut self, at: At, masks: I32x4, count: usize) {
        let zero = self.splat_i32(0);
        let bytes: I32x4 = self.op1(masks, |s| {
            s.i32x4_neg();
        });
        let bytes: I32x4 = self.op2(bytes, zero, |s| {
            s.i16x8_narrow_i32x4_s();
        });
        let bytes: I32x4 = self.op2(bytes, zero, |s| {
            s.i8x16_narrow_i16x8_s();
        });
        if count >= 4 {
            let place = self.place(at, 0);
            self.get(bytes);
            self.sink().v128_store32_lane(place, 0);
            return;
        }
        for lane in 0..count {
            let place = self.place(at.plus(lane as u32), 0);
            self.get(bytes);
            self.sink().v128_store8_lane(place, lane as u8);
        }
    }

    /// The first of four masks: 1 where it is set, else 0.
    pub(crate) fn first_mask(&mut self, masks: I32x4) -> I32 {
        self.get(masks);
        self.sink().i32x4_extract_lane(0).i32_const(1).i32_and();
        self.take()
    }

    /// Four masks that are set where `condition` is not 0.
    pub(crate) fn splat_mask(&mut self, condition: I32) -> I32x4 {
        self.get(condition);
        self.sink().i32x4_splat().i32_const(0).i32x4_splat().i32x4_ne();
        self.take()
    }
}
