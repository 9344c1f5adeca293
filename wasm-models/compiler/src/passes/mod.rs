//! Rewrites of the IR, each from a valid graph to a valid graph that computes the same.

pub(crate) mod dump;
pub(crate) mod rows;

mod axes;
mod demand;
mod editor;
mod fuse;
mod layout;
mod pack;
pub(crate) mod pack_trees;
mod quantize;
mod recurrent;
mod simplify;
#[cfg(test)]
mod testing;

use crate::Options;
use crate::error::Result;
use crate::ir::{self, Graph};

type Pass = fn(&mut Graph) -> Result<()>;

/// Runs all passes in order and shows the graph after each.
pub(crate) fn run(mut graph: Graph, options: &Options, mut show: impl FnMut(&str, &Graph)) -> Result<Graph> {
    ir::verify(&graph, "import")?;
    show("import", &graph);
    let passes: [(&str, Pass); 6] = [
        ("simplify", simplify::run),
        ("demand", demand::run),
        ("fuse", fuse::run),
        ("layout", layout::run),
        ("quantize", |graph| quantize::run(graph).and_then(|()| recurrent::quantize(graph))),
        ("pack", |graph| pack::run(graph).and_then(|()| recurrent::pack(graph))),
    ];
    for (name, pass) in passes.into_iter().filter(|(name, _)| *name != "quantize" || options.int8_weights) {
        pass(&mut graph)?;
        ir::verify(&graph, name)?;
        show(name, &graph);
    }
    Ok(graph)
}
