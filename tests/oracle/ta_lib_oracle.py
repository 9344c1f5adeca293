"""Compares our feature columns with TA-Lib's Python package and with pandas formulas.

    python -m venv .venv && .venv/bin/pip install -r tests/oracle/requirements.txt
    cargo run --release -p moola-market --example feature_csv -- bars.csv > features.csv
    .venv/bin/python tests/oracle/ta_lib_oracle.py bars.csv features.csv

Prints one line a feature and exits with 1 on any mismatch. A feature matches where the same bars are missing and all
values agree within the tolerance, relative to the larger of the value and the mean size of the column.

With `--time` it also prints the CPU seconds that TA-Lib takes for its columns.
"""

import argparse
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd
import talib
from talib import abstract

TOLERANCE = 1e-10
SMA, EMA, RMA = 0, 1, 13


def ta_columns(o, h, l, c, v):
    """TA-Lib calls by feature name; a list where one call gives several columns."""
    deviation = lambda x: c / x - 1
    columns = {}

    def put(name, value):
        columns[name] = np.asarray(value, dtype=float)

    put("ret1_simple", talib.ROCP(c, 1))
    put("bop", talib.BOP(o, h, l, c))
    put("typ_dev", talib.TYPPRICE(h, l, c) / c - 1)
    put("wcl_dev", talib.WCLPRICE(h, l, c) / c - 1)
    atr = talib.ATR(h, l, c, 14)
    put("gap_atr", (o - shift(c)) / shift(atr))
    for n in (10, 20, 50, 200):
        put(f"dev_sma{n}", deviation(talib.SMA(c, n)))
    for n in (9, 12, 26, 50, 200):
        put(f"dev_ema{n}", deviation(talib.EMA(c, n)))
    put("dev_wma20", deviation(talib.WMA(c, 20)))
    put("dev_dema20", deviation(talib.DEMA(c, 20)))
    put("dev_tema20", deviation(talib.TEMA(c, 20)))
    put("dev_trima20", deviation(talib.TRIMA(c, 20)))
    put("dev_kama10", deviation(talib.KAMA(c, 10)))
    put("dev_t3_5", deviation(talib.T3(c, 5, 0.7)))
    put("dev_hma20", deviation(talib.HMA(c, 20)))
    put("dev_zlema20", deviation(talib.ZLEMA(c, 20)))
    put("dev_rma14", deviation(talib.RMA(c, 14)))
    mama, fama = talib.MAMA(c, 0.5, 0.05)
    put("dev_mama", deviation(mama))
    put("dev_fama", deviation(fama))
    put("dev_ht_trendline", deviation(talib.HT_TRENDLINE(c)))
    put("sma10_sma20", talib.SMA(c, 10) / talib.SMA(c, 20) - 1)
    put("sma50_sma200", talib.SMA(c, 50) / talib.SMA(c, 200) - 1)
    put("ema12_ema26", talib.EMA(c, 12) / talib.EMA(c, 26) - 1)
    put("slope14", talib.LINEARREG_SLOPE(c, 14) / c)
    put("slope50", talib.LINEARREG_SLOPE(c, 50) / c)
    put("dev_tsf14", deviation(talib.TSF(c, 14)))
    put("dev_sar", deviation(talib.SAR(h, l, 0.02, 0.2)))
    line, trend = talib.SUPERTREND(h, l, c, 10, 3.0)
    put("dev_supertrend", deviation(line))
    put("supertrend_dir", np.where(np.isnan(line), np.nan, trend))
    tenkan, kijun = talib.MIDPRICE(h, l, 9), talib.MIDPRICE(h, l, 26)
    put("dev_tenkan9", deviation(tenkan))
    put("dev_kijun26", deviation(kijun))
    span_a, span_b = shift((tenkan + kijun) / 2, 26), shift(talib.MIDPRICE(h, l, 52), 26)
    above, below = c > np.maximum(span_a, span_b), c < np.minimum(span_a, span_b)
    put("cloud_side", np.where(np.isnan(span_b), np.nan, above.astype(float) - below))

    for n in (14, 2, 21):
        put(f"rsi{n}", talib.RSI(c, n))
    columns["stoch_k14"], columns["stoch_d14"] = talib.STOCH(h, l, c, 14, 3, SMA, 3, SMA)
    put("stochf_k5", talib.STOCHF(h, l, c, 5, 3, SMA)[0])
    put("stochrsi_k14", talib.STOCHRSI(c, 14, 5, 3, SMA)[0])
    put("willr14", talib.WILLR(h, l, c, 14))
    put("cci20", talib.CCI(h, l, c, 20))
    for name, value in zip(("macd", "macd_signal", "macd_hist"), talib.MACD(c, 12, 26, 9)):
        put(name, value / c)
    put("ppo", talib.PPO(c, 12, 26, EMA))
    put("mom10", talib.MOM(c, 10) / c)
    for n in (5, 10, 20):
        put(f"roc{n}", talib.ROC(c, n))
    put("trix15", talib.TRIX(c, 15))
    put("tsi", talib.TSI(c, 25, 13))
    put("ultosc", talib.ULTOSC(h, l, c, 7, 14, 28))
    put("cmo14", talib.CMOU(c, 14))
    put("ao", talib.AO(h, l, 5, 34) / c)
    put("ac", talib.AC(h, l, 5, 34, 5) / c)
    put("adx14", talib.ADX(h, l, c, 14))
    put("adxr14", talib.ADXR(h, l, c, 14))
    put("plus_di14", talib.PLUS_DI(h, l, c, 14))
    put("minus_di14", talib.MINUS_DI(h, l, c, 14))
    put("dx14", talib.DX(h, l, c, 14))
    columns["aroon_down25"], columns["aroon_up25"] = talib.AROON(h, l, 25)
    put("aroon_osc25", talib.AROONOSC(h, l, 25))
    columns["vortex_plus14"], columns["vortex_minus14"] = talib.VORTEX(h, l, c, 14)
    put("dpo20", talib.DPO(c, 20) / c)
    put("er10", talib.ER(c, 10))
    put("vhf28", talib.VHF(c, 28))
    put("imi14", talib.IMI(o, c, 14))
    put("coppock", talib.COPPOCK(c, 10, 11, 14))
    put("kdj_j9", talib.KDJ(h, l, c, 9, 3, RMA, 3, RMA)[2])
    put("smi", talib.SMI(h, l, c, 13, 2, 25, 9)[0])
    put("fosc5", talib.FOSC(c, 5))
    bull, bear = talib.ERI(h, l, c, 13)
    put("eri_bull13", bull / c)
    put("eri_bear13", bear / c)

    put("natr14", talib.NATR(h, l, c, 14))
    put("natr50", talib.NATR(h, l, c, 50))
    put("trange", talib.TRANGE(h, l, c) / c)
    upper, middle, lower = talib.BBANDS(c, 20, 2.0, 2.0, SMA)
    put("percent_b20", (c - lower) / (upper - lower))
    put("bb_width20", (upper - lower) / middle)
    upper, _, lower = talib.KC(h, l, c, 20, 10, 2.0)
    put("kc_pos20", (c - lower) / (upper - lower))
    for n in (20, 55):
        upper, _, lower = talib.DONCHIAN(h, l, n)
        put(f"donchian_pos{n}", (c - lower) / (upper - lower))
    put("massi", talib.MASSI(h, l, 9, 25))
    put("cvi", talib.CVI(h, l, 10, 10))
    put("rvi14", talib.RVI(c, 14, 10))

    put("percent_rank100", talib.PERCENTRANK(c, 100))
    put("ht_dcperiod", talib.HT_DCPERIOD(c))
    put("ht_trendmode", after(63, talib.HT_TRENDMODE(c)))

    for name, function, parameters in (
        ("cdl_engulfing", "CDLENGULFING", ()),
        ("cdl_hammer", "CDLHAMMER", ()),
        ("cdl_shooting_star", "CDLSHOOTINGSTAR", ()),
        ("cdl_doji", "CDLDOJI", ()),
        ("cdl_morning_star", "CDLMORNINGSTAR", (0.3,)),
        ("cdl_evening_star", "CDLEVENINGSTAR", (0.3,)),
        ("cdl_harami", "CDLHARAMI", ()),
        ("cdl_marubozu", "CDLMARUBOZU", ()),
        ("cdl_3_white_soldiers", "CDL3WHITESOLDIERS", ()),
        ("cdl_3_black_crows", "CDL3BLACKCROWS", ()),
        ("cdl_piercing", "CDLPIERCING", ()),
        ("cdl_dark_cloud_cover", "CDLDARKCLOUDCOVER", (0.5,)),
    ):
        lookback = abstract.Function(function).lookback
        put(name, after(lookback, np.sign(getattr(talib, function)(o, h, l, c, *parameters))))

    if v is not None:
        average = talib.SMA(v, 20)
        put("rvol20", talib.RVOL(v, 20))
        total = pd.Series(v).rolling(20).sum().to_numpy()
        obv, ad, pvt = talib.OBV(c, v), talib.AD(h, l, c, v), talib.PVT(c, v)
        put("obv_change20", (obv - shift(obv, 20)) / total)
        put("ad_change20", (ad - shift(ad, 20)) / total)
        put("adosc", talib.ADOSC(h, l, c, v, 3, 10) / average)
        put("cmf20", talib.CMF(h, l, c, v, 20))
        put("mfi14", talib.MFI(h, l, c, v, 14))
        put("efi13", talib.EFI(c, v, 13) / (c * average))
        put("dev_vwma20", deviation(talib.VWMA(c, v, 20)))
        put("pvo", talib.PVO(v, 12, 26, EMA))
        put("pvt_change20", (pvt - shift(pvt, 20)) / average)
        nvi = talib.NVI(c, v)
        put("dev_nvi255", nvi / talib.EMA(nvi, 255) - 1)
    return columns


