//! Reference values: `indicator_golden.csv` (Stock.Indicators, see the data notes) and published numbers.

use std::collections::HashMap;

use super::super::engine::Op;
use super::super::memory::fractional_weights;
use super::super::ops::ta;
use super::super::trend::r_squared;
use super::*;

struct Golden {
    bars: Bars,
    matrix: FeatureMatrix,
    columns: HashMap<String, Vec<f64>>,
}

fn golden() -> Option<Golden> {
    let bars = read("indicator_quotes.csv")?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/indicator_golden.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let mut columns: HashMap<String, Vec<f64>> = HashMap::new();
    for record in reader.records() {
        for (name, text) in names.iter().zip(record.unwrap().iter()) {
            columns.entry(name.clone()).or_default().push(text.parse().unwrap_or(f64::NAN));
        }
    }
    let matrix = compute(&all(), &bars);
    Some(Golden { bars, matrix, columns })
}

impl Golden {
    fn feature(&self, name: &str) -> &[f64] {
        self.matrix.column(usize::from(definition(name).unwrap().id) - 1)
    }

    fn reference(&self, name: &str) -> &[f64] {
        &self.columns[name]
    }

    /// Counts the bars from `from` on where `ours` is not `theirs` within 1e-9, and checks that many are there.
    #[track_caller]
    fn mismatches(&self, name: &str, from: usize, ours: impl Fn(usize) -> f64) -> usize {
        let theirs = self.reference(name);
        let compared: Vec<usize> = (from..theirs.len()).filter(|&row| theirs[row].is_finite()).collect();
        assert!(compared.len() >= 150, "`{name}` has only {} values to compare", compared.len());
        let differs = |row: usize| {
            let (ours, theirs) = (ours(row), theirs[row]);
            let agrees = (ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0);
            !agrees
        };
        let wrong: Vec<usize> = compared.into_iter().filter(|&row| differs(row)).collect();
        if let Some(&row) = wrong.last() {
            eprintln!("`{name}` differs at {} bars, last {row}: {} for {}", wrong.len(), ours(row), theirs[row]);
        }
        wrong.len()
    }

    #[track_caller]
    fn check(&self, name: &str, from: usize, ours: impl Fn(usize) -> f64) {
        assert_eq!(self.mismatches(name, from, ours), 0, "`{name}`");
    }
}

/// The output of one op over whole columns.
fn run(op: &impl Op, inputs: &[&[f64]]) -> Vec<f64> {
    let mut output = vec![f64::NAN; inputs[0].len()];
    op.batch(inputs, &mut [&mut output[op.lookback()..]]);
    output
}

