//! Whether a model is what its manifest says.

use crate::contract::{InputKind, ModelManifest, Task};
use crate::error::{Error, Result};
use crate::ports::{LoadedModel, Tensor};

/// Checks that the manifest describes the model.
///
/// # Errors
/// `Invalid`, naming what does not fit.
pub(crate) fn check_model(manifest: &ModelManifest, model: &dyn LoadedModel) -> Result<()> {
    let (named, found): (Vec<&str>, Vec<&str>) = (
        manifest.inputs.iter().map(|input| input.name.as_str()).collect(),
        model.inputs().iter().map(|(name, _)| name.as_str()).collect(),
    );
    if named != found {
        return Err(Error::invalid("inputs", format!("{named:?}"), format!("the model's inputs {found:?}")));
    }
    for (input, (name, shape)) in manifest.inputs.iter().zip(model.inputs()) {
        let field = format!("inputs.{name}.shape");
        let fits = input.shape.len() == shape.len()
            && input.shape.iter().zip(shape).all(|(size, wanted)| wanted.is_none_or(|wanted| wanted == *size));
        if !fits {
            return Err(Error::invalid(&field, format!("{:?}", input.shape), format!("the model's {shape:?}")));
        }
        let size = match input.kind {
            InputKind::Bars | InputKind::RawBars => manifest.window_bars * moola_market::windows::NUM_CHANNELS,
            InputKind::Features => manifest.feature_set.as_ref().map_or(0, |set| set.len()),
        };
        if input.shape.iter().product::<usize>() != size {
            return Err(Error::invalid(&field, format!("{:?}", input.shape), format!("a shape of {size} numbers")));
        }
    }
    if manifest.task == Task::Classification && manifest.classes.is_empty() {
        return Err(Error::invalid("classes", "[]", "the classes of a classification"));
    }
    Ok(())
}

/// Runs the model once, so that the first request does not pay for it, and checks the shape of the answer.
///
/// # Errors
/// `Invalid` where the answer is no prediction; those of the model.
pub(crate) fn warm_model(manifest: &ModelManifest, model: &dyn LoadedModel) -> Result<()> {
    let ones = manifest.inputs.iter().map(|input| {
        let shape: Vec<usize> = std::iter::once(1).chain(input.shape.iter().copied()).collect();
        Tensor::new(shape.clone(), vec![1.0; shape.iter().product()])
    });
    let outputs = model.run(ones.collect::<Result<_>>()?)?;
    let width = if manifest.task == Task::Classification { manifest.classes.len() } else { 1 };
    let place = model.outputs().iter().position(|(name, _)| *name == manifest.output.name);
    match place.and_then(|place| outputs.get(place)) {
        Some(output) if output.data().len() == width => Ok(()),
        Some(output) => {
            let name = format!("shape of output {}", manifest.output.name);
            Err(Error::invalid(&name, format!("{:?}", output.shape()), format!("[1, {width}]")))
        }
        None => {
            let names: Vec<&str> = model.outputs().iter().map(|(name, _)| name.as_str()).collect();
            Err(Error::invalid("output.name", &manifest.output.name, format!("one of `{}`", names.join("`, `"))))
        }
    }
}
