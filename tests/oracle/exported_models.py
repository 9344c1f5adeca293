"""Writes models that scikit-learn, XGBoost, LightGBM and (where it is installed) PyTorch export, fitted on random numbers or with
random weights, with onnxruntime's answers to their float outputs at batches 1, 4 and 9.

    python tests/oracle/exported_models.py FOLDER

FOLDER gets cases.json and cases.bin, see cases.py.
"""

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, str(Path(__file__).parent))
from cases import Cases  # noqa: E402

FEATURES = 8
OPSET = {"": 17, "ai.onnx.ml": 3}
BATCHES = (1, 4, 9)


def add(cases, group, name, model, make_input):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [it.name for it in session.get_outputs() if it.type in ("tensor(float)", "tensor(int64)")]
    (given,) = session.get_inputs()
    for batch in BATCHES:
        inputs = {given.name: make_input(batch).astype(np.float32)}
        answers = dict(zip(outputs, session.run(outputs, inputs)))
        cases.add(f"{name}, {batch} rows", group, model, inputs, answers)


def data():
    """Numbers that float32 holds exactly, so that thresholds of trees mean the same in float32 and float64."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, FEATURES)).astype(np.float32)
    score = x[:, 0] - 0.5 * x[:, 1] + np.sin(2 * x[:, 2]) + 0.1 * rng.normal(size=300)
    return x, score.astype(np.float32), (score > 0).astype(np.int64), np.digitize(score, [-0.7, 0.7])


def make_input(batch):
    return np.random.default_rng(batch).normal(size=(batch, FEATURES))


def sklearn_models(cases):
    from skl2onnx import to_onnx
    from sklearn import ensemble, linear_model, naive_bayes, neural_network, preprocessing, svm, tree
    from sklearn.pipeline import make_pipeline

    x, score, binary, ternary = data()
    mlp = dict(max_iter=200, random_state=0)
    few = dict(n_estimators=12, random_state=0)
    regressors = [
        linear_model.LinearRegression(), linear_model.Ridge(), linear_model.ElasticNet(alpha=0.01), svm.LinearSVR(),
        neural_network.MLPRegressor(hidden_layer_sizes=(16, 8), **mlp), neural_network.MLPRegressor(hidden_layer_sizes=(7,), activation="tanh", **mlp),
        tree.DecisionTreeRegressor(max_depth=5), ensemble.RandomForestRegressor(max_depth=6, **few),
        ensemble.ExtraTreesRegressor(max_depth=6, **few), ensemble.GradientBoostingRegressor(**few),
        ensemble.HistGradientBoostingRegressor(max_iter=12), ensemble.AdaBoostRegressor(**few),
        ensemble.BaggingRegressor(**few),
    ]
    classifiers = [
        linear_model.LogisticRegression(), linear_model.SGDClassifier(loss="log_loss", random_state=0),
        linear_model.RidgeClassifier(), svm.LinearSVC(), naive_bayes.GaussianNB(),
        neural_network.MLPClassifier(hidden_layer_sizes=(16, 8), **mlp), neural_network.MLPClassifier(hidden_layer_sizes=(7,), activation="logistic", **mlp),
        tree.DecisionTreeClassifier(max_depth=5), ensemble.RandomForestClassifier(max_depth=6, **few),
        ensemble.ExtraTreesClassifier(max_depth=6, **few), ensemble.GradientBoostingClassifier(**few),
        ensemble.HistGradientBoostingClassifier(max_iter=12), ensemble.AdaBoostClassifier(**few),
        ensemble.BaggingClassifier(**few),
    ]
    scalers = [
        preprocessing.StandardScaler(), preprocessing.MinMaxScaler(), preprocessing.RobustScaler(),
        preprocessing.MaxAbsScaler(), preprocessing.Normalizer(), preprocessing.PolynomialFeatures(degree=2, include_bias=False),
    ]
    fitted = [(type(it).__name__, it.fit(x, score), None) for it in regressors]
    for it in classifiers:
        for labels, kind in ((binary, "binary"), (ternary, "three classes")):
            model = type(it)(**it.get_params()).fit(x, labels)
            fitted.append((f"{type(it).__name__}, {kind}", model, {"zipmap": False}))
    for it in scalers:
        model = make_pipeline(it, linear_model.LogisticRegression()).fit(x, ternary)
        fitted.append((f"{type(it).__name__} and LogisticRegression", model, {"zipmap": False}))
    for name, model, options in fitted:
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        options = None if type(last) in (svm.LinearSVC,) else options
        try:
            converted = to_onnx(model, x[:1], options={type(last): options} if options else None, target_opset=OPSET)
        except Exception as error:  # an exporter's own limits are no finding
            print(f"not exported: {name}: {str(error).splitlines()[0]}")
            continue
        add(cases, "scikit-learn", name, converted, make_input)


def boosted_models(cases):
    import lightgbm
    import xgboost
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    x, score, binary, ternary = data()
    initial = [("input", FloatTensorType([None, FEATURES]))]
    few = dict(n_estimators=15, max_depth=4)
    for label, regressor, classifier, convert, more in (
        ("XGBoost", xgboost.XGBRegressor, xgboost.XGBClassifier, convert_xgboost, {}),
        ("LightGBM", lightgbm.LGBMRegressor, lightgbm.LGBMClassifier, convert_lightgbm, {"zipmap": False}),
    ):
        quiet = {"verbose": -1} if label == "LightGBM" else {}
        for name, model, target, options in (
            ("regressor", regressor(**few, **quiet), score, {}),
            ("binary", classifier(**few, **quiet), binary, more),
            ("three classes", classifier(**few, **quiet), ternary, more),
        ):
            try:
                converted = convert(model.fit(x, target), initial_types=initial, target_opset=15, **options)
                converted = converted if isinstance(converted, onnx.ModelProto) else onnx.load_from_string(converted)
            except Exception as error:
                print(f"not exported: {label} {name}: {str(error).splitlines()[0]}")
                continue
            add(cases, label, f"{label}, {name}", converted, make_input)


def torch_models(cases):
    try:
        import torch
    except ImportError:
        print("SKIPPED: PyTorch is not installed")
        return
    from torch import nn

    torch.manual_seed(0)
    steps, channels = 24, 4

    class Recurrent(nn.Module):
        def __init__(self, kind, **options):
            super().__init__()
            self.inner = kind(channels, 16, batch_first=True, **options)
            self.head = nn.Linear(32 if options.get("bidirectional") else 16, 3)

        def forward(self, x):
            return torch.softmax(self.head(self.inner(x)[0][:, -1]), -1)

    class Tcn(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [channels, 16, 16, 16]
            self.layers = nn.ModuleList(nn.Conv1d(a, b, 3, dilation=2**i) for i, (a, b) in enumerate(zip(sizes, sizes[1:])))
            self.norms = nn.ModuleList(nn.BatchNorm1d(16) for _ in self.layers)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            x = x.transpose(1, 2)
            for layer, norm in zip(self.layers, self.norms):
                made = torch.relu(norm(layer(nn.functional.pad(x, (2 * layer.dilation[0], 0)))))
                x = made + x if made.shape == x.shape else made
            return self.head(x[:, :, -1])

    class Transformer(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.embed = nn.Linear(channels, 16)
            layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0, **options)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.encoder(self.embed(x))[:, -1])

    models = {
        "LSTM": Recurrent(nn.LSTM), "LSTM, two layers": Recurrent(nn.LSTM, num_layers=2),
        "BiLSTM": Recurrent(nn.LSTM, bidirectional=True), "GRU": Recurrent(nn.GRU),
        "BiGRU, two layers": Recurrent(nn.GRU, num_layers=2, bidirectional=True), "RNN": Recurrent(nn.RNN), "TCN": Tcn(),
        "Transformer encoder": Transformer(), "Transformer encoder, GELU, norm first": Transformer(activation="gelu", norm_first=True),
    }
    for name, model in models.items():
        model.eval()
        file = io.BytesIO()
        try:
            torch.onnx.export(
                model, torch.randn(1, steps, channels), file, opset_version=17, dynamo=False, input_names=["x"],
                output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})
        except Exception as error:
            print(f"not exported: {name}: {str(error).splitlines()[0]}")
            continue
        window = lambda batch: np.random.default_rng(batch).normal(size=(batch, steps, channels))
        add(cases, "PyTorch", name, onnx.load_from_string(file.getvalue()), window)


def main():
    warnings.simplefilter("ignore")
    cases = Cases(f"onnxruntime {onnxruntime.__version__}")
    sklearn_models(cases)
    boosted_models(cases)
    torch_models(cases)
    cases.write(sys.argv[1])
    print(f"{len(cases.cases)} cases, {len(cases.bytes)} bytes")


if __name__ == "__main__":
    main()