#[test]
fn features_match_the_second_library() {
    let Some(g) = golden() else { return };
    let (close, volume) = (g.bars.close(), g.bars.volume());
    // Equal from the first value on.
    for (reference, feature) in [
        ("adl.moneyFlowMultiplier", "clv"),
        ("bb.percentB", "percent_b20"),
        ("bb.width", "bb_width20"),
        ("cci.cci", "cci20"),
        ("chop.chop", "chop14"),
        ("cmf.cmf", "cmf20"),
        ("cmo.cmo", "cmo14"),
        ("hurst.hurstExponent", "hurst100"),
        ("mfi.mfi", "mfi14"),
        ("pvo.pvo", "pvo"),
        ("rsi.rsi", "rsi14"),
        ("stoch.k", "stoch_k14"),
        ("stoch.d", "stoch_d14"),
        ("tsi.tsi", "tsi"),
        ("ulcer.ulcerIndex", "ulcer14"),
        ("uo.ultimate", "ultosc"),
        ("vortex.pvi", "vortex_plus14"),
        ("vortex.nvi", "vortex_minus14"),
        ("willr.williamsR", "willr14"),
        ("atr.atrp", "natr14"),
    ] {
        g.check(reference, definition(feature).unwrap().lookback, |row| g.feature(feature)[row]);
    }
    // As a distance of the close.
    for (reference, feature) in [
        ("sma.sma", "dev_sma20"),
        ("macd.fastEma", "dev_ema12"),
        ("macd.slowEma", "dev_ema26"),
        ("ichimoku.tenkanSen", "dev_tenkan9"),
        ("ichimoku.kijunSen", "dev_kijun26"),
        ("supertrend.superTrend", "dev_supertrend"),
    ] {
        g.check(reference, 26, |row| close[row] / (g.feature(feature)[row] + 1.0));
    }
    g.check("kama.kama", 10, |row| close[row] / (g.feature("dev_kama10")[row] + 1.0));
    g.check("kama.er", 10, |row| g.feature("er10")[row]);
    // Per close.
    for (reference, feature) in [
        ("atr.tr", "trange"),
        ("awesome.oscillator", "ao"),
        ("elder-ray.bullPower", "eri_bull13"),
        ("elder-ray.bearPower", "eri_bear13"),
    ] {
        g.check(reference, definition(feature).unwrap().lookback, |row| g.feature(feature)[row] * close[row]);
    }
    // Windows of other columns.
    let sum = |values: &[f64], row: usize| values[row - 19..=row].iter().sum::<f64>();
    let obv = g.reference("obv.obv");
    let change = |row: usize| g.feature("obv_change20")[row] * sum(volume, row) + obv[row - 20];
    g.check("obv.obv", 20, change);
    let adl = g.reference("adl.adl");
    let change = |row: usize| g.feature("ad_change20")[row] * sum(volume, row) + adl[row - 20];
    g.check("adl.adl", 20, change);
    let bop = g.feature("bop");
    g.check("bop.bop", 13, |row| bop[row - 13..=row].iter().sum::<f64>() / 14.0);
    // Their channel leaves the current bar out: ours one bar before.
    let (upper, lower) = (g.reference("donchian.upperBand"), g.reference("donchian.lowerBand"));
    let position = |row: usize| lower[row] + g.feature("donchian_pos20")[row - 1] * (upper[row] - lower[row]);
    g.check("donchian.upperBand", 20, |row| {
        assert!((position(row) - close[row - 1]).abs() < 1e-9, "donchian at {row}");
        upper[row]
    });
}

#[test]
fn features_that_differ_only_in_their_start_match_from_bar_320() {
    let Some(g) = golden() else { return };
    let (close, volume) = (g.bars.close(), g.bars.volume());
    for (reference, feature) in [
        ("adx.adx", "adx14"),
        ("adx.pdi", "plus_di14"),
        ("adx.mdi", "minus_di14"),
        ("adx.dx", "dx14"),
        ("smi.smi", "smi"),
    ] {
        g.check(reference, 320, |row| g.feature(feature)[row]);
    }
    for (reference, feature) in [("macd.macd", "macd"), ("macd.signal", "macd_signal"), ("macd.histogram", "macd_hist")]
    {
        g.check(reference, 320, |row| g.feature(feature)[row] * close[row]);
    }
    for (reference, feature) in [("tema.tema", "dev_tema20"), ("t3.t3", "dev_t3_5"), ("psar.sar", "dev_sar")] {
        g.check(reference, 320, |row| close[row] / (g.feature(feature)[row] + 1.0));
    }
    let adosc = |row: usize| g.feature("adosc")[row] * volume[row - 19..=row].iter().sum::<f64>() / 20.0;
    g.check("chaikin-osc.oscillator", 320, adosc);
    // TA-Lib takes the latest of equal extremes, they the earliest: one high and one low in these bars.
    for (reference, feature, ties) in [
        ("aroon.aroonUp", "aroon_up25", 1),
        ("aroon.aroonDown", "aroon_down25", 1),
        ("aroon.oscillator", "aroon_osc25", 2),
    ] {
        assert_eq!(g.mismatches(reference, 25, |row| g.feature(feature)[row]), ties, "{reference}");
    }
    // They take the middle of the bar where TA-Lib takes the close.
    let middle = mapped(&g.bars, |_, bar| Bar { close: f64::midpoint(bar.high, bar.low), ..bar });
    let set = FeatureSet::new("cycle", 1, &["dev_mama", "dev_fama", "dev_ht_trendline"], 320).unwrap();
    let matrix = compute(&set, &middle);
    for (column, reference) in ["mama.mama", "mama.fama", "htl.trendline"].into_iter().enumerate() {
        g.check(reference, 320, |row| middle.close()[row] / (matrix.value(row, column) + 1.0));
    }
}

