//! Writes the code of a function: typed locals, loops, loads and stores, four floats at a time.
//!
//! A handle ([`I32`], [`F32`], [`F32x4`] ...) names a local. Every operation puts its result into a fresh local, or, by the `set`
//! methods, into a given one: the engines' compilers turn locals into registers, so nothing is lost by naming everything. Inside
//! [`Func::scope`] (and so inside every loop body) locals are given back at the end and taken again.

mod lanes;

use wasm_encoder::{BlockType, InstructionSink, MemArg, ValType};

use crate::Variant;

/// A local of a known type.
pub(crate) trait Local: Copy {
    const TYPE: ValType;
    fn of(index: u32) -> Self;
    fn index(self) -> u32;
}

macro_rules! locals {
    ($($(#[$doc:meta])* $name:ident: $kind:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(u32);

        impl Local for $name {
            const TYPE: ValType = $kind;
            fn of(index: u32) -> Self {
                Self(index)
            }
            fn index(self) -> u32 {
                self.0
            }
        }
    )*};
}

locals! {
    /// A 32-bit integer: a counter, an address, a condition.
    I32: ValType::I32;
    /// A 64-bit integer.
    I64: ValType::I64;
    /// A float.
    F32: ValType::F32;
    /// A 64-bit float.
    F64: ValType::F64;
    /// Four floats.
    F32x4: ValType::V128;
    /// Four 32-bit integers, or four masks (all bits set where a condition holds).
    I32x4: ValType::V128;
    /// Two 64-bit floats.
    F64x2: ValType::V128;
    /// Two 64-bit integers, or two masks.
    I64x2: ValType::V128;
}

/// A place in memory: the bytes from `base + offset` on. The sum may not pass 4 GiB, and `base` may not be negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    base: Option<I32>,
    offset: u32,
}

impl At {
    /// An address that is known now.
    pub(crate) fn fixed(address: u32) -> Self {
        Self { base: None, offset: address }
    }

    /// Some bytes behind an address in a local.
    pub(crate) fn from(base: I32, offset: u32) -> Self {
        Self { base: Some(base), offset }
    }

    /// Some bytes further on.
    pub(crate) fn plus(self, bytes: u32) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

/// A function being written.
#[derive(Debug)]
pub(crate) struct Func {
    num_params: u32,
    locals: Vec<ValType>,
    free: Vec<u32>,
    /// Locals that were taken in the scopes that are open.
    taken: Vec<Vec<u32>>,
    code: Vec<u8>,
    variant: Variant,
    /// Blocks, loops and conditions that are open.
    depth: u32,
    /// Depth of the innermost [`Func::fenced`], and its local that is 0.
    fence: Option<(u32, I32)>,
}

impl Func {
    /// Starts a function.
    pub(crate) fn new(params: &[ValType], variant: Variant) -> Self {
        let locals = params.to_vec();
        Self {
            num_params: params.len() as u32,
            locals,
            free: Vec::new(),
            taken: Vec::new(),
            code: Vec::new(),
            variant,
            depth: 0,
            fence: None,
        }
    }

    /// A parameter.
    pub(crate) fn param<T: Local>(&self, index: u32) -> T {
        debug_assert!(self.locals[index as usize] == T::TYPE, "a parameter of another type");
        T::of(index)
    }

    /// The body, complete.
    pub(crate) fn finish(mut self) -> wasm_encoder::Function {
        self.sink().end();
        let locals = self.locals[self.num_params as usize..].iter().copied();
        let mut function = wasm_encoder::Function::new_with_locals_types(locals);
        function.raw(self.code);
        function
    }

    /// Instructions that nothing here has a name for.
    pub(crate) fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    /// Which instructions may be used.
    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    // Locals.

    /// A local, its value undefined. It is given back at the end of the innermost scope.
    pub(crate) fn local<T: Local>(&mut self) -> T {
        let found = self.free.iter().rposition(|&index| self.locals[index as usize] == T::TYPE);
        let index = match found {
            Some(place) => self.free.swap_remove(place),
            None => {
                self.locals.push(T::TYPE);
                self.locals.len() as u32 - 1
            }
        };
        if let Some(scope) = self.taken.last_mut() {
            scope.push(index);
        }
        T::of(index)
    }

    /// Gives back all locals that `body` takes.
    pub(crate) fn scope<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R {
        self.taken.push(Vec::new());
        let result = body(self);
        let taken = self.taken.pop().unwrap_or_default();
        self.free.extend(taken.into_iter().rev());
        result
    }

    /// Puts `local` on the stack.
    pub(crate) fn get(&mut self, local: impl Local) {
        self.sink().local_get(local.index());
    }

    /// Takes the top of the stack.
    pub(crate) fn take<T: Local>(&mut self) -> T {
        let local = self.local::<T>();
        self.sink().local_set(local.index());
        local
    }

