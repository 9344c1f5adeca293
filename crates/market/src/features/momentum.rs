//! Group C: momentum, all from TA-Lib; what is in price units is divided by the close.

use ta_lib::MAType;

use super::Group::Momentum;
use super::engine::{CLOSE, Graph, HIGH, LOW, OPEN};
use super::ops::{map, ta};

pub(super) fn define(g: &mut Graph) {
    let bar = [HIGH, LOW, CLOSE];

    for (id, name, n, description) in [
        (55, "rsi14", 14, "relative strength index over 14 bars"),
        (56, "rsi2", 2, "relative strength index over 2 bars"),
        (57, "rsi21", 21, "relative strength index over 21 bars"),
    ] {
        let [slot] = g.node(&format!("RSI({n})"), &[CLOSE], ta!(rsi rsi_open rsi_lookback RsiStream; x; n; y));
        g.feature(id, name, Momentum, description, slot);
    }

    let op = ta!(stoch stoch_open stoch_lookback StochStream; h l c; 14, 3, MAType::SMA, 3, MAType::SMA; k d);
    let [k, d] = g.node("STOCH(14,3,SMA,3,SMA)", &bar, op);
    g.feature(58, "stoch_k14", Momentum, "slow stochastic K (14, 3)", k);
    g.feature(59, "stoch_d14", Momentum, "slow stochastic D (14, 3, 3)", d);

    let op = ta!(stochf stochf_open stochf_lookback StochfStream; h l c; 5, 3, MAType::SMA; k d);
    let [k, _] = g.node("STOCHF(5,3,SMA)", &bar, op);
    g.feature(60, "stochf_k5", Momentum, "fast stochastic K (5)", k);

    let op = ta!(stochrsi stochrsi_open stochrsi_lookback StochrsiStream; x; 14, 5, 3, MAType::SMA; k d);
    let [k, _] = g.node("STOCHRSI(14,5,3,SMA)", &[CLOSE], op);
    g.feature(61, "stochrsi_k14", Momentum, "fast stochastic K (5) of RSI(14)", k);

    let [slot] = g.node("WILLR(14)", &bar, ta!(willr willr_open willr_lookback WillrStream; h l c; 14; y));
    g.feature(62, "willr14", Momentum, "Williams %R over 14 bars, -100 to 0", slot);

    let [slot] = g.node("CCI(20)", &bar, ta!(cci cci_open cci_lookback CciStream; h l c; 20; y));
    g.feature(63, "cci20", Momentum, "commodity channel index over 20 bars", slot);

    let op = ta!(macd macd_open macd_lookback MacdStream; x; 12, 26, 9; m s h);
    let [line, signal, histogram] = g.node("MACD(12,26,9)", &[CLOSE], op);
    for (id, name, column, description) in [
        (64, "macd", line, "MACD(12, 26, 9) per close"),
        (65, "macd_signal", signal, "signal of MACD(12, 26, 9) per close"),
        (66, "macd_hist", histogram, "histogram of MACD(12, 26, 9) per close"),
    ] {
        let slot = g.per_close(column);
        g.feature(id, name, Momentum, description, slot);
    }

    let [slot] =
        g.node("PPO(12,26,EMA)", &[CLOSE], ta!(ppo ppo_open ppo_lookback PpoStream; x; 12, 26, MAType::EMA; y));
    g.feature(67, "ppo", Momentum, "percentage price oscillator (12, 26, exponential)", slot);

    let [change] = g.node("MOM(10)", &[CLOSE], ta!(mom mom_open mom_lookback MomStream; x; 10; y));
    let slot = g.per_close(change);
    g.feature(68, "mom10", Momentum, "change over 10 bars per close", slot);

    for (id, name, n, description) in [
        (69, "roc5", 5, "rate of change over 5 bars, percent"),
        (70, "roc10", 10, "rate of change over 10 bars, percent"),
        (71, "roc20", 20, "rate of change over 20 bars, percent"),
    ] {
        let [slot] = g.node(&format!("ROC({n})"), &[CLOSE], ta!(roc roc_open roc_lookback RocStream; x; n; y));
        g.feature(id, name, Momentum, description, slot);
    }

    let [slot] = g.node("TRIX(15)", &[CLOSE], ta!(trix trix_open trix_lookback TrixStream; x; 15; y));
    g.feature(72, "trix15", Momentum, "change of the triple exponential average (15), percent", slot);

    let [slot] = g.node("TSI(25,13)", &[CLOSE], ta!(tsi tsi_open tsi_lookback TsiStream; x; 25, 13; y));
    g.feature(73, "tsi", Momentum, "true strength index (25, 13)", slot);

    let [slot] =
        g.node("ULTOSC(7,14,28)", &bar, ta!(ultosc ultosc_open ultosc_lookback UltoscStream; h l c; 7, 14, 28; y));
    g.feature(74, "ultosc", Momentum, "ultimate oscillator (7, 14, 28)", slot);

    let [slot] = g.node("CMOU(14)", &[CLOSE], ta!(cmou cmou_open cmou_lookback CmouStream; x; 14; y));
    g.feature(75, "cmo14", Momentum, "Chande momentum oscillator over 14 bars, unsmoothed", slot);

    let [change] = g.node("AO(5,34)", &[HIGH, LOW], ta!(ao ao_open ao_lookback AoStream; h l; 5, 34; y));
    let slot = g.per_close(change);
    g.feature(76, "ao", Momentum, "awesome oscillator (5, 34) per close", slot);

    let [change] = g.node("AC(5,34,5)", &[HIGH, LOW], ta!(ac ac_open ac_lookback AcStream; h l; 5, 34, 5; y));
    let slot = g.per_close(change);
    g.feature(77, "ac", Momentum, "accelerator oscillator (5, 34, 5) per close", slot);

    let [slot] = g.node("ADX(14)", &bar, ta!(adx adx_open adx_lookback AdxStream; h l c; 14; y));
    g.feature(78, "adx14", Momentum, "average directional index over 14 bars", slot);

    let [slot] = g.node("ADXR(14)", &bar, ta!(adxr adxr_open adxr_lookback AdxrStream; h l c; 14; y));
    g.feature(79, "adxr14", Momentum, "average directional index rating over 14 bars", slot);

    let [slot] = g.node("PLUS_DI(14)", &bar, ta!(plus_di plus_di_open plus_di_lookback PlusDiStream; h l c; 14; y));
    g.feature(80, "plus_di14", Momentum, "plus directional indicator over 14 bars", slot);

    let [slot] =
        g.node("MINUS_DI(14)", &bar, ta!(minus_di minus_di_open minus_di_lookback MinusDiStream; h l c; 14; y));
    g.feature(81, "minus_di14", Momentum, "minus directional indicator over 14 bars", slot);

    let [slot] = g.node("DX(14)", &bar, ta!(dx dx_open dx_lookback DxStream; h l c; 14; y));
    g.feature(82, "dx14", Momentum, "directional movement index over 14 bars", slot);

    let [down, up] = g.node("AROON(25)", &[HIGH, LOW], ta!(aroon aroon_open aroon_lookback AroonStream; h l; 25; d u));
    g.feature(83, "aroon_up25", Momentum, "Aroon up over 25 bars", up);
    g.feature(84, "aroon_down25", Momentum, "Aroon down over 25 bars", down);
    let [slot] = g.node("x-y", &[up, down], map(|[up, down]| up - down));
    g.feature(85, "aroon_osc25", Momentum, "Aroon up less Aroon down over 25 bars", slot);

    let [plus, minus] =
        g.node("VORTEX(14)", &bar, ta!(vortex vortex_open vortex_lookback VortexStream; h l c; 14; p m));
    g.feature(86, "vortex_plus14", Momentum, "positive vortex over 14 bars", plus);
    g.feature(87, "vortex_minus14", Momentum, "negative vortex over 14 bars", minus);

    let [change] = g.node("DPO(20)", &[CLOSE], ta!(dpo dpo_open dpo_lookback DpoStream; x; 20; y));
    let slot = g.per_close(change);
    g.feature(88, "dpo20", Momentum, "detrended price over 20 bars, causal form, per close", slot);

    let [slot] = g.node("ER(10)", &[CLOSE], ta!(er er_open er_lookback ErStream; x; 10; y));
    g.feature(89, "er10", Momentum, "Kaufman efficiency ratio over 10 bars", slot);

    let [slot] = g.node("VHF(28)", &[CLOSE], ta!(vhf vhf_open vhf_lookback VhfStream; x; 28; y));
    g.feature(90, "vhf28", Momentum, "vertical horizontal filter over 28 bars", slot);

    let [slot] = g.node("IMI(14)", &[OPEN, CLOSE], ta!(imi imi_open imi_lookback ImiStream; o c; 14; y));
    g.feature(91, "imi14", Momentum, "intraday momentum index over 14 bars", slot);

    let op = ta!(coppock coppock_open coppock_lookback CoppockStream; x; 10, 11, 14; y);
    let [slot] = g.node("COPPOCK(10,11,14)", &[CLOSE], op);
    g.feature(92, "coppock", Momentum, "Coppock curve (10, 11, 14)", slot);

    let op = ta!(kdj kdj_open kdj_lookback KdjStream; h l c; 9, 3, MAType::RMA, 3, MAType::RMA; k d j);
    let [_, _, j] = g.node("KDJ(9,3,RMA,3,RMA)", &bar, op);
    g.feature(93, "kdj_j9", Momentum, "J of KDJ (9, 3, 3, Wilder smoothing)", j);

    let op = ta!(smi smi_open smi_lookback SmiStream; h l c; 13, 2, 25, 9; y s);
    let [slot, _] = g.node("SMI(13,2,25,9)", &bar, op);
    g.feature(94, "smi", Momentum, "stochastic momentum index (13, 2, 25)", slot);

    let [slot] = g.node("FOSC(5)", &[CLOSE], ta!(fosc fosc_open fosc_lookback FoscStream; x; 5; y));
    g.feature(95, "fosc5", Momentum, "forecast oscillator over 5 bars", slot);

    let [bull, bear] = g.node("ERI(13)", &bar, ta!(eri eri_open eri_lookback EriStream; h l c; 13; u d));
    let slot = g.per_close(bull);
    g.feature(96, "eri_bull13", Momentum, "Elder bull power (13) per close", slot);
    let slot = g.per_close(bear);
    g.feature(97, "eri_bear13", Momentum, "Elder bear power (13) per close", slot);
}
