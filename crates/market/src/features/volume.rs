//! Group E: volume and liquidity.
//!
//! Sources: Amihud 2002; Roll 1984; Corwin and Schultz 2012; Kyle 1985 (in the square root form of Hasbrouck 2009).

use std::f64::consts::SQRT_2;

use ta_lib::MAType;

use super::Group::Volume;
use super::engine::{CLOSE, Graph, HIGH, LOW, Slot, VOLUME, VOLUME_CLOSE, VOLUME_HIGH, VOLUME_LOW, VOLUME_TIME};
use super::ops::{map, scan, ta, window};
use super::returns::close_location;
use super::stats;

/// Milliseconds in a day.
pub(super) const DAY_MS: f64 = 86_400_000.0;

impl Graph {
    /// `x / y`.
    fn ratio(&mut self, x: Slot, y: Slot) -> Slot {
        let [slot] = self.node("x/y", &[x, y], map(|[x, y]| x / y));
        slot
    }
}

pub(super) fn define(g: &mut Graph) {
    let bar = [VOLUME_HIGH, VOLUME_LOW, VOLUME_CLOSE, VOLUME];

    let [slot] = g.node("ln(1+V)", &[VOLUME], map(|[v]| v.ln_1p()));
    g.feature(124, "ln_volume", Volume, "log of 1 plus volume", slot);

    let [slot] = g.node("RVOL(20)", &[VOLUME], ta!(rvol rvol_open rvol_lookback RvolStream; v; 20; y));
    g.feature(125, "rvol20", Volume, "volume over the mean of the previous 20 bars", slot);

    let [slot] = g.node("Z(20)", &[VOLUME], window(20, |[v]| stats::z_score(v)));
    g.feature(126, "volume_z20", Volume, "volume less its mean in standard deviations, 20 bars", slot);

    let op = window(21, |[c, v]| {
        let signed: f64 = (1..21).map(|at| sign(c[at] - c[at - 1]) * v[at]).sum();
        signed / stats::sum(&v[1..])
    });
    let [slot] = g.node("OBVCHANGE(20)/SUM(20)", &[VOLUME_CLOSE, VOLUME], op);
    g.feature(127, "obv_change20", Volume, "change of on-balance volume over 20 bars per volume", slot);

    let terms = map(|[h, l, c, v]| close_location(h, l, c) * v);
    let [flow] = g.node("CLV*V", &bar, terms);
    let op = window(21, |[flow, v]| stats::sum(&flow[1..]) / stats::sum(&v[1..]));
    let [slot] = g.node("ADCHANGE(20)/SUM(20)", &[flow, VOLUME], op);
    g.feature(128, "ad_change20", Volume, "change of accumulation/distribution over 20 bars per volume", slot);

    let average_volume = g.sma(VOLUME, 20);
    let op = ta!(adosc adosc_open adosc_lookback AdoscStream; h l c v; 3, 10; y);
    let [change] = g.node("ADOSC(3,10)", &bar, op);
    let slot = g.ratio(change, average_volume);
    g.feature(129, "adosc", Volume, "Chaikin oscillator (3, 10) per SMA(20) of volume", slot);

    let [slot] = g.node("CMF(20)", &bar, ta!(cmf cmf_open cmf_lookback CmfStream; h l c v; 20; y));
    g.feature(130, "cmf20", Volume, "Chaikin money flow over 20 bars", slot);

    let [slot] = g.node("MFI(14)", &bar, ta!(mfi mfi_open mfi_lookback MfiStream; h l c v; 14; y));
    g.feature(131, "mfi14", Volume, "money flow index over 14 bars", slot);

    let [force] = g.node("EFI(13)", &[VOLUME_CLOSE, VOLUME], ta!(efi efi_open efi_lookback EfiStream; c v; 13; y));
    let op = map(|[force, c, v]| force / (c * v));
    let [slot] = g.node("x/(yz)", &[force, VOLUME_CLOSE, average_volume], op);
    g.feature(132, "efi13", Volume, "Elder force index (13) per close and SMA(20) of volume", slot);

    let op = scan(0, Session::default(), |session: &mut Session, [h, l, c, v, time]: [f64; 5]| {
        let day = (time / DAY_MS).floor();
        if session.day != Some(day) {
            *session = Session { day: Some(day), value: 0.0, volume: 0.0 };
        }
        session.value += (h + l + c) / 3.0 * v;
        session.volume += v;
        [session.value / session.volume]
    });
    let [average] = g.node("SESSIONVWAP", &[VOLUME_HIGH, VOLUME_LOW, VOLUME_CLOSE, VOLUME, VOLUME_TIME], op);
    let slot = g.excess(VOLUME_CLOSE, average);
    g.feature(133, "dev_vwap", Volume, "close over the volume-weighted average price since midnight UTC, less 1", slot);

    let op = ta!(vwma vwma_open vwma_lookback VwmaStream; c v; 20; y);
    let [average] = g.node("VWMA(20)", &[VOLUME_CLOSE, VOLUME], op);
    let slot = g.excess(VOLUME_CLOSE, average);
    g.feature(134, "dev_vwma20", Volume, "close over VWMA(20), less 1", slot);

    let op = ta!(pvo pvo_open pvo_lookback PvoStream; v; 12, 26, MAType::EMA; y);
    let [slot] = g.node("PVO(12,26,EMA)", &[VOLUME], op);
    g.feature(135, "pvo", Volume, "percentage volume oscillator (12, 26)", slot);

    let op = window(21, |[c, v]| {
        let change: f64 = (1..21).map(|at| v[at] * (c[at] - c[at - 1]) / c[at - 1]).sum();
        change / (stats::sum(&v[1..]) / 20.0)
    });
    let [slot] = g.node("PVTCHANGE(20)/SMA(20)", &[VOLUME_CLOSE, VOLUME], op);
    g.feature(136, "pvt_change20", Volume, "change of price-volume trend over 20 bars per SMA(20) of volume", slot);

    let [index] = g.node("NVI", &[VOLUME_CLOSE, VOLUME], ta!(nvi nvi_open nvi_lookback NviStream; c v; ; y));
    let average = g.ema(index, 255);
    let slot = g.excess(index, average);
    g.feature(137, "dev_nvi255", Volume, "negative volume index over its EMA(255), less 1", slot);

    let r = g.log_return(VOLUME_CLOSE, 1);
    let op = window(20, |[r, c, v]| {
        let total: f64 = (0..20).map(|at| r[at].abs() / (c[at] * v[at])).sum();
        total / 20.0
    });
    let [slot] = g.node("AMIHUD(20)", &[r, VOLUME_CLOSE, VOLUME], op);
    g.feature(138, "amihud20", Volume, "Amihud illiquidity over 20 bars: mean absolute return per value traded", slot);

    let [change] = g.node("dC", &[CLOSE], window(2, |[c]| c[1] - c[0]));
    let [covariance] = g.node("AUTOCOV(1,20)", &[change], window(21, |[d]| stats::covariance(&d[1..], &d[..20])));
    let [slot] = g.node("ROLL", &[covariance, CLOSE], map(|[x, c]| 2.0 * (-x).max(0.0).sqrt() / c));
    g.feature(139, "roll20", Volume, "Roll spread over 20 bars per close", slot);

    let [slot] = g.node("CORWINSCHULTZ", &[HIGH, LOW], window(2, |[h, l]| corwin_schultz(h, l)));
    g.feature(140, "corwin_schultz", Volume, "Corwin-Schultz spread from the ranges of 2 bars, 0 where negative", slot);

    let op = map(|[r, c, v]: [f64; 3]| sign(r) * (c * v).sqrt());
    let [signed_root] = g.node("SIGNEDROOT", &[r, VOLUME_CLOSE, VOLUME], op);
    let [slot] = g.node("SLOPE(20)", &[signed_root, r], window(20, |[x, y]| stats::slope(x, y)));
    g.feature(141, "kyle20", Volume, "Kyle lambda over 20 bars: slope of return on signed root of value traded", slot);
}

/// Running sums of one session.
#[derive(Debug, Clone, Copy, Default)]
struct Session {
    day: Option<f64>,
    value: f64,
    volume: f64,
}

/// -1, 0 or 1.
fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// Spread from the highs and lows of two bars (Corwin and Schultz 2012, equations 14 and 18), 0 where negative.
fn corwin_schultz(high: &[f64], low: &[f64]) -> f64 {
    let square = |high: f64, low: f64| (high / low).ln().powi(2);
    let beta = square(high[0], low[0]) + square(high[1], low[1]);
    let gamma = square(high[0].max(high[1]), low[0].min(low[1]));
    let divisor = 3.0 - 2.0 * SQRT_2;
    let alpha = ((2.0 * beta).sqrt() - beta.sqrt()) / divisor - (gamma / divisor).sqrt();
    (2.0 * (alpha.exp() - 1.0) / (1.0 + alpha.exp())).max(0.0)
}