    /// Changes a local.
    pub(crate) fn set<T: Local>(&mut self, target: T, from: T) {
        self.sink().local_get(from.index()).local_set(target.index());
    }

    /// A copy that can be changed on its own.
    pub(crate) fn copy<T: Local>(&mut self, from: T) -> T {
        self.get(from);
        self.take()
    }

    /// An operation on one local.
    pub(crate) fn op1<R: Local>(&mut self, a: impl Local, op: impl FnOnce(&mut InstructionSink<'_>)) -> R {
        self.get(a);
        op(&mut self.sink());
        self.take()
    }

    /// An operation on two locals.
    pub(crate) fn op2<R: Local>(
        &mut self,
        a: impl Local,
        b: impl Local,
        op: impl FnOnce(&mut InstructionSink<'_>),
    ) -> R {
        self.get(a);
        self.get(b);
        op(&mut self.sink());
        self.take()
    }

    // Constants.

    /// An integer.
    pub(crate) fn i32(&mut self, value: i32) -> I32 {
        self.sink().i32_const(value);
        self.take()
    }

    /// An address.
    pub(crate) fn address(&mut self, address: u32) -> I32 {
        self.i32(address.cast_signed())
    }

    /// A 64-bit integer.
    pub(crate) fn i64(&mut self, value: i64) -> I64 {
        self.sink().i64_const(value);
        self.take()
    }

    /// A float.
    pub(crate) fn f32(&mut self, value: f32) -> F32 {
        self.sink().f32_const(value.into());
        self.take()
    }

    /// A 64-bit float.
    pub(crate) fn f64(&mut self, value: f64) -> F64 {
        self.sink().f64_const(value.into());
        self.take()
    }

    /// The same float four times.
    pub(crate) fn splat(&mut self, value: f32) -> F32x4 {
        self.v128_const([value.to_bits(); 4]);
        self.take()
    }

    /// The same integer four times.
    pub(crate) fn splat_i32(&mut self, value: i32) -> I32x4 {
        self.v128_const([value.cast_unsigned(); 4]);
        self.take()
    }

    fn v128_const(&mut self, lanes: [u32; 4]) {
        let bits = lanes.iter().rev().fold(0u128, |bits, &lane| bits << 32 | u128::from(lane));
        self.sink().v128_const(bits.cast_signed());
    }

    // Control.

    /// Runs `body` `count` times.
    pub(crate) fn repeat(&mut self, count: usize, body: impl FnOnce(&mut Self)) {
        match count {
            0 => {}
            1 => self.scope(body),
            _ => self.scope(|f| {
                let left = f.i32(count as i32);
                f.sink().loop_(BlockType::Empty);
                f.depth += 1;
                f.scope(body);
                f.depth -= 1;
                f.sink().local_get(left.0).i32_const(1).i32_sub().local_tee(left.0).br_if(0).end();
            }),
        }
    }

    /// Runs `body` `count` times with pointers that move on by a number of bytes after each turn; they are left where the last turn moved them.
    pub(crate) fn walk(&mut self, count: usize, pointers: &[(I32, i32)], body: impl FnOnce(&mut Self)) {
        self.repeat(count, |f| {
            body(f);
            for &(pointer, bytes) in pointers {
                f.advance(pointer, bytes);
            }
        });
    }

    /// Runs `body` with 0, `step`, `2 * step` .. below `count * step`.
    pub(crate) fn range(&mut self, count: usize, step: usize, body: impl FnOnce(&mut Self, I32)) {
        self.scope(|f| {
            let index = f.i32(0);
            match count {
                0 => {}
                1 => f.scope(|f| body(f, index)),
                _ => {
                    f.sink().loop_(BlockType::Empty);
                    f.depth += 1;
                    f.scope(|f| body(f, index));
                    f.depth -= 1;
                    f.advance(index, step as i32);
                    f.sink().local_get(index.0).i32_const((count * step) as i32).i32_lt_u().br_if(0).end();
                }
            }
        });
    }

    /// Runs `body` where `condition` is not 0.
    pub(crate) fn when(&mut self, condition: I32, body: impl FnOnce(&mut Self)) {
        self.get(condition);
        self.sink().if_(BlockType::Empty);
        self.depth += 1;
        self.scope(body);
        self.depth -= 1;
        self.sink().end();
    }

    /// Runs `body`, in which [`Func::fence`] may stand.
    pub(crate) fn fenced(&mut self, body: impl FnOnce(&mut Self)) {
        self.scope(|f| {
            // Nothing is ever stored at address 0; an engine cannot know.
            let zero = f.load_i32(At::fixed(0));
            f.sink().block(BlockType::Empty);
            f.depth += 1;
            let outer = f.fence.replace((f.depth, zero));
            body(f);
            f.fence = outer;
            f.depth -= 1;
            f.sink().end();
        });
    }

    /// Makes the engine finish the arithmetic so far before it loads more: a branch out of [`Func::fenced`] that is never taken, and that would
    /// take the sums along.
    ///
    /// Cranelift keeps loads in their order and moves arithmetic to where its result is needed: to the end of an unrolled loop, with
    /// everything that was loaded in registers, or rather not.
    pub(crate) fn fence(&mut self) {
        if let Some((depth, zero)) = self.fence {
            let label = self.depth - depth;
            self.sink().local_get(zero.0).br_if(label);
        }
    }

    /// Moves a pointer or counter on.
    pub(crate) fn advance(&mut self, pointer: I32, bytes: i32) {
        if bytes != 0 {
            self.sink().local_get(pointer.0).i32_const(bytes).i32_add().local_set(pointer.0);
        }
    }

    /// A pointer some bytes further on (or back).
    pub(crate) fn moved(&mut self, pointer: I32, bytes: i32) -> I32 {
        self.sink().local_get(pointer.0).i32_const(bytes).i32_add();
        self.take()
    }

    // Memory.

    /// Puts the base of a place on the stack and returns its offset; `align` is the logarithm of the access's natural size.
    pub(crate) fn place(&mut self, at: At, align: u32) -> MemArg {
        match at.base {
            Some(base) => self.get(base),
            None => {
                self.sink().i32_const(0);
            }
        }
        MemArg { offset: u64::from(at.offset), align, memory_index: 0 }
    }

    /// Loads four floats; their address need not be a multiple of 16.
    pub(crate) fn load_f32x4(&mut self, at: At) -> F32x4 {
        let place = self.place(at, 2);
        self.sink().v128_load(place);
        self.take()
    }

    /// Loads a float into all four places.
    pub(crate) fn load_splat(&mut self, at: At) -> F32x4 {
        let place = self.place(at, 2);
        self.sink().v128_load32_splat(place);
        self.take()
    }

    /// Loads a float.
    pub(crate) fn load_f32(&mut self, at: At) -> F32 {
        let place = self.place(at, 2);
        self.sink().f32_load(place);
        self.take()
    }

    /// Loads a 32-bit integer.
    pub(crate) fn load_i32(&mut self, at: At) -> I32 {
        let place = self.place(at, 2);
        self.sink().i32_load(place);
        self.take()
    }

    /// Loads a 64-bit integer.
    pub(crate) fn load_i64(&mut self, at: At) -> I64 {
        let place = self.place(at, 3);
        self.sink().i64_load(place);
        self.take()
    }

    /// Loads four bytes, sign-extended, as floats.
    pub(crate) fn load_i8x4_as_f32x4(&mut self, at: At) -> F32x4 {
        let place = self.place(at, 2);
        self.sink().v128_load32_zero(place).i16x8_extend_low_i8x16_s().i32x4_extend_low_i16x8_s();
        self.sink().f32x4_convert_i32x4_s();
        self.take()
    }

    /// Stores four floats.
    pub(crate) fn store_f32x4(&mut self, at: At, value: F32x4) {
        let place = self.place(at, 2);
        self.get(value);
        self.sink().v128_store(place);
    }

    /// Stores the first `count` (1 to 4) of four floats.
    pub(crate) fn store_lanes(&mut self, at: At, value: F32x4, count: usize) {
        if count >= 4 {
            return self.store_f32x4(at, value);
        }
        for lane in 0..count {
            let place = self.place(at.plus(4 * lane as u32), 2);
            self.get(value);
            self.sink().v128_store32_lane(place, lane as u8);
        }
    }

    /// Stores a float.
    pub(crate) fn store_f32(&mut self, at: At, value: F32) {
        let place = self.place(at, 2);
        self.get(value);
        self.sink().f32_store(place);
    }

    /// Stores a 32-bit integer.
    pub(crate) fn store_i32(&mut self, at: At, value: I32) {
        let place = self.place(at, 2);
        self.get(value);
        self.sink().i32_store(place);
    }

    /// Stores a 64-bit integer.
    pub(crate) fn store_i64(&mut self, at: At, value: I64) {
        let place = self.place(at, 3);
        self.get(value);
        self.sink().i64_store(place);
    }

    /// Copies `bytes` from one place to another, which do not overlap.
    pub(crate) fn copy_memory(&mut self, to: I32, from: I32, bytes: u32) {
        self.get(to);
        self.get(from);
        self.sink().i32_const(bytes.cast_signed()).memory_copy(0, 0);
    }

    // Four floats.

    /// `a + b`.
    pub(crate) fn add(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_add();
        })
    }

