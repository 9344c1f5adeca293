"""Writes the node tests of the public ONNX backend suite (PyPI `onnx`) whose operators are all in OPERATORS.

    python tests/oracle/onnx_node_tests.py FOLDER [--fixture]

FOLDER gets cases.json and cases.bin, see cases.py. With --fixture, only small tests of common types: those that are kept in
wasm-models/compiler/tests/fixtures/node_tests.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

sys.path.insert(0, str(Path(__file__).parent))
from cases import Cases  # noqa: E402

# What the compiler is for. A node test counts when every operator of its graph is here.
OPERATORS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant
ConstantOfShape Conv Cos Cosh DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor GRU Gather Gelu Gemm
GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity LSTM LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax MatMul Max Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow RNN Range Reciprocal ReduceL1 ReduceL2
ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape
Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile
Transpose Unsqueeze Where Xor
ai.onnx.ml:ArrayFeatureExtractor ai.onnx.ml:Binarizer ai.onnx.ml:LinearClassifier ai.onnx.ml:LinearRegressor
ai.onnx.ml:Normalizer ai.onnx.ml:Scaler ai.onnx.ml:TreeEnsemble ai.onnx.ml:TreeEnsembleClassifier
ai.onnx.ml:TreeEnsembleRegressor
""".split()

FIXTURE_BYTES = 2500
FIXTURE_TYPES = {"bool", "float32", "float64", "int32", "int64"}


def operators(graph):
    """Operators of a graph and of the graphs in it."""
    found = set()
    for node in graph.node:
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}:"
        found.add(domain + node.op_type)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found |= operators(inner)
    return found


def array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--fixture", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.random.seed(0)
    tests = [test for test in collect_testcases(None) if test.kind == "node"]
    chosen = Cases(f"onnx {onnx.__version__}: {len(tests)} node tests")
    wanted = set(OPERATORS)
    for test in sorted(tests, key=lambda test: test.name):
        graph = test.model.graph
        found = operators(graph)
        if not found or not found <= wanted or test.model.functions:
            continue
        group = next(iter(found)) if len(graph.node) == 1 else "several operators"
        for number, (inputs, outputs) in enumerate(test.data_sets):
            name = test.name if len(test.data_sets) == 1 else f"{test.name}_{number}"
            named = lambda ports, values: {port.name: array(value) for port, value in zip(ports, values)}
            inputs, outputs = named(graph.input, inputs), named(graph.output, outputs)
            before = len(chosen.bytes)
            chosen.add(name, group, test.model, inputs, outputs)
            types = {tensor["type"] for tensor in chosen.cases[-1]["inputs"] + chosen.cases[-1]["outputs"]}
            if args.fixture and (len(chosen.bytes) - before > FIXTURE_BYTES or not types <= FIXTURE_TYPES):
                del chosen.bytes[before:]
                chosen.cases.pop()
    chosen.write(args.folder)
    print(f"{len(chosen.cases)} of {chosen.source}, {len(chosen.bytes)} bytes")


if __name__ == "__main__":
    main()
