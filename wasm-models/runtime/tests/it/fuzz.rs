//! Arbitrary and damaged files: never a panic, and what loads still keeps its limits.

use moola_core::ErrorKind;
use moola_core::ports::{Artifact, Engine, Tensor};
use moola_wasm_runtime::{TARGETS, WasmConfig, WasmEngine, precompile};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Text, cwasm_artifact, wasm_artifact};

/// Loads, and where that works runs a row of zeros.
fn try_out(engine: &WasmEngine, artifact: &Artifact, bytes: &[u8]) -> Result<(), ErrorKind> {
    let model = engine.load(artifact, bytes).map_err(|error| error.kind())?;
    let inputs = model.inputs().iter().map(|(_, shape)| {
        let shape = std::iter::once(1).chain(shape.iter().map(|size| size.expect("a fixed size"))).collect::<Vec<_>>();
        Tensor::new(shape.clone(), vec![0.0; shape.iter().product()]).expect("a tensor")
    });
    let outputs = model.run(inputs.collect()).map_err(|error| error.kind())?;
    assert_eq!(outputs.len(), model.outputs().len());
    Ok(())
}

fn engine() -> WasmEngine {
    WasmEngine::new(WasmConfig { deadline_ms: 20, ..WasmConfig::default() }).expect("an engine")
}

#[test]
fn damaged_modules_never_panic() {
    let (engine, artifact, wasm) = (engine(), wasm_artifact(), Text::default().wasm());
    let names = wasm.windows(6).position(|it| it[..1] == [0] && it[2..] == *b"\x04nam").expect("a section of names");
    let mut damaged = wasm.clone();
    for at in 0..wasm.len() {
        // Before the names of functions, which come last, the module is whole.
        assert!(try_out(&engine, &artifact, &wasm[..at]).is_err() || at == names, "truncated at {at}");
        for bits in [0x01, 0x80, 0xff] {
            damaged[at] ^= bits;
            let _ = try_out(&engine, &artifact, &damaged);
            damaged[at] ^= bits;
        }
    }
    assert_eq!(try_out(&engine, &artifact, &wasm), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in vec(any::<u8>(), 0..512)) {
        let engine = engine();
        let with = |prefix: &[u8]| [prefix, &bytes].concat();
        // No module of the interface is that small.
        for bytes in [with(b""), with(b"\0asm\x01\0\0\0")] {
            prop_assert!(try_out(&engine, &wasm_artifact(), &bytes).is_err());
        }
        let len = u32::try_from(bytes.len()).expect("a small file");
        for prefix in [&b""[..], b"moolacw1", &[&b"moolacw1"[..], &len.to_le_bytes()].concat(), b"moolacw1\xff\xff\xff\xff"] {
            for target in &TARGETS {
                prop_assert!(try_out(&engine, &cwasm_artifact(target), &with(prefix)).is_err());
            }
        }
    }

    #[test]
    fn modules_with_several_bytes_changed_never_panic(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut wasm = Text::default().wasm();
        for (at, byte) in changes {
            let at = at.index(wasm.len());
            wasm[at] = byte;
        }
        let _ = try_out(&engine(), &wasm_artifact(), &wasm);
        for target in &TARGETS {
            let _ = precompile(&wasm, target);
        }
    }

    #[test]
    fn descriptors_of_any_numbers_never_panic(
        max_rows in any::<u64>(), offset in any::<u64>(), row_bytes in any::<u64>(), size in any::<u64>(), is_small in any::<[bool; 4]>(),
    ) {
        let pick = |number: u64, is_small| if is_small { number % 70_000 } else { number };
        let [max_rows, offset, row_bytes, size] = [
            pick(max_rows, is_small[0]), pick(offset, is_small[1]), pick(row_bytes, is_small[2]), pick(size, is_small[3]),
        ];
        let port = |name: &str| {
            format!(r#"{{"name": "{name}", "type": "float32", "shape": [null, {size}], "offset": {offset}, "row_bytes": {row_bytes}}}"#)
        };
        let text = Text {
            descriptor: format!(r#"{{"abi": 1, "max_rows": {max_rows}, "inputs": [{}], "outputs": [{}]}}"#, port("x"), port("y")),
            ..Text::default()
        };
        prop_assert!(try_out(&engine(), &wasm_artifact(), &text.wasm()).is_err());
    }
}
