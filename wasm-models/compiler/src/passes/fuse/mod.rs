//! Fusion: several nodes become one.
//!
//! Rounding may change by it, by far less than the tolerance of the compiler: factors move into weights.

mod columns;
mod maps;
mod merge;
mod normalize;
mod products;

use super::editor::Editor;
use super::simplify;
use crate::error::Result;
use crate::ir::Graph;

/// Fuses once: from single expressions to operations with epilogues.
fn round(graph: &mut Graph) -> Result<()> {
    let mut editor = Editor::new(graph);
    normalize::find(&mut editor);
    products::scales_behind_products(&mut editor);
    maps::into_epilogues(&mut editor);
    maps::into_maps(&mut editor);
    columns::into_weights(&mut editor)?;
    editor.finish();
    simplify::run(graph)
}

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    // What one round leaves behind the next may fuse; a few suffice, as each walks over the whole graph in order.
    for _ in 0..4 {
        let before = (graph.nodes.len(), graph.values.len());
        round(graph)?;
        if before == (graph.nodes.len(), graph.values.len()) {
            break;
        }
    }
    merge::products_of_one_input(graph)?;
    simplify::run(graph)?;
    products::flatten(graph);
    Ok(())
}

#[cfg(test)]
mod tests;
