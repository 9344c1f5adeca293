//! Matrix products.

use super::Cx;
use crate::emit::{At, Func};
use crate::error::{CompileError, Result};
use crate::ir::{Expr, Node, Packing};

pub(super) fn emit(f: &mut Func, cx: &Cx<'_>, node: &Node, epilogue: &Expr, packing: Packing) -> Result<()> {
    let [a, b] = &node.inputs[..] else { return Err(CompileError::node(&node.name, "two inputs so far")) };
    if *epilogue != Expr::Result || packing != Packing::None || a.rank() != 2 {
        return Err(CompileError::node(&node.name, "plain products so far"));
    }
    let Some(output) = node.outputs[0] else { return Ok(()) };
    let (m, k, n) = (a.shape[0], a.shape[1], b.shape[1]);
    let (to, row, column) = (f.address(cx.result(output)), f.address(cx.address(a)), f.address(cx.address(b)));
    f.walk(m, &[(row, a.strides[0] as i32 * 4)], |f| {
        f.walk(n, &[(column, b.strides[1] as i32 * 4), (to, 4)], |f| {
            let (x, y) = (f.copy(row), f.copy(column));
            let sum = f.f32(0.0);
            f.walk(k, &[(x, a.strides[1] as i32 * 4), (y, b.strides[0] as i32 * 4)], |f| {
                let (p, q) = (f.load_f32(At::from(x, 0)), f.load_f32(At::from(y, 0)));
                let product = f.op2::<crate::emit::F32>(p, q, |s| {
                    s.f32_mul();
                });
                f.op_set(sum, product, |s| {
                    s.f32_add();
                });
            });
            f.store_f32(At::from(to, 0), sum);
        });
        f.advance(column, -(b.strides[1] as i32 * 4 * n as i32));
    });
    Ok(())
}
