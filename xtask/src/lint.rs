//! The shape of the workspace, as docs/ARCHITECTURE.md states it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The packages that each package may depend on. A package that is missing here is an error.
const ARROWS: &[(&str, &[&str])] = &[
    ("moola-market", &[]),
    ("moola-core", &["moola-market"]),
    ("moola-api", &["moola-core", "moola-market"]),
    ("moola-aws", &["moola-core"]),
    ("moola-local", &["moola-core", "moola-market"]),
    ("moola-onnx", &["moola-core", "moola-market"]),
    ("moola-wasm-compiler", &[]),
    ("moola-wasm-runtime", &["moola-core", "moola-wasm-compiler"]),
    ("moola-control", &["moola-api", "moola-aws", "moola-core", "moola-onnx", "moola-wasm-runtime"]),
    // No ONNX runtime: see ADR 0017.
    ("moola-predict", &["moola-api", "moola-aws", "moola-core", "moola-wasm-runtime"]),
    ("moola-predict-native", &["moola-aws", "moola-core", "moola-onnx", "moola-predict"]),
    ("moola-trainer", &["moola-aws", "moola-core", "moola-local", "moola-market", "moola-onnx"]),
    (
        "moola-cli",
        &[
            "moola-api",
            "moola-core",
            "moola-local",
            "moola-market",
            "moola-onnx",
            "moola-trainer",
            "moola-wasm-compiler",
            "moola-wasm-runtime",
        ],
    ),
    (
        "moola-tests",
        &[
            "moola-api",
            "moola-aws",
            "moola-cli",
            "moola-core",
            "moola-local",
            "moola-market",
            "moola-onnx",
            "moola-trainer",
            "moola-wasm-compiler",
            "moola-wasm-runtime",
        ],
    ),
    ("moola-xtask", &[]),
];

/// Crates that only the named packages may depend on directly.
const HEAVY: &[(&str, &[&str])] = &[
    ("aws-", &["moola-aws", "moola-tests"]),
    ("axum", &["moola-api", "moola-aws", "moola-cli", "moola-control", "moola-predict", "moola-tests"]),
    ("lambda", &["moola-aws"]),
    ("burn", &["moola-trainer"]),
    ("cranelift", &[]),
    ("parquet", &["moola-core"]),
    ("redb", &["moola-local"]),
    ("reqwest", &["moola-cli", "moola-tests"]),
    ("tract", &["moola-onnx"]),
    ("wasm-encoder", &["moola-wasm-compiler", "moola-wasm-runtime"]),
    ("wasmtime", &["moola-wasm-runtime"]),
];

/// What the function `predict` must not link, itself or through others: see ADR 0017.
const NOT_IN_PREDICT: &[&str] = &["cranelift-codegen", "parquet", "tract"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Licences that a dependency may have; one alternative of its expression is enough.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Weak copyleft by file, used unmodified: `colored` comes with burn, `option-ext` is locked but built for no target of ours.
const EXCEPTIONS: &[&str] = &["colored", "option-ext"];

pub(crate) fn run() -> Result<()> {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version=1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut findings = Vec::new();
    let (ours, others): (Vec<Package>, Vec<Package>) = metadata.packages.into_iter().partition(|p| p.source.is_none());
    let names: BTreeSet<&str> = ours.iter().map(|package| package.name.as_str()).collect();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for package in &ours {
        let Some(accepted) = arrows.get(package.name.as_str()) else {
            findings.push(format!("`{}` has no row in ARROWS of xtask/src/lint.rs", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
            let name = dependency.name.as_str();
            if names.contains(name) && !accepted.contains(&name) {
                findings.push(format!("`{}` must not depend on `{name}`", package.name));
            }
            for (heavy, owners) in HEAVY {
                let is_heavy = name == *heavy || name.starts_with(&format!("{}-", heavy.trim_end_matches('-')));
                if is_heavy && !owners.contains(&package.name.as_str()) {
                    findings.push(format!("`{}` must not depend on `{name}`; only {owners:?} may", package.name));
                }
            }
        }
    }
    for package in &others {
        let licence = package.license.as_deref().unwrap_or("none");
        let is_fine = licence.replace('/', " OR ").split(" OR ").any(|alternative| {
            alternative.trim_matches(|c| "() ".contains(c)).split(" AND ").all(|part| {
                let part = part.trim_matches(|c| "() ".contains(c));
                LICENCES.contains(&part) || LICENCES.contains(&part.split(" WITH ").next().unwrap_or(part))
            })
        });
        if !is_fine && !EXCEPTIONS.contains(&package.name.as_str()) {
            findings.push(format!("`{}` has the licence {licence}", package.name));
        }
    }
    findings.extend(predict_findings()?);
    if findings.is_empty() {
        println!("lint: {} packages, {} dependencies, no finding", ours.len(), others.len());
        return Ok(());
    }
    bail!("{}", findings.join("\n"));
}

/// `cargo metadata` has the features of the whole workspace at once; `cargo tree` those of one package, as it is built.
fn predict_findings() -> Result<Vec<String>> {
    let tree = ["tree", "--package=moola-predict", "--edges=normal", "--prefix=none", "--locked"];
    let output = Command::new(env!("CARGO")).args(tree).output()?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("cargo tree")?;
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    if !names.contains("moola-wasm-runtime") {
        bail!("cargo tree says nothing of what `moola-predict` depends on");
    }
    let is_barred = |name: &&str| {
        NOT_IN_PREDICT
            .iter()
            .any(|barred| name.strip_prefix(barred).is_some_and(|it| it.is_empty() || it.starts_with('-')))
    };
    let barred = names.into_iter().filter(is_barred);
    Ok(barred
        .map(|name| {
            format!("`moola-predict` must not link `{name}`; `cargo tree -p moola-predict -i {name}` tells why")
        })
        .collect())
}
