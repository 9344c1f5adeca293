//! The functions that a component needs: the canonical ABI of `wit/model.wit` on one side, `run` of the module on the other.

use wasm_encoder::{BlockType, Function, MemArg, ValType};

use super::{Descriptor, Kind, Port};
use crate::Variant;
use crate::emit::{At, F32, Func, I32, Local as _};

/// Numbers of the cases of `error`.
mod refusal {
    pub(super) const INPUTS: i32 = 0;
    pub(super) const SHAPE: i32 = 1;
    pub(super) const ROWS: i32 = 2;
    pub(super) const NOT_FINITE: i32 = 3;
    pub(super) const INDEX: i32 = 4;
}

/// A tensor in a list: address and length of name, shape and data.
const TENSOR_BYTES: i32 = 24;
const NAME: u32 = 0;
const SHAPE: u32 = 8;
const DATA: u32 = 16;

/// What the functions are written for.
pub(super) struct Context<'a> {
    pub(super) descriptor: &'a Descriptor,
    /// Where the names of the inputs, then of the outputs, lie one after another.
    pub(super) names_at: u32,
    /// Where what hosts pass in begins.
    pub(super) free: u32,
    /// The global that holds the next free address.
    pub(super) next: u32,
    /// The function `run`.
    pub(super) run: u32,
    pub(super) descriptor_at: u32,
    pub(super) descriptor_len: u32,
    /// Number of the first function that is added.
    pub(super) first: u32,
}

/// A function that is added; all its types are i32.
pub(super) struct Added {
    pub(super) num_params: usize,
    pub(super) has_result: bool,
    pub(super) body: Function,
    pub(super) exports: Vec<&'static str>,
}

/// In the order of [`Context::alloc`], [`Context::refuse`] and [`Context::is_equal`].
pub(super) fn functions(cx: &Context<'_>) -> Vec<Added> {
    let added = |num_params, has_result, body: Func, exports: &[&'static str]| Added {
        num_params,
        has_result,
        body: body.finish(),
        exports: exports.to_vec(),
    };
    vec![
        added(2, true, alloc(cx), &[]),
        added(1, true, refuse(cx), &[]),
        added(3, true, is_equal(), &[]),
        added(4, true, realloc(cx), &["cabi_realloc"]),
        added(2, true, predict(cx), &["moola:model/inference@1.0.0#predict"]),
        added(0, true, describe(cx), &["moola:model/inference@1.0.0#describe"]),
        added(
            1,
            false,
            release(cx),
            &["cabi_post_moola:model/inference@1.0.0#predict", "cabi_post_moola:model/inference@1.0.0#describe"],
        ),
    ]
}

impl Context<'_> {
    fn alloc(&self) -> u32 {
        self.first
    }

    fn refuse(&self) -> u32 {
        self.first + 1
    }

    fn is_equal(&self) -> u32 {
        self.first + 2
    }

    /// Memory of a size that is known now, for numbers of 32 bits.
    fn room(&self, f: &mut Func, bytes: i32) -> I32 {
        f.sink().i32_const(bytes).i32_const(4).call(self.alloc());
        f.take()
    }
}

fn start(num_params: usize) -> Func {
    Func::new(&vec![ValType::I32; num_params], Variant::Simd128)
}

fn store(f: &mut Func, base: I32, offset: u32, value: i32) {
    let value = f.i32(value);
    f.store_i32(At::from(base, offset), value);
}

/// `(size, align) -> address`: the next free memory; grows the memory for it, and traps where that is not given.
fn alloc(cx: &Context<'_>) -> Func {
    let mut f = start(2);
    let (size, align) = (f.param::<I32>(0), f.param::<I32>(1));
    f.sink().global_get(cx.next).local_get(align.index()).i32_add().i32_const(1).i32_sub();
    f.sink().i32_const(0).local_get(align.index()).i32_sub().i32_and();
    let address = f.take::<I32>();
    let end = f.op2::<I32>(address, size, |it| {
        it.i32_add();
    });
    // Past the end of all addresses.
    f.sink().local_get(end.index()).local_get(address.index()).i32_lt_u();
    f.sink().local_get(end.index()).i32_const(-65536).i32_gt_u().i32_or();
    let is_past = f.take();
    f.when(is_past, |f| {
        f.sink().unreachable();
    });
    f.sink().local_get(end.index()).i32_const(65535).i32_add().i32_const(16).i32_shr_u();
    f.sink().memory_size(0).i32_sub();
    let missing = f.take::<I32>();
    f.sink().local_get(missing.index()).i32_const(0).i32_gt_s();
    let is_missing = f.take();
    f.when(is_missing, |f| {
        f.sink().local_get(missing.index()).memory_grow(0).i32_const(-1).i32_eq();
        f.sink().if_(BlockType::Empty).unreachable().end();
    });
    f.sink().local_get(end.index()).global_set(cx.next).local_get(address.index());
    f
}

