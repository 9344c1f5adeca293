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

const PASSES: [(&str, Pass); 6] = [
    ("simplify", simplify::run),
    ("demand", demand::run),
    ("fuse", fuse::run),
    ("layout", layout::run),
    ("quantize", |graph| quantize::run(graph).and_then(|()| recurrent::quantize(graph))),
    ("pack", |graph| pack::run(graph).and_then(|()| recurrent::pack(graph))),
];

/// Runs all passes in order and shows the graph after each.
pub(crate) fn run(graph: Graph, options: &Options, show: impl FnMut(&str, &Graph)) -> Result<Graph> {
    run_some(graph, |pass| pass != "quantize" || options.int8_weights, show)
}

fn run_some(mut graph: Graph, wanted: impl Fn(&str) -> bool, mut show: impl FnMut(&str, &Graph)) -> Result<Graph> {
    ir::verify(&graph, "import")?;
    show("import", &graph);
    for (name, pass) in PASSES.into_iter().filter(|(name, _)| wanted(name)) {
        pass(&mut graph)?;
        ir::verify(&graph, name)?;
        show(name, &graph);
    }
    Ok(graph)
}

#[cfg(test)]
mod tests;
