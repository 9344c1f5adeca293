//! Group A: returns and the shape of a bar.

use super::Group::Returns;
use super::engine::{CLOSE, Graph, HIGH, LOW, OPEN, Slot};
use super::ops::{map, ta, window};
use super::stats;

impl Graph {
    /// Logarithmic return over `n` bars, `ln(C_t / C_{t-n})`.
    pub(super) fn log_return(&mut self, close: Slot, n: usize) -> Slot {
        let [slot] = self.node(&format!("LNRET({n})"), &[close], window(n + 1, move |[c]| (c[n] / c[0]).ln()));
        slot
    }

    /// `ln(H / L)`.
    pub(super) fn log_range(&mut self) -> Slot {
        let [slot] = self.node("LNRANGE", &[HIGH, LOW], map(|[h, l]| (h / l).ln()));
        slot
    }

    /// Average true range (TA-Lib ATR).
    pub(super) fn atr(&mut self, n: i32) -> Slot {
        let op = ta!(atr atr_open atr_lookback AtrStream; h l c; n; y);
        let [slot] = self.node(&format!("ATR({n})"), &[HIGH, LOW, CLOSE], op);
        slot
    }
}

/// A part of the bar over its range; 0 for a bar without range.
fn share(part: f64, high: f64, low: f64) -> f64 {
    if high == low { 0.0 } else { part / (high - low) }
}

/// Where the close lies in the bar, -1 at the low to 1 at the high; 0 for a bar without range.
pub(super) fn close_location(high: f64, low: f64, close: f64) -> f64 {
    share((close - low) - (high - close), high, low)
}

pub(super) fn define(g: &mut Graph) {
    let shape = [OPEN, HIGH, LOW, CLOSE];
    let returns = [
        (1, "ret1", 1, "log return over 1 bar"),
        (2, "ret2", 2, "log return over 2 bars"),
        (3, "ret3", 3, "log return over 3 bars"),
        (4, "ret5", 5, "log return over 5 bars"),
        (5, "ret10", 10, "log return over 10 bars"),
        (6, "ret20", 20, "log return over 20 bars"),
        (7, "ret60", 60, "log return over 60 bars"),
    ];
    for (id, name, n, description) in returns {
        let slot = g.log_return(CLOSE, n);
        g.feature(id, name, Returns, description, slot);
    }

    let [slot] = g.node("ROCP(1)", &[CLOSE], ta!(rocp rocp_open rocp_lookback RocpStream; x; 1; y));
    g.feature(8, "ret1_simple", Returns, "simple return over 1 bar", slot);

    let [slot] = g.node("ln(C/O)", &[OPEN, CLOSE], map(|[o, c]| (c / o).ln()));
    g.feature(9, "ret_intra", Returns, "log return from open to close", slot);

    let [slot] = g.node("GAP", &[OPEN, CLOSE], window(2, |[o, c]| (o[1] / c[0]).ln()));
    g.feature(10, "ret_gap", Returns, "log return from the previous close to the open", slot);

    let slot = g.log_range();
    g.feature(11, "range_ln", Returns, "log of high over low", slot);

    let [slot] = g.node("CLV", &[HIGH, LOW, CLOSE], map(|[h, l, c]| close_location(h, l, c)));
    g.feature(12, "clv", Returns, "close location value: -1 at the low, 1 at the high", slot);

    let [slot] = g.node("BOP", &shape, ta!(bop bop_open bop_lookback BopStream; o h l c; ; y));
    g.feature(13, "bop", Returns, "balance of power: close less open over the range", slot);

    let [slot] = g.node("BODY", &shape, map(|[o, h, l, c]| share((c - o).abs(), h, l)));
    g.feature(14, "body", Returns, "share of the range that is body", slot);

    let [slot] = g.node("WICKUP", &shape, map(|[o, h, l, c]| share(h - o.max(c), h, l)));
    g.feature(15, "wick_up", Returns, "share of the range above the body", slot);

    let [slot] = g.node("WICKDN", &shape, map(|[o, h, l, c]| share(o.min(c) - l, h, l)));
    g.feature(16, "wick_dn", Returns, "share of the range below the body", slot);

    let atr = g.atr(14);
    let [slot] = g.node("GAP/", &[OPEN, CLOSE, atr], window(2, |[o, c, atr]| (o[1] - c[0]) / atr[0]));
    g.feature(17, "gap_atr", Returns, "open less the previous close, in previous ATR(14)", slot);

    let [slot] = g.node("TYPDEV", &[HIGH, LOW, CLOSE], map(|[h, l, c]| (h + l + c) / 3.0 / c - 1.0));
    g.feature(18, "typ_dev", Returns, "typical price over close, less 1", slot);

    let [slot] = g.node("WCLDEV", &[HIGH, LOW, CLOSE], map(|[h, l, c]| (h + l + 2.0 * c) / 4.0 / c - 1.0));
    g.feature(19, "wcl_dev", Returns, "weighted close over close, less 1", slot);

    let r = g.log_return(CLOSE, 1);
    let [slot] =
        g.node("SUM/STD(20)", &[r], window(20, |[r]| stats::sum(r) / (stats::std_dev(r) * (r.len() as f64).sqrt())));
    g.feature(20, "ret20_z", Returns, "return over 20 bars in standard deviations", slot);
}
