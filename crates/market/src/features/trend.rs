//! Group B: trend, mostly as the distance of the close from an average.

use super::Group::Trend;
use super::engine::{CLOSE, Graph, HIGH, LOW, Slot};
use super::ops::{map, ta, window};
use super::stats;

impl Graph {
    /// `C / average - 1`.
    fn deviation(&mut self, average: Slot) -> Slot {
        let [slot] = self.node("C/x-1", &[CLOSE, average], map(|[c, x]| c / x - 1.0));
        slot
    }

    /// `x / y - 1`.
    pub(super) fn excess(&mut self, x: Slot, y: Slot) -> Slot {
        let [slot] = self.node("x/y-1", &[x, y], map(|[x, y]| x / y - 1.0));
        slot
    }

    /// `x / C`.
    pub(super) fn per_close(&mut self, x: Slot) -> Slot {
        let [slot] = self.node("x/C", &[x, CLOSE], map(|[x, c]| x / c));
        slot
    }

    /// Simple moving average (TA-Lib SMA).
    pub(super) fn sma(&mut self, x: Slot, n: i32) -> Slot {
        let [slot] = self.node(&format!("SMA({n})"), &[x], ta!(sma sma_open sma_lookback SmaStream; x; n; y));
        slot
    }

    /// Exponential moving average (TA-Lib EMA).
    pub(super) fn ema(&mut self, x: Slot, n: i32) -> Slot {
        let [slot] = self.node(&format!("EMA({n})"), &[x], ta!(ema ema_open ema_lookback EmaStream; x; n; y));
        slot
    }

    fn linear_slope(&mut self, n: i32) -> Slot {
        let op = ta!(linearreg_slope linearreg_slope_open linearreg_slope_lookback LinearregSlopeStream; x; n; y);
        let [slot] = self.node(&format!("LINEARREG_SLOPE({n})"), &[CLOSE], op);
        slot
    }

    /// Middle of the highest high and the lowest low (TA-Lib MIDPRICE).
    fn mid_price(&mut self, n: i32) -> Slot {
        let op = ta!(midprice midprice_open midprice_lookback MidpriceStream; h l; n; y);
        let [slot] = self.node(&format!("MIDPRICE({n})"), &[HIGH, LOW], op);
        slot
    }
}

