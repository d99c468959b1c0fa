//! Medians, spreads and percentiles.

use serde_json::{Value, json};

/// A median with its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// In the middle, or between the two that are.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of some figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let (low, high) = ((figures.len() - 1) / 2, figures.len() / 2);
        Some(Spread {
            median: f64::midpoint(figures[low], figures[high]),
            min,
            max,
        })
    }

    /// As in the report.
    pub fn json(&self) -> Value {
        json!({
            "median": rounded(self.median),
            "min": rounded(self.min),
            "max": rounded(self.max),
        })
    }
}

/// Four significant digits: the rest is noise.
pub fn rounded(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().unwrap_or(figure)
}

/// The value that this share of them does not exceed; `None` of none.
pub fn percentile(figures: &mut [f64], share: f64) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let rank = (figures.len() as f64 * share).ceil() as usize;
    figures.get(rank.saturating_sub(1)).copied()
}

/// How many figures it takes for the greatest not to be their 99th percentile.
const P99_MIN: usize = 100;

/// The 99th percentile and its key in the report; of few, the greatest by that name.
pub fn tail(figures: &mut [f64]) -> (&'static str, Value) {
    let (key, share) = match figures.len() < P99_MIN {
        true => ("maxMs", 1.0),
        false => ("p99Ms", 0.99),
    };
    (key, json!(percentile(figures, share).map(rounded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_percentiles() {
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
        let mut figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut figures, 0.5), Some(50.0));
        assert_eq!(percentile(&mut figures, 0.99), Some(99.0));
        assert_eq!(percentile(&mut figures, 1.0), Some(100.0));
        assert_eq!(percentile(&mut [], 0.5), None);
        assert_eq!(tail(&mut figures), ("p99Ms", json!(99.0)));
        assert_eq!(tail(&mut figures[..99]), ("maxMs", json!(99.0)));
        assert_eq!(rounded(1234.567), 1235.0);
    }
}
