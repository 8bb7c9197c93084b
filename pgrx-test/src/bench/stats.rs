//! Statistics of samples. Pure.

use serde::Serialize;

/// Samples with their median and quartiles.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
    /// In the order in which they were taken.
    pub samples: Vec<f64>,
}

impl Summary {
    /// # Panics
    /// Without samples there is nothing to summarise.
    pub fn of(samples: Vec<f64>) -> Summary {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Summary {
            median: quantile(&sorted, 0.5),
            lower_quartile: quantile(&sorted, 0.25),
            upper_quartile: quantile(&sorted, 0.75),
            samples,
        }
    }

    /// What remains of each sample when the other's of the same round is taken off.
    pub fn minus(&self, other: &Summary) -> Summary {
        let pairs = self.samples.iter().zip(&other.samples);
        Summary::of(pairs.map(|(own, other)| own - other).collect())
    }

    /// Every sample multiplied.
    pub fn times(&self, factor: f64) -> Summary {
        Summary::of(self.samples.iter().map(|sample| sample * factor).collect())
    }

    /// Half the distance between the quartiles, as a part of the median; one sample has none.
    pub fn spread(&self) -> Option<f64> {
        let half = (self.upper_quartile - self.lower_quartile) / 2.0;
        (self.samples.len() > 1).then(|| half / self.median.abs())
    }
}

/// The value below which that part of the sorted samples lies, interpolated between neighbours.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    assert!(!sorted.is_empty(), "no samples");
    let position = part * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn median_and_quartiles_do_not_depend_on_the_order() {
        let summary = Summary::of(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(summary.median, 3.0);
        assert_eq!(summary.lower_quartile, 2.0);
        assert_eq!(summary.upper_quartile, 4.0);
        assert_eq!(summary.samples, [5.0, 1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn an_even_number_of_samples_is_interpolated() {
        assert_eq!(Summary::of(vec![4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        assert_eq!(Summary::of(vec![1.0, 1.0, 1.0, 1.0, 900.0]).median, 1.0);
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        // The machine was twice as slow in the second round; the difference of medians would be 15.
        let with = Summary::of(vec![20.0, 40.0]);
        let without = Summary::of(vec![10.0, 20.0]);
        assert_eq!(with.minus(&without).samples, [10.0, 20.0]);
    }

    #[test]
    fn the_spread_is_relative() {
        assert_eq!(Summary::of(vec![90.0, 100.0, 110.0]).spread(), Some(0.05));
        assert_eq!(Summary::of(vec![7.0]).spread(), None);
    }
}