pub(super) fn define(g: &mut Graph) {
    let simple = [
        (21, "dev_sma10", 10, "close over SMA(10), less 1"),
        (22, "dev_sma20", 20, "close over SMA(20), less 1"),
        (23, "dev_sma50", 50, "close over SMA(50), less 1"),
        (24, "dev_sma200", 200, "close over SMA(200), less 1"),
    ];
    for (id, name, n, description) in simple {
        let average = g.sma(CLOSE, n);
        let slot = g.deviation(average);
        g.feature(id, name, Trend, description, slot);
    }
    let exponential = [
        (25, "dev_ema9", 9, "close over EMA(9), less 1"),
        (26, "dev_ema12", 12, "close over EMA(12), less 1"),
        (27, "dev_ema26", 26, "close over EMA(26), less 1"),
        (28, "dev_ema50", 50, "close over EMA(50), less 1"),
        (29, "dev_ema200", 200, "close over EMA(200), less 1"),
    ];
    for (id, name, n, description) in exponential {
        let average = g.ema(CLOSE, n);
        let slot = g.deviation(average);
        g.feature(id, name, Trend, description, slot);
    }

    let [average] = g.node("WMA(20)", &[CLOSE], ta!(wma wma_open wma_lookback WmaStream; x; 20; y));
    let slot = g.deviation(average);
    g.feature(30, "dev_wma20", Trend, "close over WMA(20), less 1", slot);

    let [average] = g.node("DEMA(20)", &[CLOSE], ta!(dema dema_open dema_lookback DemaStream; x; 20; y));
    let slot = g.deviation(average);
    g.feature(31, "dev_dema20", Trend, "close over DEMA(20), less 1", slot);

    let [average] = g.node("TEMA(20)", &[CLOSE], ta!(tema tema_open tema_lookback TemaStream; x; 20; y));
    let slot = g.deviation(average);
    g.feature(32, "dev_tema20", Trend, "close over TEMA(20), less 1", slot);

    let [average] = g.node("TRIMA(20)", &[CLOSE], ta!(trima trima_open trima_lookback TrimaStream; x; 20; y));
    let slot = g.deviation(average);
    g.feature(33, "dev_trima20", Trend, "close over TRIMA(20), less 1", slot);

    let [average] = g.node("KAMA(10)", &[CLOSE], ta!(kama kama_open kama_lookback KamaStream; x; 10; y));
    let slot = g.deviation(average);
    g.feature(34, "dev_kama10", Trend, "close over KAMA(10), less 1", slot);

    let [average] = g.node("T3(5,0.7)", &[CLOSE], ta!(t3 t3_open t3_lookback T3Stream; x; 5, 0.7; y));
    let slot = g.deviation(average);
    g.feature(35, "dev_t3_5", Trend, "close over T3(5, 0.7), less 1", slot);

    let [average] = g.node("HMA(20)", &[CLOSE], ta!(hma hma_open hma_lookback HmaStream; x; 20; y));
    let slot = g.deviation(average);
    g.feature(36, "dev_hma20", Trend, "close over HMA(20), less 1", slot);

    let [average] = g.node("ZLEMA(20)", &[CLOSE], ta!(zlema zlema_open zlema_lookback ZlemaStream; x; 20; y));
    let slot = g.deviation(average);
    g.feature(37, "dev_zlema20", Trend, "close over ZLEMA(20), less 1", slot);

    let [average] = g.node("RMA(14)", &[CLOSE], ta!(rma rma_open rma_lookback RmaStream; x; 14; y));
    let slot = g.deviation(average);
    g.feature(38, "dev_rma14", Trend, "close over RMA(14), less 1", slot);

    let [mama, fama] =
        g.node("MAMA(0.5,0.05)", &[CLOSE], ta!(mama mama_open mama_lookback MamaStream; x; 0.5, 0.05; m f));
    let slot = g.deviation(mama);
    g.feature(39, "dev_mama", Trend, "close over MAMA(0.5, 0.05), less 1", slot);
    let slot = g.deviation(fama);
    g.feature(40, "dev_fama", Trend, "close over FAMA(0.5, 0.05), less 1", slot);

    let op = ta!(ht_trendline ht_trendline_open ht_trendline_lookback HtTrendlineStream; x; ; y);
    let [average] = g.node("HT_TRENDLINE", &[CLOSE], op);
    let slot = g.deviation(average);
    g.feature(41, "dev_ht_trendline", Trend, "close over HT_TRENDLINE, less 1", slot);

    let (fast, slow) = (g.sma(CLOSE, 10), g.sma(CLOSE, 20));
    let slot = g.excess(fast, slow);
    g.feature(42, "sma10_sma20", Trend, "SMA(10) over SMA(20), less 1", slot);

    let (fast, slow) = (g.sma(CLOSE, 50), g.sma(CLOSE, 200));
    let slot = g.excess(fast, slow);
    g.feature(43, "sma50_sma200", Trend, "SMA(50) over SMA(200), less 1", slot);

    let (fast, slow) = (g.ema(CLOSE, 12), g.ema(CLOSE, 26));
    let slot = g.excess(fast, slow);
    g.feature(44, "ema12_ema26", Trend, "EMA(12) over EMA(26), less 1", slot);

    let slope = g.linear_slope(14);
    let slot = g.per_close(slope);
    g.feature(45, "slope14", Trend, "slope of the regression line over 14 bars, per close", slot);

    let slope = g.linear_slope(50);
    let slot = g.per_close(slope);
    g.feature(46, "slope50", Trend, "slope of the regression line over 50 bars, per close", slot);

    let [slot] = g.node("LINEARREG_R2(20)", &[CLOSE], window(20, |[c]| r_squared(c)));
    g.feature(47, "linreg_r2_20", Trend, "R squared of the regression line over 20 bars", slot);

    let [forecast] = g.node("TSF(14)", &[CLOSE], ta!(tsf tsf_open tsf_lookback TsfStream; x; 14; y));
    let slot = g.deviation(forecast);
    g.feature(48, "dev_tsf14", Trend, "close over TSF(14), less 1", slot);

    let [stop] = g.node("SAR(0.02,0.2)", &[HIGH, LOW], ta!(sar sar_open sar_lookback SarStream; h l; 0.02, 0.2; y));
    let slot = g.deviation(stop);
    g.feature(49, "dev_sar", Trend, "close over SAR(0.02, 0.2), less 1", slot);

    let op = ta!(supertrend supertrend_open supertrend_lookback SupertrendStream; h l c; 10, 3.0; y + flag);
    let [line, direction] = g.node("SUPERTREND(10,3)", &[HIGH, LOW, CLOSE], op);
    let slot = g.deviation(line);
    g.feature(50, "dev_supertrend", Trend, "close over SUPERTREND(10, 3), less 1", slot);
    g.feature(51, "supertrend_dir", Trend, "direction of SUPERTREND(10, 3): 1 up, -1 down", direction);

    let (tenkan, kijun) = (g.mid_price(9), g.mid_price(26));
    let slot = g.deviation(tenkan);
    g.feature(52, "dev_tenkan9", Trend, "close over the Ichimoku conversion line (9), less 1", slot);
    let slot = g.deviation(kijun);
    g.feature(53, "dev_kijun26", Trend, "close over the Ichimoku base line (26), less 1", slot);

    let span_b = g.mid_price(52);
    let op = window(27, |[close, tenkan, kijun, span_b]| {
        let (span_a, span_b, close) = (f64::midpoint(tenkan[0], kijun[0]), span_b[0], close[26]);
        if close > span_a.max(span_b) {
            1.0
        } else if close < span_a.min(span_b) {
            -1.0
        } else {
            0.0
        }
    });
    let [slot] = g.node("CLOUD(26)", &[CLOSE, tenkan, kijun, span_b], op);
    g.feature(54, "cloud_side", Trend, "1 above, 0 inside, -1 below the Ichimoku cloud (9, 26, 52)", slot);
}

/// Squared correlation of the values with time; NaN where they are all equal.
pub(super) fn r_squared(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mean, middle) = (stats::mean(values), (n - 1.0) / 2.0);
    let (mut products, mut squares) = (0.0, 0.0);
    let mut at = -middle;
    for value in values {
        products += at * (value - mean);
        squares += (value - mean) * (value - mean);
        at += 1.0;
    }
    products * products / (squares * n * (n * n - 1.0) / 12.0)
}
