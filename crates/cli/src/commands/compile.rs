//! `moola compile`: an ONNX file to a WebAssembly module, without a platform.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use moola_wasm_compiler::{Compiled, Options, Variant};
use moola_wasm_runtime::{Target, precompile};
use serde_json::{Value, json};

use crate::args::{CompileArgs, Global, Instructions};
use crate::commands::read_input;
use crate::output::{self, Table, from_core, usage};

pub(crate) fn run(global: &Global, args: &CompileArgs) -> anyhow::Result<()> {
    let onnx = read_input(&args.file)?;
    let options = Options {
        variant: match args.variant {
            Instructions::Simd128 => Variant::Simd128,
            Instructions::RelaxedSimd => Variant::RelaxedSimd,
        },
        max_rows: usize::try_from(args.max_rows)?,
        input_shapes: args.input.iter().map(|text| input_shape(text)).collect::<anyhow::Result<_>>()?,
        int8_weights: args.int8,
        dump: args.dump.is_some(),
        ..Options::default()
    };
    let targets = args.target.iter().map(|name| Target::named(name)).collect::<Result<Vec<_>, _>>();
    let targets = targets.map_err(from_core)?;
    let out = out_path(args)?;

    let shown = args.file.display();
    let compiled =
        moola_wasm_compiler::compile(&onnx, &options).map_err(|error| anyhow!("`{shown}` is not compiled: {error}"))?;
    if let Some(dir) = &args.dump {
        write_dumps(dir, &compiled.dumps)?;
    }
    let mut files = vec![(out.clone(), compiled.wasm.clone())];
    if args.component {
        let component = moola_wasm_compiler::component::wrap(&compiled.wasm).map_err(|error| anyhow!("{error}"))?;
        files.push((out.with_extension("component.wasm"), component));
    }
    for target in targets {
        let code = precompile(&compiled.wasm, target).map_err(from_core)?;
        files.push((out.with_extension(format!("{}.cwasm", target.name())), code));
    }
    for (path, bytes) in &files {
        std::fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    report(global, &onnx, &compiled, &files)
}

/// `name=1,105,4`.
fn input_shape(text: &str) -> anyhow::Result<(String, Vec<usize>)> {
    let sizes = |sizes: &str| sizes.split(',').map(|size| size.trim().parse().ok()).collect::<Option<Vec<usize>>>();
    let parsed = text.rsplit_once('=').and_then(|(name, shape)| Some((name.to_owned(), sizes(shape)?)));
    parsed.ok_or_else(|| usage(format!("`{text}` is no shape of an input"), "write `--input name=1,105,4`"))
}

fn out_path(args: &CompileArgs) -> anyhow::Result<PathBuf> {
    match &args.out {
        Some(out) => Ok(out.clone()),
        None if args.file == Path::new("-") => {
            Err(usage("a model from standard input has no name", "say where the module goes with `--out`"))
        }
        None => Ok(args.file.with_extension("wasm")),
    }
}

/// One file per pass, numbered in their order.
fn write_dumps(dir: &Path, dumps: &[(String, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    for (number, (name, text)) in dumps.iter().enumerate() {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = dir.join(format!("{number:02}-{}.txt", name.replace("--", "-")));
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

fn report(global: &Global, onnx: &[u8], compiled: &Compiled, files: &[(PathBuf, Vec<u8>)]) -> anyhow::Result<()> {
    let descriptor: Value = serde_json::from_str(&compiled.descriptor)?;
    let Compiled { constant_bytes, scratch_bytes, computed, .. } = compiled;
    if global.json {
        let files: BTreeMap<_, _> =
            files.iter().map(|(path, bytes)| (path.display().to_string(), bytes.len())).collect();
        return output::json(&json!({
            "onnx_bytes": onnx.len(), "constant_bytes": constant_bytes, "scratch_bytes": scratch_bytes,
            "computed_per_row": {"imported": computed.imported, "needed": computed.needed},
            "files": files, "descriptor": descriptor,
        }));
    }
    let mut table = Table::new(&["port", "name", "type", "shape"]);
    for side in ["input", "output"] {
        for port in descriptor[format!("{side}s")].as_array().into_iter().flatten() {
            let sizes = port["shape"].as_array().into_iter().flatten();
            let sizes: Vec<String> =
                sizes.map(|size| if size.is_null() { "rows".into() } else { size.to_string() }).collect();
            let text = |key: &str| port[key].as_str().unwrap_or_default().to_owned();
            table.row([side.to_owned(), text("name"), text("type"), format!("[{}]", sizes.join(", "))]);
        }
    }
    table.print()?;
    output::line(format!("rows per call: at most {}", descriptor["max_rows"]))?;
    output::line(format!(
        "ONNX file: {} bytes; constants: {constant_bytes}; memory that changes: {scratch_bytes}",
        onnx.len()
    ))?;
    let cut = computed.imported.saturating_sub(computed.needed);
    output::line(match cut {
        0 => "pruned: nothing, the outputs need all of the graph".to_owned(),
        _ => format!(
            "pruned: {cut} of {} intermediate numbers per row ({:.0} %), which no output needs",
            computed.imported,
            100.0 * cut as f64 / computed.imported as f64
        ),
    })?;
    for (path, bytes) in files {
        output::line(format!("{}: {} bytes", path.display(), bytes.len()))?;
    }
    Ok(())
}
