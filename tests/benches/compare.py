"""What a user would pick instead, measured on this machine: prints a table.

Run with the interpreter of a virtual environment that has tests/benches/requirements.txt, one argument: eurusd_h1.csv.
"""

import sys
import time

import numpy as np
import pandas as pd
import scipy.stats as stats


def best(call, repeats=3):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def validation():
    n = 1_000_000
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-4, n)))
    open_ = np.concatenate([[100.0], close[:-1]])
    frame = pd.DataFrame(
        {
            "time": np.arange(n, dtype=np.int64) * 60_000,
            "open": open_,
            "high": np.maximum(open_, close) * 1.0001,
            "low": np.minimum(open_, close) * 0.9999,
            "close": close,
            "volume": rng.uniform(1, 2, n),
        }
    )

    def check():
        f = frame
        prices = f[["open", "high", "low", "close"]]
        bad = ~np.isfinite(prices).all(axis=1) | (prices <= 0).any(axis=1)
        bad |= f.high < f[["open", "close", "low"]].max(axis=1)
        bad |= f.low > f[["open", "close", "high"]].min(axis=1)
        bad |= f.volume < 0
        bad |= f.time.diff().fillna(1) <= 0
        returns = np.log(f.close).diff()
        mad = (returns - returns.median()).abs().median()
        (returns.abs() > 20 * mad).sum()
        return bad.sum()

    seconds = best(check)
    print(f"validation, 1,000,000 bars: pandas          {seconds * 1e3:8.0f} ms  {n / seconds / 1e6:6.2f} M bars/s")


def drift():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(150, 100_000))
    current = rng.normal(size=(150, 5_000))

    def check():
        for a, b in zip(reference, current):
            stats.ks_2samp(a, b, method="asymp")
            stats.wasserstein_distance(a, b)
            edges = np.quantile(a, np.linspace(0, 1, 21)[1:-1])
            p = np.bincount(np.searchsorted(edges, a), minlength=20) / len(a) + 1e-4
            q = np.bincount(np.searchsorted(edges, b), minlength=20) / len(b) + 1e-4
            np.sum((p - q) * np.log(p / q))

    print(f"drift, 150 features, 5,000 vs 100,000: scipy {best(check, 1) * 1e3:8.0f} ms")


def features(path):
    import talib
    from talib import abstract

    frame = pd.read_csv(path)
    inputs = {name: frame[name].to_numpy(dtype=np.float64) for name in ["open", "high", "low", "close"]}
    inputs["volume"] = np.ones(len(frame))
    names = [name for name in talib.get_functions() if name not in ("MAVP",)]
    functions = [abstract.Function(name) for name in names]
    usable = []
    for function in functions:
        try:
            function(inputs)
            usable.append(function)
        except Exception:
            pass
    outputs = sum(len(function.output_names) for function in usable)
    seconds = best(lambda: [function(inputs) for function in usable])
    print(f"features, {len(frame)} bars: TA-Lib (C), {len(usable)} functions, {outputs} outputs: {seconds:.3f} s")
    closes = frame.close
    rolling = best(lambda: [closes.rolling(n).std() for n in range(5, 25)])
    print(f"features, {len(frame)} bars: pandas, 20 rolling deviations: {rolling:.3f} s")


def training():
    import torch

    torch.manual_seed(1)

    class Model(torch.nn.Module):
        """The same shapes as SimpleLSTM: BiLSTM, attention of the last state, features, head."""

        def __init__(self, hidden):
            super().__init__()
            self.lstm = torch.nn.LSTM(4, hidden, batch_first=True, bidirectional=True)
            self.attention = torch.nn.MultiheadAttention(2 * hidden, 4, batch_first=True)
            self.features = torch.nn.Linear(24, 32)
            self.head = torch.nn.Linear(2 * hidden + 32, 3)

        def forward(self, bars, features):
            states, _ = self.lstm(bars)
            half = states.shape[2] // 2
            query = torch.cat([states[:, -1:, :half], states[:, :1, half:]], dim=2)
            attended, _ = self.attention(query, states, states, need_weights=False)
            return self.head(torch.cat([attended[:, 0], torch.relu(self.features(features))], dim=1))

    print(f"training, PyTorch {torch.__version__} on the CPU, {torch.get_num_threads()} threads, windows/s")
    print(f"{'hidden':>8} {'batch 32':>10} {'batch 128':>10} {'batch 256':>10}")
    for hidden in (32, 64, 128):
        speeds = []
        for batch in (32, 128, 256):
            model = Model(hidden)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            bars, features = torch.randn(batch, 105, 4), torch.randn(batch, 24)
            target = torch.arange(batch) % 3

            def step():
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(bars, features), target)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

            step()
            speeds.append(batch / best(step, 8))
        print(f"{hidden:>8} {speeds[0]:>10.0f} {speeds[1]:>10.0f} {speeds[2]:>10.0f}")


validation()
drift()
if len(sys.argv) > 1:
    features(sys.argv[1])
training()