def formula_columns(t, o, h, l, c, v):
    """Features that TA-Lib does not have, from pandas and numpy."""
    columns = {}
    close, ln = pd.Series(c), np.log
    r = ln(close / close.shift())
    for n in (1, 2, 3, 5, 10, 20, 60):
        columns[f"ret{n}"] = ln(close / close.shift(n))
    columns["ret_intra"], columns["ret_gap"], columns["range_ln"] = ln(c / o), ln(o / close.shift()), ln(h / l)
    span = h - l
    with np.errstate(divide="ignore", invalid="ignore"):
        share = lambda x: np.where(span == 0, 0.0, x / span)
        columns["clv"] = share((c - l) - (h - c))
        columns["body"] = share(np.abs(c - o))
        columns["wick_up"] = share(h - np.maximum(o, c))
        columns["wick_dn"] = share(np.minimum(o, c) - l)
    columns["ret20_z"] = windows(r, 20, lambda w: w.sum(axis=0) / (std(w) * 20**0.5))
    at = np.arange(20.0)
    columns["linreg_r2_20"] = windows(close, 20, lambda w: correlation(w, np.broadcast_to(at[:, None], w.shape)) ** 2)

    for n in (5, 20, 60):
        columns[f"std{n}"] = windows(r, n, std)
    columns["ewma_vol"] = (r**2).ewm(alpha=0.06, adjust=False).mean() ** 0.5
    mean20 = lambda x: windows(pd.Series(x), 20, lambda w: w.mean(axis=0))
    ln2 = np.log(2)
    with np.errstate(invalid="ignore"):
        columns["parkinson20"] = np.sqrt(mean20(ln(h / l) ** 2) / (4 * ln2))
        columns["garman_klass20"] = np.sqrt(mean20(0.5 * ln(h / l) ** 2 - (2 * ln2 - 1) * ln(c / o) ** 2))
        rs = ln(h / c) * ln(h / o) + ln(l / c) * ln(l / o)
        columns["rogers_satchell20"] = np.sqrt(mean20(rs))
        k = 0.34 / (1.34 + 21 / 19)
        variance = lambda x: windows(pd.Series(x), 20, lambda w: std(w) ** 2)
        overnight = ln(o / close.shift())
        columns["yang_zhang20"] = np.sqrt(variance(overnight) + k * variance(ln(c / o)) + (1 - k) * mean20(rs))
    columns["std5_std60"] = columns["std5"] / columns["std60"]
    columns["vol_of_vol20"] = windows(pd.Series(columns["std20"]), 20, std)
    sum20 = lambda x: windows(pd.Series(x), 20, lambda w: w.sum(axis=0))
    bipower = np.pi / 2 * sum20(r.abs() * r.abs().shift())
    columns["bipower20"] = bipower
    columns["jump_share20"] = np.maximum(0, 1 - bipower / sum20(r**2))
    drawdown = lambda w: w / np.maximum.accumulate(w, axis=0) - 1
    columns["ulcer14"] = windows(close, 14, lambda w: np.sqrt(((100 * drawdown(w)) ** 2).mean(axis=0)))
    columns["max_drawdown60"] = windows(close, 60, lambda w: drawdown(w).min(axis=0))

    true_high, true_low = np.maximum(h, shift(c)), np.minimum(l, shift(c))
    path = windows(true_high - true_low, 14, lambda w: w.sum(axis=0))
    box = windows(true_high, 14, lambda w: w.max(axis=0)) - windows(true_low, 14, lambda w: w.min(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["chop14"] = 100 * ln(path / box) / ln(14)

    d = close.diff()
    pairs = windows2(d, d.shift(), 20, lambda x, y: ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / 19)
    columns["roll20"] = 2 * np.sqrt(np.maximum(0, -pairs)) / c
    columns["corwin_schultz"] = corwin_schultz(pd.Series(h), pd.Series(l))

    columns["skew20"] = windows(r, 20, lambda w: moment(w, 3) * 20 / (19 * 18))
    columns["kurt60"] = windows(
        r, 60, lambda w: moment(w, 4) * 60 * 61 / (59 * 58 * 57) - 3 * 59**2 / (58 * 57)
    )
    columns["autocorr1_20"] = windows(r, 20, lambda w: correlation(w[1:], w[:-1]))
    columns["autocorr5_60"] = windows(r, 60, lambda w: correlation(w[5:], w[:-5]))
    columns["hurst100"] = windows(r, 100, hurst)
    columns["variance_ratio60"] = windows(r, 60, variance_ratio)
    weights = [1.0]
    while abs(weights[-1]) >= 1e-4:
        weights.append(-weights[-1] * (0.4 - len(weights) + 1) / len(weights))
    weights = np.array(weights[:-1])
    columns["frac_diff"] = np.convolve(ln(c), weights)[: len(c)]
    columns["frac_diff"][: len(weights) - 1] = np.nan
    for n in (20, 60):
        columns[f"z{n}"] = windows(close, n, lambda w: (w[-1] - w.mean(axis=0)) / std(w))
    columns["cusum"] = cusum(r.to_numpy(), columns["std20"])
    columns["perm_entropy50"] = permutation_entropy(c)

    day = 86_400_000
    hour = t % day / 3_600_000
    weekday = (t // day + 3) % 7
    columns["hour_sin"], columns["hour_cos"] = np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24)
    columns["weekday_sin"] = np.sin(2 * np.pi * weekday / 7)
    columns["weekday_cos"] = np.cos(2 * np.pi * weekday / 7)
    columns["session"] = np.select([hour < 7, hour < 13, hour < 21], [0.0, 1.0, 2.0], 3.0)
    dates = pd.to_datetime(pd.Series(t), unit="ms").dt.normalize()
    last = dates.dt.to_period("M").map(lambda month: pd.offsets.BMonthEnd().rollback(month.end_time.normalize()))
    columns["month_end"] = (dates >= pd.to_datetime(last)).astype(float)
    regime = windows(columns["std20"], 252, lambda w: np.floor(3 * (w < w[-1]).sum(axis=0) / 252))
    columns["vol_regime"] = after(271, regime)
    columns["bars_since_gap"] = bars_since_gap(t)

    if v is not None:
        volume = pd.Series(v)
        columns["ln_volume"] = np.log1p(v)
        columns["volume_z20"] = windows(volume, 20, lambda w: (w[-1] - w.mean(axis=0)) / std(w))
        typical = pd.Series((h + l + c) / 3 * v)
        group = t // day
        columns["dev_vwap"] = c / (typical.groupby(group).cumsum() / volume.groupby(group).cumsum()) - 1
        columns["amihud20"] = mean20(r.abs() / (c * v))
        signed = np.sign(r) * np.sqrt(c * v)
        slope = lambda x, y: ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / ((x - x.mean(0)) ** 2).sum(0)
        columns["kyle20"] = windows2(signed, r, 20, slope)
    return {name: np.asarray(value, dtype=float) for name, value in columns.items()}


def shift(x, n=1):
    return np.concatenate([np.full(min(n, len(x)), np.nan), x[:-n]])


def after(lookback, x):
    """NaN for the bars before the first value, where TA-Lib's integer outputs have 0."""
    x = np.asarray(x, dtype=float).copy()
    x[:lookback] = np.nan
    return x


def windows(x, n, function):
    """`function` of all windows at once: axis 0 runs over the window, axis 1 over the bars."""
    x = np.asarray(x, dtype=float)
    result = np.full(len(x), np.nan)
    if len(x) >= n:
        with np.errstate(divide="ignore", invalid="ignore"):
            result[n - 1 :] = function(np.lib.stride_tricks.sliding_window_view(x, n).T)
    return result


def windows2(x, y, n, function):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    view = lambda values: np.lib.stride_tricks.sliding_window_view(values, n).T
    result = np.full(len(x), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        result[n - 1 :] = function(view(x), view(y))
    return result


def std(w):
    return np.where((w == w[0]).all(axis=0), 0.0, w.std(axis=0, ddof=1))


def moment(w, power):
    return (((w - w.mean(axis=0)) / std(w)) ** power).sum(axis=0)


def correlation(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return (x * y).sum(axis=0) / np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))


def variance_ratio(w):
    n, mean = len(w), w.mean(axis=0)
    pairs = ((w[1:] + w[:-1] - 2 * mean) ** 2).sum(axis=0) / (2 * (n - 1) * (1 - 2 / n))
    return pairs / w.var(axis=0, ddof=1)


def hurst(w):
    sizes, ranges = [], []
    for pieces in (1, 2, 4, 8):
        size = len(w) // pieces
        x = w[len(w) - size * pieces :].reshape(pieces, size, -1)
        x = x - x.mean(axis=1, keepdims=True)
        path = x.cumsum(axis=1)
        rescaled = (path.max(axis=1) - path.min(axis=1)) / x.std(axis=1)
        sizes.append(np.log(size))
        ranges.append(np.log(rescaled.mean(axis=0)))
    sizes = np.array(sizes) - np.mean(sizes)
    return (sizes[:, None] * np.array(ranges)).sum(axis=0) / (sizes**2).sum()


def bars_since_gap(t):
    counts, result, bars = Counter(), np.full(len(t), np.nan), 0
    for i, step in enumerate(np.diff(t).tolist(), start=1):
        modal = min(counts, key=lambda step: (-counts[step], step)) if counts else step
        bars = 0 if step > 1.5 * modal else bars + 1
        counts[step] += 1
        result[i] = bars
    return result


def corwin_schultz(h, l):
    square = lambda high, low: np.log(high / low) ** 2
    beta = square(h, l) + square(h.shift(), l.shift())
    gamma = square(np.maximum(h, h.shift()), np.minimum(l, l.shift()))
    divisor = 3 - 2 * 2**0.5
    alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / divisor - np.sqrt(gamma / divisor)
    spread = 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))
    return spread.where(spread.isna(), spread.clip(lower=0))