/// `(code) -> result`: an error.
fn refuse(cx: &Context<'_>) -> Func {
    let mut f = start(1);
    let code = f.param::<I32>(0);
    let result = cx.room(&mut f, 12);
    store(&mut f, result, 0, 1);
    f.store_i32(At::from(result, 4), code);
    f.get(result);
    f
}

/// `(a, b, length) -> 0 or 1`: whether bytes are the same.
fn is_equal() -> Func {
    let mut f = start(3);
    let (a, b, len) = (f.param::<I32>(0), f.param::<I32>(1), f.param::<I32>(2));
    f.sink().block(BlockType::Empty).loop_(BlockType::Empty);
    f.sink().local_get(len.index()).i32_eqz().br_if(1);
    f.sink().local_get(a.index()).i32_load8_u(byte()).local_get(b.index()).i32_load8_u(byte()).i32_ne();
    f.sink().if_(BlockType::Empty).i32_const(0).return_().end();
    for (pointer, bytes) in [(a, 1), (b, 1), (len, -1)] {
        f.advance(pointer, bytes);
    }
    f.sink().br(0).end().end().i32_const(1);
    f
}

/// `(old, old size, align, new size) -> address`: what hosts allocate with.
fn realloc(cx: &Context<'_>) -> Func {
    let mut f = start(4);
    let (old, old_size) = (f.param::<I32>(0), f.param::<I32>(1));
    let (align, size) = (f.param::<I32>(2), f.param::<I32>(3));
    f.sink().local_get(size.index()).local_get(align.index()).call(cx.alloc());
    let address = f.take::<I32>();
    f.get(address);
    f.get(old);
    f.sink().local_get(old_size.index()).local_get(size.index());
    f.sink().local_get(old_size.index()).local_get(size.index()).i32_lt_u().select().memory_copy(0, 0);
    f.get(address);
    f
}

/// Called when the host has read what a function returned: gives all memory back.
fn release(cx: &Context<'_>) -> Func {
    let mut f = start(1);
    f.sink().i32_const(cx.free as i32).global_set(cx.next);
    f
}

fn describe(cx: &Context<'_>) -> Func {
    let mut f = start(0);
    let result = cx.room(&mut f, 8);
    store(&mut f, result, 0, cx.descriptor_at as i32);
    store(&mut f, result, 4, cx.descriptor_len as i32);
    f.get(result);
    f
}