    /// `a - b`.
    pub(crate) fn sub(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_sub();
        })
    }

    /// `a * b`.
    pub(crate) fn mul(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_mul();
        })
    }

    /// `a / b`.
    pub(crate) fn div(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_div();
        })
    }

    /// The smaller; NaN where one is.
    pub(crate) fn min(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_min();
        })
    }

    /// The larger; NaN where one is.
    pub(crate) fn max(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_max();
        })
    }

    /// `b < a ? b : a`: one instruction on x86 where [`Func::min`] is several. For numbers that are not NaN.
    pub(crate) fn pmin(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_pmin();
        })
    }

    /// `a < b ? b : a`: one instruction on x86 where [`Func::max`] is several. For numbers that are not NaN.
    pub(crate) fn pmax(&mut self, a: F32x4, b: F32x4) -> F32x4 {
        self.op2(a, b, |s| {
            s.f32x4_pmax();
        })
    }

    /// `a * b + c`: two roundings, or one of the variant that may fuse them.
    pub(crate) fn mul_add(&mut self, a: F32x4, b: F32x4, c: F32x4) -> F32x4 {
        self.push_mul_add(a, b, c);
        self.take()
    }

    /// `sum += a * b`; see [`Func::mul_add`].
    pub(crate) fn accumulate(&mut self, sum: F32x4, a: F32x4, b: F32x4) {
        self.push_mul_add(a, b, sum);
        self.sink().local_set(sum.0);
    }

    fn push_mul_add(&mut self, a: F32x4, b: F32x4, c: F32x4) {
        match self.variant {
            Variant::Simd128 => {
                self.sink().local_get(a.0).local_get(b.0).f32x4_mul().local_get(c.0).f32x4_add();
            }
            Variant::RelaxedSimd => {
                self.sink().local_get(a.0).local_get(b.0).local_get(c.0).f32x4_relaxed_madd();
            }
        }
    }

    /// `yes` where the mask is set, else `no`.
    pub(crate) fn select(&mut self, mask: I32x4, yes: F32x4, no: F32x4) -> F32x4 {
        self.get(yes);
        self.get(no);
        self.get(mask);
        self.sink().v128_bitselect();
        self.take()
    }

    /// A float four times.
    pub(crate) fn splat_f32(&mut self, value: F32) -> F32x4 {
        self.op1(value, |s| {
            s.f32x4_splat();
        })
    }

    /// The four floats in another order.
    pub(crate) fn shuffle(&mut self, value: F32x4, order: [u8; 4]) -> F32x4 {
        let mut lanes = [0; 16];
        for (place, lane) in lanes.iter_mut().enumerate() {
            *lane = order[place / 4] * 4 + (place % 4) as u8;
        }
        self.op2(value, value, |s| {
            s.i8x16_shuffle(lanes);
        })
    }

    // Fewer than four floats, or four that do not follow one another.

    /// Loads the first `count` (1 to 4) of four floats, the others are 0; reads nothing behind them.
    pub(crate) fn load_lanes(&mut self, at: At, count: usize) -> F32x4 {
        let place = self.place(at, 2);
        match count {
            1 => {
                self.sink().v128_load32_zero(place);
            }
            2 | 3 => {
                self.sink().v128_load64_zero(place);
            }
            _ => {
                self.sink().v128_load(place);
            }
        }
        let lanes = self.take();
        if count == 3 {
            self.load_lane(lanes, 2, at.plus(8));
        }
        lanes
    }

    /// Loads a float into one of the four places of `target`.
    pub(crate) fn load_lane(&mut self, target: F32x4, lane: u8, at: At) {
        let place = self.place(at, 2);
        self.get(target);
        self.sink().v128_load32_lane(place, lane).local_set(target.0);
    }

    /// `a[order[i]]`, where 4 to 7 count the floats of `b`.
    pub(crate) fn shuffle_two(&mut self, a: F32x4, b: F32x4, order: [u8; 4]) -> F32x4 {
        let mut lanes = [0; 16];
        for (place, lane) in lanes.iter_mut().enumerate() {
            *lane = order[place / 4] * 4 + (place % 4) as u8;
        }
        self.op2(a, b, |s| {
            s.i8x16_shuffle(lanes);
        })
    }

    /// The smaller of two unsigned integers, one of them known.
    pub(crate) fn min_u32(&mut self, a: I32, limit: u32) -> I32 {
        let limit = limit.cast_signed();
        self.sink().local_get(a.0).i32_const(limit).local_get(a.0).i32_const(limit).i32_lt_u().select();
        self.take()
    }

    /// A pointer `index * bytes` further on.
    pub(crate) fn indexed(&mut self, pointer: I32, index: I32, bytes: i32) -> I32 {
        self.sink().local_get(pointer.0).local_get(index.0).i32_const(bytes).i32_mul().i32_add();
        self.take()
    }
}
