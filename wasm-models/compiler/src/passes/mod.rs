//! Rewrites of the IR, each from a valid graph to a valid graph that computes the same.

pub(crate) mod dump;
pub(crate) mod rows;

mod axes;
mod demand;
mod fuse;
mod layout;
mod pack;
pub(crate) mod pack_trees;
mod quantize;
mod recurrent;
#[cfg(test)]
mod testing;

use crate::Options;
use crate::error::Result;
use crate::ir::{self, Graph};

/// Runs all passes in order and shows the graph after each.
pub(crate) fn run(mut graph: Graph, options: &Options, mut show: impl FnMut(&str, &Graph)) -> Result<Graph> {
    ir::verify(&graph, "import")?;
    show("import", &graph);
    demand::run(&mut graph)?;
    show("demand", &graph);
    fuse::run(&mut graph)?;
    show("fuse", &graph);
    layout::run(&mut graph)?;
    show("layout", &graph);
    if options.int8_weights {
        quantize::run(&mut graph)?;
        recurrent::quantize(&mut graph)?;
        show("quantize", &graph);
    }
    pack::run(&mut graph)?;
    recurrent::pack(&mut graph)?;
    show("pack", &graph);
    Ok(graph)
}
