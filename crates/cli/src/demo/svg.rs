//! Small charts in SVG, without anything from elsewhere.

use maud::{Markup, html};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// One line of a chart.
#[derive(Debug)]
pub(super) struct Series {
    /// What it is called in the legend.
    pub(super) name: String,
    /// Number of its colour, from 0.
    pub(super) color: usize,
    /// Points; the first number goes to the right.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether it is drawn with dashes.
    pub(super) dashed: bool,
    /// Whether its points are marked.
    pub(super) marked: bool,
}

impl Series {
    /// A plain line.
    pub(super) fn new(name: impl Into<String>, color: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), color, points, dashed: false, marked: false }
    }

    /// Draws dashes.
    pub(super) fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }

    /// Marks the points.
    pub(super) fn marked(mut self) -> Self {
        self.marked = true;
        self
    }
}

/// A stretch of the background.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) class: &'static str,
}

/// How an axis is labelled.
pub(super) type Format = fn(f64) -> String;

/// A chart of lines.
pub(super) struct Chart<'a> {
    /// Of the horizontal axis.
    pub(super) x_label: &'a str,
    /// Of the vertical axis.
    pub(super) y_label: &'a str,
    /// Height in pixels.
    pub(super) height: f64,
    /// The lines.
    pub(super) series: &'a [Series],
    /// The background.
    pub(super) bands: &'a [Band],
    /// Vertical lines with a name.
    pub(super) marks: &'a [(f64, &'a str)],
    /// Range of the vertical axis, where it is given.
    pub(super) y_range: Option<(f64, f64)>,
    /// Labels of the horizontal axis.
    pub(super) x_format: Format,
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !low.is_finite() {
        return (0.0, 1.0);
    }
    if high > low { (low, high) } else { (low - 0.5, high + 0.5) }
}

/// A number as short as it can be told from its neighbours.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size >= 1000.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    };
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn ticks((low, high): (f64, f64), count: usize) -> Vec<f64> {
    let raw = (high - low) / count as f64;
    let size = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * size).find(|step| *step >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

impl Chart<'_> {
    /// Draws it.
    pub(super) fn draw(&self) -> Markup {
        let xs = range(self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0)));
        let ys = self.y_range.unwrap_or_else(|| {
            let (low, high) = range(self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1)));
            (low - 0.04 * (high - low), high + 0.04 * (high - low))
        });
        let bottom = self.height - BOTTOM;
        let x = |value: f64| LEFT + (value - xs.0) / (xs.1 - xs.0) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| bottom - (value - ys.0) / (ys.1 - ys.0) * (bottom - TOP);
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {}", self.height)) role="img" {
                @for band in self.bands {
                    @let (from, to) = (x(band.from.max(xs.0)), x(band.to.min(xs.1)));
                    @if to > from {
                        rect class=(band.class) x=(px(from)) y=(px(TOP)) width=(px(to - from)) height=(px(bottom - TOP)) {}
                    }
                }
                @for tick in ticks(ys, 5) {
                    line class="grid" x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y(tick))) y2=(px(y(tick))) {}
                    text class="tick" x=(px(LEFT - 6.0)) y=(px(y(tick) + 4.0)) text-anchor="end" { (short(tick)) }
                }
                @for tick in ticks(xs, 7) {
                    text class="tick" x=(px(x(tick))) y=(px(bottom + 15.0)) text-anchor="middle" { ((self.x_format)(tick)) }
                }
                line class="axis" x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(bottom)) y2=(px(bottom)) {}
                @for (at, name) in self.marks {
                    line class="mark" x1=(px(x(*at))) x2=(px(x(*at))) y1=(px(TOP)) y2=(px(bottom)) {}
                    text class="tick" x=(px(x(*at) + 4.0)) y=(px(TOP + 10.0)) { (name) }
                }
                @for series in self.series {
                    polyline class=(format!("s{}", series.color)) stroke-dasharray=[series.dashed.then_some("5 4")]
                        points=(points(&series.points, x, y)) {}
                    @if series.marked {
                        @for (px_, py) in series.points.iter().filter(|point| point.1.is_finite()) {
                            circle class=(format!("f{}", series.color)) cx=(px(x(*px_))) cy=(px(y(*py))) r="3" {}
                        }
                    }
                }
                text class="label" x=(px((LEFT + WIDTH) / 2.0)) y=(px(self.height - 4.0)) text-anchor="middle" { (self.x_label) }
                text class="label" x="12" y=(px((TOP + bottom) / 2.0)) text-anchor="middle"
                    transform=(format!("rotate(-90 12 {:.1})", (TOP + bottom) / 2.0)) { (self.y_label) }
            }
            p.legend { @for series in self.series { span { span.key.(format!("k{}", series.color)) {} (series.name) } } }
        }
    }
}