#[test]
fn signs_match_the_second_library() {
    let Some(g) = golden() else { return };
    let close = g.bars.close();
    let (up, down) = (g.reference("supertrend.lowerBand"), g.reference("supertrend.upperBand"));
    let (span_a, span_b) = (g.reference("ichimoku.senkouSpanA"), g.reference("ichimoku.senkouSpanB"));
    for row in 77..close.len() {
        assert_ne!(up[row].is_finite(), down[row].is_finite());
        assert_eq!(g.feature("supertrend_dir")[row], if up[row].is_finite() { 1.0 } else { -1.0 }, "row {row}");
        let expected = if close[row] > span_a[row].max(span_b[row]) {
            1.0
        } else if close[row] < span_a[row].min(span_b[row]) {
            -1.0
        } else {
            0.0
        };
        assert_eq!(g.feature("cloud_side")[row], expected, "row {row}");
    }
}

#[test]
fn the_functions_match_with_the_parameters_of_the_second_library() {
    let Some(g) = golden() else { return };
    let (high, low, close, volume) = (g.bars.high(), g.bars.low(), g.bars.close(), g.bars.volume());
    let check = |name: &str, from: usize, values: Vec<f64>| g.check(name, from, |row| values[row]);
    check("ema.ema", 19, run(&ta!(ema ema_open ema_lookback EmaStream; x; 20; y), &[close]));
    check("wma.wma", 13, run(&ta!(wma wma_open wma_lookback WmaStream; x; 14; y), &[close]));
    check("hma.hma", 16, run(&ta!(hma hma_open hma_lookback HmaStream; x; 14; y), &[close]));
    check("dema.dema", 320, run(&ta!(dema dema_open dema_lookback DemaStream; x; 14; y), &[close]));
    check("smma.smma", 20, run(&ta!(rma rma_open rma_lookback RmaStream; x; 20; y), &[close]));
    check("trix.trix", 320, run(&ta!(trix trix_open trix_lookback TrixStream; x; 14; y), &[close]));
    check("roc.roc", 14, run(&ta!(roc roc_open roc_lookback RocStream; x; 14; y), &[close]));
    check("roc.momentum", 14, run(&ta!(mom mom_open mom_lookback MomStream; x; 14; y), &[close]));
    check("vwma.vwma", 13, run(&ta!(vwma vwma_open vwma_lookback VwmaStream; c v; 14; y), &[close, volume]));
    check("force.forceIndex", 2, run(&ta!(efi efi_open efi_lookback EfiStream; c v; 2; y), &[close, volume]));
    check("atr.atr", 14, run(&ta!(atr atr_open atr_lookback AtrStream; h l c; 14; y), &[high, low, close]));
    let op = ta!(linearreg_slope linearreg_slope_open linearreg_slope_lookback LinearregSlopeStream; x; 14; y);
    check("slope.slope", 13, run(&op, &[close]));
    g.check("slope.rSquared", 13, |row| r_squared(&close[row - 13..=row]));
}

/// definitions.md 1f: last bar of `spy_d1.csv`.
#[test]
fn range_volatility_and_fractional_difference_of_spy() {
    assert_eq!(fractional_weights().len(), 282);
    let Some(bars) = read("spy_d1.csv") else { return };
    let expected = [
        ("parkinson20", 0.005_447_557_858_47),
        ("garman_klass20", 0.005_548_512_004_4),
        ("rogers_satchell20", 0.005_659_728_170_66),
        ("yang_zhang20", 0.006_623_021_853_11),
        ("std20", 0.005_025_594_546_55),
        ("frac_diff", 0.442_558_232_186),
    ];
    let names = expected.map(|(name, _)| name);
    let values = compute_at(&FeatureSet::new("spy", 1, &names, 282).unwrap(), &bars, bars.len() - 1).unwrap();
    for ((name, expected), value) in expected.into_iter().zip(values) {
        assert!((value - expected).abs() < 1e-11, "{name}: {value} for {expected}");
    }
}