def cusum(r, threshold):
    result, up, down = np.full(len(r), np.nan), 0.0, 0.0
    for i in np.flatnonzero(~np.isnan(threshold)):
        up, down = max(0.0, up + r[i]), min(0.0, down + r[i])
        result[i] = 0.0
        if up > threshold[i]:
            result[i], up = 1.0, 0.0
        elif down < -threshold[i]:
            result[i], down = -1.0, 0.0
    return result


def permutation_entropy(c):
    order = np.argsort(np.lib.stride_tricks.sliding_window_view(c, 3), axis=1, kind="stable")
    code = order @ np.array([9, 3, 1])
    result = np.full(len(c), np.nan)
    counts = np.stack([pd.Series(code == value).rolling(48).sum().to_numpy() for value in np.unique(code)])
    share = counts / 48
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(share > 0, -share * np.log(share), 0.0)
    entropy = terms.sum(axis=0) / np.log(6)
    entropy[:47] = np.nan
    result[2:] = entropy
    return result


def compare(ours, theirs):
    """Returns (bars compared, largest error, message)."""
    theirs = np.where(np.isfinite(theirs), theirs, np.nan)
    missing = np.isnan(ours) != np.isnan(theirs)
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    size = np.abs(theirs[both])
    error = np.abs(ours[both] - theirs[both]) / np.maximum(size, size.mean() if size.any() else 1.0)
    largest = error.max() if len(error) else 0.0
    message = ""
    if missing.any():
        message = f"{missing.sum()} bars are missing on one side only, first {np.flatnonzero(missing)[0]}"
    elif largest > TOLERANCE:
        row = np.flatnonzero(both)[error.argmax()]
        message = f"ours {ours[row]!r}, theirs {theirs[row]!r} at bar {row}"
    return both.sum(), largest, message


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bars")
    parser.add_argument("features")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    bars, ours = pd.read_csv(arguments.bars), pd.read_csv(arguments.features)
    o, h, l, c = (bars[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close"))
    v = bars["volume"].to_numpy(dtype=float)
    v = v if np.nansum(v) > 0 else None
    t = pd.to_datetime(bars["timestamp"], utc=True).dt.tz_localize(None).astype("datetime64[ms]").astype("int64").to_numpy()

    start = time.process_time()
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = ta_columns(o, h, l, c, v)
    elapsed = time.process_time() - start
    num_ta = len(theirs)
    theirs |= formula_columns(t, o, h, l, c, v)

    failed = 0
    for name, column in theirs.items():
        count, largest, message = compare(ours[name].to_numpy(dtype=float), column)
        failed += bool(message)
        print(f"{'FAIL' if message else 'ok':5}{name:22}{count:8} bars  error {largest:.1e}  {message}")
    print(f"{len(theirs) - failed} of {len(theirs)} match ({num_ta} from TA-Lib {talib.__ta_version__.decode().split()[0]})")
    print("not compared:", ", ".join(name for name in ours.columns if name not in theirs) or "none")
    if arguments.time:
        print(f"TA-Lib took {elapsed:.3f} CPU s for {num_ta} columns of {len(c)} bars")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