/// `(list, length) -> result`.
fn predict(cx: &Context<'_>) -> Func {
    let mut f = start(2);
    let (list, len) = (f.param::<I32>(0), f.param::<I32>(1));
    let Descriptor { max_rows, inputs, outputs } = cx.descriptor;
    refuse_unless(&mut f, cx, len, inputs.len() as i32, refusal::INPUTS);
    // Where no shape has a place for the rows, all is one.
    let rows = f.i32(1);
    let mut name_at = cx.names_at;
    let mut is_rows_known = false;
    for (port, index) in inputs.iter().zip(0..) {
        let tensor = f.moved(list, index * TENSOR_BYTES);
        check_name(&mut f, cx, tensor, port, name_at);
        check_shape(&mut f, cx, tensor, port, rows, &mut is_rows_known);
        name_at += port.name.len() as u32;
    }
    f.sink().local_get(rows.index()).i32_const(1).i32_sub().i32_const(*max_rows as i32).i32_ge_u();
    let is_too_many = f.take();
    refuse_when(&mut f, cx, is_too_many, refusal::ROWS);
    for (port, index) in inputs.iter().zip(0..) {
        f.scope(|f| {
            let tensor = f.moved(list, index * TENSOR_BYTES);
            let count = count(f, rows, port);
            refuse_if_not(f, cx, tensor, DATA + 4, count, refusal::SHAPE);
            let from = f.load_i32(At::from(tensor, DATA));
            let to = f.address(port.offset);
            each(f, from, 4, to, port.r#type.size() as i32, count, |f| {
                let number = f.load_f32(At::from(from, 0));
                f.sink().local_get(number.index()).f32_abs().f32_const(f32::INFINITY.into()).f32_lt().i32_eqz();
                let is_not_finite = f.take();
                refuse_when(f, cx, is_not_finite, refusal::NOT_FINITE);
                write_number(f, port.r#type, to, number);
            });
        });
    }
    f.sink().local_get(rows.index()).call(cx.run);
    let status = f.take::<I32>();
    f.sink().local_get(status.index()).i32_const(2).i32_eq();
    let is_out_of_range = f.take();
    refuse_when(&mut f, cx, is_out_of_range, refusal::INDEX);
    f.when(status, |f| {
        f.sink().unreachable();
    });
    let tensors = cx.room(&mut f, outputs.len() as i32 * TENSOR_BYTES);
    for (port, index) in outputs.iter().zip(0..) {
        f.scope(|f| {
            let tensor = f.moved(tensors, index * TENSOR_BYTES);
            store(f, tensor, NAME, name_at as i32);
            store(f, tensor, NAME + 4, port.name.len() as i32);
            return_shape(f, cx, tensor, port, rows);
            return_data(f, cx, tensor, port, rows);
        });
        name_at += port.name.len() as u32;
    }
    let result = cx.room(&mut f, 12);
    store(&mut f, result, 0, 0);
    f.store_i32(At::from(result, 4), tensors);
    store(&mut f, result, 8, outputs.len() as i32);
    f.get(result);
    f
}

fn check_name(f: &mut Func, cx: &Context<'_>, tensor: I32, port: &Port, name_at: u32) {
    f.scope(|f| {
        let len = f.i32(port.name.len() as i32);
        refuse_if_not(f, cx, tensor, NAME + 4, len, refusal::INPUTS);
        let name = f.load_i32(At::from(tensor, NAME));
        f.sink().local_get(name.index()).i32_const(name_at as i32).local_get(len.index()).call(cx.is_equal()).i32_eqz();
        let is_other = f.take();
        refuse_when(f, cx, is_other, refusal::INPUTS);
    });
}

/// Checks a shape; the first that has rows says how many there are.
fn check_shape(f: &mut Func, cx: &Context<'_>, tensor: I32, port: &Port, rows: I32, is_rows_known: &mut bool) {
    f.scope(|f| {
        let rank = f.i32(port.shape.len() as i32);
        refuse_if_not(f, cx, tensor, SHAPE + 4, rank, refusal::SHAPE);
        let shape = f.load_i32(At::from(tensor, SHAPE));
        for (size, axis) in port.shape.iter().zip(0u32..) {
            match size {
                Some(size) => {
                    let size = f.i32(*size as i32);
                    refuse_if_not(f, cx, shape, 4 * axis, size, refusal::SHAPE);
                }
                None if *is_rows_known => refuse_if_not(f, cx, shape, 4 * axis, rows, refusal::ROWS),
                None => {
                    let given = f.load_i32(At::from(shape, 4 * axis));
                    f.set(rows, given);
                    *is_rows_known = true;
                }
            }
        }
    });
}

fn return_shape(f: &mut Func, cx: &Context<'_>, tensor: I32, port: &Port, rows: I32) {
    let rank = port.shape.len() as i32;
    let shape = cx.room(f, 4 * rank);
    f.store_i32(At::from(tensor, SHAPE), shape);
    store(f, tensor, SHAPE + 4, rank);
    for (size, axis) in port.shape.iter().zip(0u32..) {
        match size {
            Some(size) => store(f, shape, 4 * axis, *size as i32),
            None => f.store_i32(At::from(shape, 4 * axis), rows),
        }
    }
}

