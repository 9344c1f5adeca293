"""Writes models with inputs and expected outputs in the form that the compiler's tests read: cases.json and cases.bin.

cases.json: {"source": TEXT, "cases": [{"name", "group", "model": SPAN, "constant": null | {"model": SPAN, "inputs": [NAME]},
"inputs": [TENSOR], "outputs": [TENSOR]}]}, where SPAN is [first byte, number of bytes] in cases.bin, and TENSOR is
{"name", "type", "shape", "data": SPAN | [TEXT]}: little-endian numbers, row-major, or texts.
"""

import json
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

# Inputs, by their positions, that give shapes, axes, sizes, bounds or weights: exported models hold them as constants. Where a
# test gives them at run time and does not compile, it is tried again with them as constants.
CONSTANT = {
    "ArrayFeatureExtractor": [1],
    "BatchNormalization": [1, 2, 3, 4],
    "Clip": [1, 2],
    "ConstantOfShape": [0],
    "Conv": [1, 2],
    "CumSum": [1],
    "DequantizeLinear": [0, 1, 2],
    "Dropout": [1, 2],
    "Expand": [1],
    "GRU": [1, 2, 3, 4, 5],
    "Gather": [1],
    "GatherElements": [1],
    "GatherND": [1],
    "Gemm": [1, 2],
    "LSTM": [1, 2, 3, 4, 5, 6, 7],
    "LayerNormalization": [1, 2],
    "MatMul": [1],
    "OneHot": [1, 2],
    "PRelu": [1],
    "Pad": [1, 2, 3],
    "RNN": [1, 2, 3, 4, 5],
    "Range": [0, 1, 2],
    "Reshape": [1],
    "Slice": [1, 2, 3, 4],
    "Split": [1],
    "Squeeze": [1],
    "Tile": [1],
    "TopK": [1],
    "Trilu": [1],
    "Unsqueeze": [1],
}


def constant_inputs(graph):
    """Names of the graph's inputs that exported models hold as constants."""
    names = set()
    for node in graph.node:
        places = [1] if node.op_type.startswith("Reduce") else CONSTANT.get(node.op_type, [])
        names.update(node.input[place] for place in places if place < len(node.input))
    return [it.name for it in graph.input if it.name in names]


def with_constants(model, names, inputs):
    """The model with some inputs turned into constants of the given values."""
    copy = type(model)()
    copy.CopyFrom(model)
    kept = [it for it in copy.graph.input if it.name not in names]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    for name in names:
        value = np.asarray(inputs[name])
        copy.graph.initializer.append(numpy_helper.from_array(value, name))
    return copy


class Cases:
    """Collects cases; `write` makes the two files."""

    def __init__(self, source):
        self.source, self.cases, self.bytes = source, [], bytearray()

    def span(self, data):
        at = len(self.bytes)
        self.bytes += data
        return [at, len(data)]

    def tensor(self, name, value):
        if not isinstance(value, np.ndarray) and not np.isscalar(value):
            return {"name": name, "type": type(value).__name__, "shape": [], "data": [0, 0]}
        value = np.asarray(value)
        kind = str(value.dtype)
        item = {"name": name, "type": kind, "shape": list(value.shape)}
        if value.dtype.kind in "OUST":
            texts = [it.decode() if isinstance(it, bytes) else str(it) for it in value.ravel()]
            return item | {"type": "string", "data": texts}
        return item | {"data": self.span(np.ascontiguousarray(value).tobytes())}

    def add(self, name, group, model, inputs, outputs):
        """`inputs` and `outputs` map names to arrays, in order; of the outputs, those that are to be compared."""
        names = constant_inputs(model.graph)
        case = {"name": name, "group": group, "model": self.span(model.SerializeToString(deterministic=True))}
        case["constant"] = None
        if names:
            constant = with_constants(model, names, inputs).SerializeToString(deterministic=True)
            case["constant"] = {"model": self.span(constant), "inputs": names}
        case["inputs"] = [self.tensor(key, value) for key, value in inputs.items()]
        case["outputs"] = [self.tensor(key, value) for key, value in outputs.items()]
        self.cases.append(case)

    def write(self, folder):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in self.cases)
        text = '{"source":' + json.dumps(self.source) + ',"cases":[\n' + lines + "\n]}\n"
        (folder / "cases.json").write_text(text)
        (folder / "cases.bin").write_bytes(self.bytes)
