//! Group D: volatility and range.
//!
//! Sources: Parkinson 1980; Garman and Klass 1980; Rogers and Satchell 1991; Yang and Zhang 2000;
//! Barndorff-Nielsen and Shephard 2004 (bipower variation); RiskMetrics 1996 (exponential weights); Martin 1987
//! (Ulcer index).

use std::f64::consts::{FRAC_PI_2, LN_2};

use ta_lib::MAType;

use super::Group::Volatility;
use super::engine::{CLOSE, Graph, HIGH, LOW, OPEN, Slot};
use super::ops::{map, scan, ta, window};
use super::stats;

impl Graph {
    /// Standard deviation over `n` values, `n - 1` degrees of freedom.
    pub(super) fn std_dev(&mut self, x: Slot, n: usize) -> Slot {
        let [slot] = self.node(&format!("STD({n})"), &[x], window(n, |[x]| stats::std_dev(x)));
        slot
    }

    /// Where the close lies between two lines; missing where they meet.
    fn position(&mut self, upper: Slot, lower: Slot) -> Slot {
        let [slot] = self.node("POSITION", &[CLOSE, upper, lower], map(|[c, u, l]| (c - l) / (u - l)));
        slot
    }
}

pub(super) fn define(g: &mut Graph) {
    let shape = [OPEN, HIGH, LOW, CLOSE];
    let bar = [HIGH, LOW, CLOSE];

    for (id, name, n, description) in [
        (98, "natr14", 14, "average true range over 14 bars, percent of close"),
        (99, "natr50", 50, "average true range over 50 bars, percent of close"),
    ] {
        let [slot] = g.node(&format!("NATR({n})"), &bar, ta!(natr natr_open natr_lookback NatrStream; h l c; n; y));
        g.feature(id, name, Volatility, description, slot);
    }

    let [range] = g.node("TRANGE", &bar, ta!(trange trange_open trange_lookback TrangeStream; h l c; ; y));
    let slot = g.per_close(range);
    g.feature(100, "trange", Volatility, "true range per close", slot);

    let op = ta!(bbands bbands_open bbands_lookback BbandsStream; x; 20, 2.0, 2.0, MAType::SMA; up mid low);
    let [upper, middle, lower] = g.node("BBANDS(20,2,2,SMA)", &[CLOSE], op);
    let slot = g.position(upper, lower);
    g.feature(101, "percent_b20", Volatility, "position in the Bollinger bands (20, 2)", slot);
    let [slot] = g.node("(x-y)/z", &[upper, lower, middle], map(|[u, l, m]| (u - l) / m));
    g.feature(102, "bb_width20", Volatility, "width of the Bollinger bands (20, 2) over the middle", slot);

    let op = ta!(kc kc_open kc_lookback KcStream; h l c; 20, 10, 2.0; up mid low);
    let [upper, _, lower] = g.node("KC(20,10,2)", &bar, op);
    let slot = g.position(upper, lower);
    g.feature(103, "kc_pos20", Volatility, "position in the Keltner channel (20, 10, 2)", slot);

    for (id, name, n, description) in [
        (104, "donchian_pos20", 20, "position in the Donchian channel over 20 bars"),
        (105, "donchian_pos55", 55, "position in the Donchian channel over 55 bars"),
    ] {
        let op = ta!(donchian donchian_open donchian_lookback DonchianStream; h l; n; up mid low);
        let [upper, _, lower] = g.node(&format!("DONCHIAN({n})"), &[HIGH, LOW], op);
        let slot = g.position(upper, lower);
        g.feature(id, name, Volatility, description, slot);
    }

    let r = g.log_return(CLOSE, 1);
    for (id, name, n, description) in [
        (106, "std5", 5, "standard deviation of log returns over 5 bars"),
        (107, "std20", 20, "standard deviation of log returns over 20 bars"),
        (108, "std60", 60, "standard deviation of log returns over 60 bars"),
    ] {
        let slot = g.std_dev(r, n);
        g.feature(id, name, Volatility, description, slot);
    }

    let op = scan(0, None, |variance: &mut Option<f64>, [r]: [f64; 1]| {
        let next = variance.map_or(r * r, |variance| 0.94 * variance + 0.06 * r * r);
        *variance = Some(next);
        [next.sqrt()]
    });
    let [slot] = g.node("EWMAVOL(0.94)", &[r], op);
    g.feature(109, "ewma_vol", Volatility, "exponentially weighted volatility of log returns, lambda 0.94", slot);

    let range = g.log_range();
    let op = window(20, |[range]| (stats::sum_of(range, |x| x * x) / 20.0 / (4.0 * LN_2)).sqrt());
    let [slot] = g.node("PARKINSON(20)", &[range], op);
    g.feature(110, "parkinson20", Volatility, "Parkinson range volatility over 20 bars", slot);

    let terms = map(|[o, h, l, c]: [f64; 4]| {
        let (range, body) = ((h / l).ln(), (c / o).ln());
        0.5 * range * range - (2.0 * LN_2 - 1.0) * body * body
    });
    let [term] = g.node("GKTERM", &shape, terms);
    let [slot] = g.node("SQRTMEAN(20)", &[term], window(20, |[x]| (stats::sum(x) / 20.0).sqrt()));
    g.feature(111, "garman_klass20", Volatility, "Garman-Klass range volatility over 20 bars", slot);

    let terms = map(|[o, h, l, c]: [f64; 4]| (h / c).ln() * (h / o).ln() + (l / c).ln() * (l / o).ln());
    let [rogers_satchell] = g.node("RSTERM", &shape, terms);
    let [slot] = g.node("SQRTMEAN(20)", &[rogers_satchell], window(20, |[x]| (stats::sum(x) / 20.0).sqrt()));
    g.feature(112, "rogers_satchell20", Volatility, "Rogers-Satchell range volatility over 20 bars", slot);

    let [overnight] = g.node("GAP", &[OPEN, CLOSE], window(2, |[o, c]| (o[1] / c[0]).ln()));
    let [intraday] = g.node("ln(C/O)", &[OPEN, CLOSE], map(|[o, c]| (c / o).ln()));
    let op = window(20, |[overnight, intraday, term]| {
        let n = 20.0;
        let k = 0.34 / (1.34 + (n + 1.0) / (n - 1.0));
        let open_to_close = k * stats::variance(intraday) + (1.0 - k) * stats::sum(term) / n;
        (stats::variance(overnight) + open_to_close).sqrt()
    });
    let [slot] = g.node("YANGZHANG(20)", &[overnight, intraday, rogers_satchell], op);
    g.feature(113, "yang_zhang20", Volatility, "Yang-Zhang range volatility over 20 bars", slot);

    let (short, middle, long) = (g.std_dev(r, 5), g.std_dev(r, 20), g.std_dev(r, 60));
    let [slot] = g.node("x/y", &[short, long], map(|[x, y]| x / y));
    g.feature(114, "std5_std60", Volatility, "volatility over 5 bars over that of 60 bars", slot);

    let slot = g.std_dev(middle, 20);
    g.feature(115, "vol_of_vol20", Volatility, "standard deviation over 20 bars of the volatility over 20 bars", slot);

    let [product] = g.node("abs(r)abs(r1)", &[r], window(2, |[r]| r[0].abs() * r[1].abs()));
    let [bipower] = g.node("BIPOWER(20)", &[product], window(20, |[x]| FRAC_PI_2 * stats::sum(x)));
    g.feature(116, "bipower20", Volatility, "bipower variation over 20 bars", bipower);

    let [realised] = g.node("SUMSQ(20)", &[r], window(20, |[r]| stats::sum_of(r, |r| r * r)));
    let [slot] = g.node(
        "JUMP",
        &[bipower, realised],
        map(|[bv, rv]| if rv > 0.0 { (1.0 - bv / rv).max(0.0) } else { f64::NAN }),
    );
    g.feature(117, "jump_share20", Volatility, "share of the variance over 20 bars that comes from jumps", slot);

    let [slot] = g.node("ULCER(14)", &[CLOSE], window(14, |[c]| ulcer(c)));
    g.feature(118, "ulcer14", Volatility, "Ulcer index over 14 bars: root mean square drawdown, percent", slot);

    let [slot] = g.node("MASSI(9,25)", &[HIGH, LOW], ta!(massi massi_open massi_lookback MassiStream; h l; 9, 25; y));
    g.feature(119, "massi", Volatility, "mass index (9, 25)", slot);

    let [slot] = g.node("CVI(10,10)", &[HIGH, LOW], ta!(cvi cvi_open cvi_lookback CviStream; h l; 10, 10; y));
    g.feature(120, "cvi", Volatility, "Chaikin volatility (10, 10), percent", slot);

    let [slot] = g.node("RVI(14,10)", &[CLOSE], ta!(rvi rvi_open rvi_lookback RviStream; x; 14, 10; y));
    g.feature(121, "rvi14", Volatility, "relative volatility index (14, 10)", slot);

    let op = ta!(choptr choptr_open choptr_lookback ChoptrStream; h l c; 14; y);
    let [slot] = g.node("CHOPTR(14)", &bar, op);
    g.feature(122, "chop14", Volatility, "choppiness index over 14 bars, box of true ranges", slot);

    let [slot] = g.node("MAXDRAWDOWN(60)", &[CLOSE], window(60, |[c]| max_drawdown(c)));
    g.feature(
        123,
        "max_drawdown60",
        Volatility,
        "deepest fall from a peak within 60 bars, as a share, 0 or below",
        slot,
    );
}

/// Root mean square of the percent below the highest close so far in the window.
fn ulcer(close: &[f64]) -> f64 {
    let mut peak = close[0];
    let mut total = 0.0;
    for &close in close {
        peak = peak.max(close);
        let drawdown = 100.0 * (close - peak) / peak;
        total += drawdown * drawdown;
    }
    (total / close.len() as f64).sqrt()
}

/// Lowest close over the highest close before it, less 1.
fn max_drawdown(close: &[f64]) -> f64 {
    let mut peak = close[0];
    let mut deepest = 0.0_f64;
    for &close in close {
        peak = peak.max(close);
        deepest = deepest.min(close / peak - 1.0);
    }
    deepest
}
