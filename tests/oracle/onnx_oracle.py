"""Checks an ONNX file with the reference checker and compares onnxruntime's answers with given ones.

    python3 -m venv .venv && .venv/bin/pip install -r tests/oracle/requirements-onnx.txt
    .venv/bin/python tests/oracle/onnx_oracle.py model.onnx [cases.json] [--tolerance 1e-5]

cases.json is what tests/fixtures/onnx holds: {"cases": [{"inputs": {NAME: TENSOR}, "outputs": {NAME: TENSOR}}]} with
TENSOR = {"shape": [..], "data": [..]}; float32, row-major. Without cases, the file is checked and run once on zeros.
Exit codes: 0 all agree, 1 a number differs or the model is wrong, 2 wrong usage.
"""

import argparse
import json
import sys

import numpy as np
import onnx
import onnxruntime


def tensor(item):
    return np.array(item["data"], dtype=np.float32).reshape(item["shape"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("cases", nargs="?")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest |a - b| / max(1, |b|)")
    args = parser.parse_args()

    try:
        onnx.checker.check_model(onnx.load(args.model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        print(f"{args.model}: {error}", file=sys.stderr)
        return 1
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    if args.cases is None:
        zeros = {
            it.name: np.zeros([size if isinstance(size, int) else 1 for size in it.shape], np.float32)
            for it in session.get_inputs()
        }
        for output, value in zip(session.get_outputs(), session.run(None, zeros)):
            print(f"{output.name}: shape {list(np.shape(value))}")
        return 0

    with open(args.cases) as file:
        cases = json.load(file)["cases"]
    worst = 0.0
    for number, case in enumerate(cases):
        names = list(case["outputs"])
        actual = session.run(names, {name: tensor(item) for name, item in case["inputs"].items()})
        for name, value in zip(names, actual):
            expected = tensor(case["outputs"][name])
            if value.shape != expected.shape:
                print(f"case {number}, `{name}`: shape {value.shape}, given {expected.shape}", file=sys.stderr)
                return 1
            error = np.max(np.abs(value - expected) / np.maximum(1.0, np.abs(expected)), initial=0.0)
            if not error <= args.tolerance:
                print(f"case {number}, `{name}`: differs by {error:.3e}", file=sys.stderr)
                return 1
            worst = max(worst, float(error))
    print(f"{args.model}: {len(cases)} cases agree, largest difference {worst:.3e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