/// Floats are read where the module wrote them; other types are converted.
fn return_data(f: &mut Func, cx: &Context<'_>, tensor: I32, port: &Port, rows: I32) {
    let count = count(f, rows, port);
    f.store_i32(At::from(tensor, DATA + 4), count);
    let from = f.address(port.offset);
    if port.r#type == Kind::Float32 {
        return f.store_i32(At::from(tensor, DATA), from);
    }
    f.sink().local_get(count.index()).i32_const(4).i32_mul().i32_const(4).call(cx.alloc());
    let to = f.take::<I32>();
    f.store_i32(At::from(tensor, DATA), to);
    each(f, from, port.r#type.size() as i32, to, 4, count, |f| {
        let number = read_number(f, port.r#type, from);
        f.store_f32(At::from(to, 0), number);
    });
}

/// Number of elements of some rows; it can be counted down.
fn count(f: &mut Func, rows: I32, port: &Port) -> I32 {
    let row_len = port.row_bytes / port.r#type.size();
    f.sink().local_get(rows.index()).i32_const(row_len as i32).i32_mul();
    f.take()
}

/// Runs `body` `count` times, moving both pointers on.
fn each(f: &mut Func, from: I32, from_size: i32, to: I32, to_size: i32, count: I32, body: impl FnOnce(&mut Func)) {
    f.sink().block(BlockType::Empty).loop_(BlockType::Empty);
    f.sink().local_get(count.index()).i32_eqz().br_if(1);
    f.scope(body);
    for (pointer, bytes) in [(from, from_size), (to, to_size), (count, -1)] {
        f.advance(pointer, bytes);
    }
    f.sink().br(0).end().end();
}

fn write_number(f: &mut Func, kind: Kind, to: I32, number: F32) {
    f.sink().local_get(to.index()).local_get(number.index());
    match kind {
        Kind::Float32 => f.sink().f32_store(natural(kind)),
        Kind::Float64 => f.sink().f64_promote_f32().f64_store(natural(kind)),
        Kind::Int32 => f.sink().i32_trunc_sat_f32_s().i32_store(natural(kind)),
        Kind::Int64 => f.sink().i64_trunc_sat_f32_s().i64_store(natural(kind)),
        Kind::Bool => f.sink().f32_const(0.0.into()).f32_ne().i32_store8(byte()),
    };
}

fn read_number(f: &mut Func, kind: Kind, from: I32) -> F32 {
    f.get(from);
    match kind {
        Kind::Float32 => f.sink().f32_load(natural(kind)),
        Kind::Float64 => f.sink().f64_load(natural(kind)).f32_demote_f64(),
        Kind::Int32 => f.sink().i32_load(natural(kind)).f32_convert_i32_s(),
        Kind::Int64 => f.sink().i64_load(natural(kind)).f32_convert_i64_s(),
        Kind::Bool => f.sink().i32_load8_u(byte()).f32_convert_i32_u(),
    };
    f.take()
}

fn natural(kind: Kind) -> MemArg {
    MemArg { offset: 0, align: kind.size().trailing_zeros(), memory_index: 0 }
}

fn byte() -> MemArg {
    MemArg { offset: 0, align: 0, memory_index: 0 }
}

/// Returns an error where `condition` is not 0.
fn refuse_when(f: &mut Func, cx: &Context<'_>, condition: I32, code: i32) {
    f.when(condition, |f| {
        f.sink().i32_const(code).call(cx.refuse()).return_();
    });
}

fn refuse_unless(f: &mut Func, cx: &Context<'_>, given: I32, expected: i32, code: i32) {
    f.sink().local_get(given.index()).i32_const(expected).i32_ne();
    let is_other = f.take();
    refuse_when(f, cx, is_other, code);
}

/// Returns an error where the integer at `base + offset` is another.
fn refuse_if_not(f: &mut Func, cx: &Context<'_>, base: I32, offset: u32, expected: I32, code: i32) {
    let given = f.load_i32(At::from(base, offset));
    f.sink().local_get(given.index()).local_get(expected.index()).i32_ne();
    let is_other = f.take();
    refuse_when(f, cx, is_other, code);
}
