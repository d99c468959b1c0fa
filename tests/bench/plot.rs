//! Plots as SVG: bars and lines, just enough to see a ratio or a slope.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 130.0;
const BAR: f64 = 18.0;
const GAP: f64 = 10.0;
const TOP: f64 = 44.0;
const COLOURS: [&str; 6] = [
    "#3465a4", "#4e9a06", "#c17d11", "#a40000", "#75507b", "#555753",
];

/// One bar: its name, its length, and the range of the starts.
pub struct Bar {
    /// What it is.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The least and the greatest.
    pub range: Option<(f64, f64)>,
}

/// Horizontal bars from zero.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let highest = bars.iter().map(|bar| bar.range.map_or(bar.value, |r| r.1));
    let scale = (WIDTH - LEFT - RIGHT) / highest.fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + (BAR + GAP) * bars.len() as f64 + GAP;
    let mut svg = head(title, height);
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + (BAR + GAP) * index as f64;
        let (middle, end) = (y + BAR / 2.0, LEFT + bar.value * scale);
        let colour = COLOURS[usize::from(!bar.name.starts_with("pointsman"))];
        text(&mut svg, LEFT - 8.0, middle + 4.0, "end", &bar.name);
        let length = end - LEFT;
        // Writing to a text cannot fail.
        let _ = writeln!(
            svg,
            r#"<rect x="{LEFT}" y="{y}" width="{length:.1}" height="{BAR}" fill="{colour}"/>"#
        );
        let mut right = end;
        if let Some((low, high)) = bar.range {
            let (from, to) = (LEFT + low * scale, LEFT + high * scale);
            line(&mut svg, (from, middle), (to, middle), "#000");
            right = right.max(to);
        }
        let label = format!("{:.3} {unit}", bar.value);
        text(&mut svg, right + 6.0, middle + 4.0, "start", &label);
    }
    svg + "</svg>\n"
}

/// One line: its name and its points.
pub type Series = (String, Vec<(f64, f64)>);

/// How an axis grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// By powers of ten.
    Logarithmic,
    /// By equal steps from zero.
    Linear,
}

/// One axis: its ends as the scale counts them.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// Long enough for these values.
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let ends = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = match scale {
            Scale::Logarithmic => (ends.0.log10().floor(), ends.1.log10().ceil()),
            Scale::Linear => {
                let step = step(ends.1);
                (0.0, (ends.1 / step).ceil() * step)
            }
        };
        Axis { scale, low, high }
    }

    /// Where a value stands between the ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Logarithmic => value.log10(),
            Scale::Linear => value,
        };
        let length = self.high - self.low;
        let length = if length > 0.0 { length } else { 1.0 };
        (value - self.low) / length
    }

    /// The values that have a line of their own.
    fn marks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Logarithmic => {
                let powers = self.low as i32..=self.high as i32;
                powers.map(|power| 10f64.powi(power)).collect()
            }
            Scale::Linear => {
                let step = step(self.high);
                let steps = (self.high / step).round() as u32;
                (0..=steps).map(|nth| f64::from(nth) * step).collect()
            }
        }
    }
}

/// A fifth of it or so, as a round number.
fn step(high: f64) -> f64 {
    let power = 10f64.powf((high / 5.0).log10().floor());
    let fits = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|it| it * power * 5.0 >= high);
    fits.unwrap_or(10.0) * power
}

/// Lines over two axes of one scale, each with its words.
pub fn lines(title: &str, across: &str, up: &str, scale: Scale, series: &[Series]) -> String {
    let height = 420.0;
    let points = || series.iter().flat_map(|(_, points)| points);
    let across_axis = Axis::over(scale, points().map(|point| point.0));
    let up_axis = Axis::over(scale, points().map(|point| point.1));
    let (left, right, bottom) = (70.0, WIDTH - 200.0, height - 46.0);
    let x = |value: f64| left + across_axis.share(value) * (right - left);
    let y = |value: f64| bottom - up_axis.share(value) * (bottom - TOP);
    let mut svg = head(title, height);
    for value in across_axis.marks() {
        line(&mut svg, (x(value), TOP), (x(value), bottom), "#ddd");
        let label = format!("{value}");
        text(&mut svg, x(value), bottom + 16.0, "middle", &label);
    }
    for value in up_axis.marks() {
        line(&mut svg, (left, y(value)), (right, y(value)), "#ddd");
        let label = format!("{value}");
        text(&mut svg, left - 6.0, y(value) + 4.0, "end", &label);
    }
    let middle = (left + right) / 2.0;
    text(&mut svg, middle, height - 10.0, "middle", across);
    text(&mut svg, left, TOP - 8.0, "start", up);
    for (index, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        for pair in points.windows(2) {
            let ends = [pair[0], pair[1]].map(|(across, up)| (x(across), y(up)));
            line(&mut svg, ends[0], ends[1], colour);
        }
        // A single point makes no line.
        for (across, up) in points {
            dot(&mut svg, (x(*across), y(*up)), colour);
        }
        let below = TOP + 18.0 * index as f64;
        line(
            &mut svg,
            (right + 12.0, below),
            (right + 32.0, below),
            colour,
        );
        text(&mut svg, right + 38.0, below + 4.0, "start", name);
    }
    svg + "</svg>\n"
}

fn head(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, 12.0, 22.0, "start", title);
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
    );
}

fn dot(svg: &mut String, at: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        r#"<circle cx="{:.1}" cy="{:.1}" r="2.5" fill="{colour}"/>"#,
        at.0, at.1
    );
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="1.5"/>"#,
        from.0, from.1, to.0, to.1
    );
}
