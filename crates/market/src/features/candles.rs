//! Group G: candlestick flags from TA-Lib: 1 bullish, -1 bearish, 0 none.

use super::Group::Candles;
use super::engine::{CLOSE, Graph, HIGH, LOW, OPEN, Op, Slot};
use super::ops::{map, ta};

impl Graph {
    fn flag(&mut self, id: u16, name: &'static str, text: &str, op: impl Op + 'static, description: &'static str) {
        let [strength]: [Slot; 1] = self.node(text, &[OPEN, HIGH, LOW, CLOSE], op);
        // TA-Lib gives 100, and 80 for an engulfing bar that shares one end.
        let [slot] = self.node("SIGN", &[strength], map(|[x]| if x == 0.0 { 0.0 } else { x.signum() }));
        self.feature(id, name, Candles, description, slot);
    }
}

pub(super) fn define(g: &mut Graph) {
    let op = ta!(cdlengulfing cdlengulfing_open cdlengulfing_lookback CdlengulfingStream; o h l c; ; + flag);
    g.flag(156, "cdl_engulfing", "CDLENGULFING", op, "engulfing pattern");
    let op = ta!(cdlhammer cdlhammer_open cdlhammer_lookback CdlhammerStream; o h l c; ; + flag);
    g.flag(157, "cdl_hammer", "CDLHAMMER", op, "hammer");
    let op =
        ta!(cdlshootingstar cdlshootingstar_open cdlshootingstar_lookback CdlshootingstarStream; o h l c; ; + flag);
    g.flag(158, "cdl_shooting_star", "CDLSHOOTINGSTAR", op, "shooting star");
    let op = ta!(cdldoji cdldoji_open cdldoji_lookback CdldojiStream; o h l c; ; + flag);
    g.flag(159, "cdl_doji", "CDLDOJI", op, "doji");
    let op = ta!(cdlmorningstar cdlmorningstar_open cdlmorningstar_lookback CdlmorningstarStream; o h l c; 0.3; + flag);
    g.flag(160, "cdl_morning_star", "CDLMORNINGSTAR(0.3)", op, "morning star");
    let op = ta!(cdleveningstar cdleveningstar_open cdleveningstar_lookback CdleveningstarStream; o h l c; 0.3; + flag);
    g.flag(161, "cdl_evening_star", "CDLEVENINGSTAR(0.3)", op, "evening star");
    let op = ta!(cdlharami cdlharami_open cdlharami_lookback CdlharamiStream; o h l c; ; + flag);
    g.flag(162, "cdl_harami", "CDLHARAMI", op, "harami");
    let op = ta!(cdlmarubozu cdlmarubozu_open cdlmarubozu_lookback CdlmarubozuStream; o h l c; ; + flag);
    g.flag(163, "cdl_marubozu", "CDLMARUBOZU", op, "marubozu");
    let op = ta!(
        cdl3whitesoldiers cdl3whitesoldiers_open cdl3whitesoldiers_lookback Cdl3whitesoldiersStream;
        o h l c; ; + flag
    );
    g.flag(164, "cdl_3_white_soldiers", "CDL3WHITESOLDIERS", op, "three advancing white soldiers");
    let op = ta!(cdl3blackcrows cdl3blackcrows_open cdl3blackcrows_lookback Cdl3blackcrowsStream; o h l c; ; + flag);
    g.flag(165, "cdl_3_black_crows", "CDL3BLACKCROWS", op, "three black crows");
    let op = ta!(cdlpiercing cdlpiercing_open cdlpiercing_lookback CdlpiercingStream; o h l c; ; + flag);
    g.flag(166, "cdl_piercing", "CDLPIERCING", op, "piercing pattern");
    let op = ta!(
        cdldarkcloudcover cdldarkcloudcover_open cdldarkcloudcover_lookback CdldarkcloudcoverStream;
        o h l c; 0.5; + flag
    );
    g.flag(167, "cdl_dark_cloud_cover", "CDLDARKCLOUDCOVER(0.5)", op, "dark cloud cover");
}