fn points(points: &[(f64, f64)], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let shown = points.iter().filter(|point| point.1.is_finite());
    shown.map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect::<Vec<_>>().join(" ")
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// Bars to the right, several for each name, with a threshold.
pub(super) fn bars(names: &[String], groups: &[(String, Vec<f64>)], threshold: f64) -> Markup {
    let left = 170.0;
    let thick = 9.0;
    let row = thick * groups.len() as f64 + 7.0;
    let height = TOP + row * names.len() as f64 + BOTTOM;
    let largest = groups
        .iter()
        .flat_map(|(_, values)| values.iter().copied())
        .filter(|v| v.is_finite())
        .fold(threshold, f64::max);
    let x = |value: f64| left + value.clamp(0.0, largest) / largest * (WIDTH - left - 60.0);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height:.0}")) role="img" {
            @for (index, name) in names.iter().enumerate() {
                @let top = TOP + row * index as f64;
                text class="tick" x=(px(left - 6.0)) y=(px(top + row / 2.0 + 1.0)) text-anchor="end" { (name) }
                @for (place, (_, values)) in groups.iter().enumerate() {
                    @let value = values.get(index).copied().unwrap_or(f64::NAN);
                    @if value.is_finite() {
                        rect class=(format!("f{place}")) x=(px(left)) y=(px(top + thick * place as f64)) width=(px((x(value) - left).max(1.0))) height=(px(thick - 1.0)) {}
                        text class="tick" x=(px(x(value) + 4.0)) y=(px(top + thick * place as f64 + 8.0)) { (short(value)) }
                    }
                }
            }
            line class="mark" x1=(px(x(threshold))) x2=(px(x(threshold))) y1=(px(TOP)) y2=(px(height - BOTTOM)) {}
            text class="tick" x=(px(x(threshold))) y=(px(height - BOTTOM + 14.0)) text-anchor="middle" { "threshold " (short(threshold)) }
        }
        p.legend { @for (place, (name, _)) in groups.iter().enumerate() { span { span.key.(format!("k{place}")) {} (name) } } }
    }
}

/// Columns that count values.
pub(super) fn histogram(values: &[f64], x_label: &str, num_bins: usize) -> Markup {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    // The far tail would squeeze the rest; the last column holds it.
    let most = sorted.get(sorted.len().saturating_sub(1).min(sorted.len() * 995 / 1000)).copied().unwrap_or(1.0);
    let least = sorted.first().copied().unwrap_or(0.0);
    let width = ((most - least) / num_bins as f64).max(1e-9);
    let mut counts = vec![0_usize; num_bins];
    for value in &sorted {
        counts[(((value - least) / width) as usize).min(num_bins - 1)] += 1;
    }
    let height = 200.0;
    let bottom = height - BOTTOM;
    let highest = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let column = (WIDTH - LEFT - RIGHT) / num_bins as f64;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" {
            @for tick in ticks((0.0, highest), 4) {
                @let y = bottom - tick / highest * (bottom - TOP);
                line class="grid" x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y)) y2=(px(y)) {}
                text class="tick" x=(px(LEFT - 6.0)) y=(px(y + 4.0)) text-anchor="end" { (short(tick)) }
            }
            @for (index, count) in counts.iter().enumerate() {
                @let tall = *count as f64 / highest * (bottom - TOP);
                rect.f0 x=(px(LEFT + column * index as f64 + 0.5)) y=(px(bottom - tall)) width=(px(column - 1.0)) height=(px(tall)) {}
                @if index % 5 == 0 {
                    text class="tick" x=(px(LEFT + column * index as f64)) y=(px(bottom + 15.0)) text-anchor="middle" { (short(least + width * index as f64)) }
                }
            }
            line class="axis" x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(bottom)) y2=(px(bottom)) {}
            text class="label" x=(px((LEFT + WIDTH) / 2.0)) y=(px(height - 4.0)) text-anchor="middle" { (x_label) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let got = ticks((0.13, 0.97), 5);
        assert_eq!(got.iter().map(|tick| short(*tick)).collect::<Vec<_>>(), ["0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1234.5), "1234");
    }

    #[test]
    fn charts_without_points_are_charts() {
        let chart = Chart {
            x_label: "x",
            y_label: "y",
            height: 100.0,
            series: &[Series::new("none", 0, Vec::new())],
            bands: &[],
            marks: &[],
            y_range: None,
            x_format: short,
        };
        assert!(chart.draw().into_string().contains("<svg"));
        assert!(histogram(&[], "ms", 10).into_string().contains("<svg"));
    }
}
