//! Numbers measured again and again, and what can be said of them: quantiles, ratios, intervals.

use serde::Serialize;

use crate::scenario::number::Random;

/// Resamples for an interval.
const RESAMPLES: usize = 2000;

/// Measured values, in the order of their rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<f64>);

/// What is said of a sample.
#[derive(Serialize, Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Half are below.
    pub median: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// The smallest.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many.
    pub n: usize,
}

/// Which figure of a sample is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The median.
    Median,
    /// The 99th percentile.
    P99,
}

impl Sample {
    /// Enters a value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure, 0 for an empty sample.
    pub fn figure(&self, statistic: Statistic) -> f64 {
        figure(self.0.clone(), statistic)
    }

    /// All figures.
    pub fn summary(&self) -> Summary {
        Summary {
            median: self.figure(Statistic::Median),
            p99: self.figure(Statistic::P99),
            min: self
                .0
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min)
                .min(f64::MAX),
            max: self.0.iter().copied().fold(0.0, f64::max),
            n: self.0.len(),
        }
    }

    /// The 95 % interval of the ratio of this sample's figure to the other's, by bootstrap. Rounds
    /// that were measured in turn are drawn together, so that what slowed both cancels out.
    pub fn interval(&self, other: &Self, statistic: Statistic) -> [f64; 2] {
        let rounds = self.0.len().min(other.0.len());
        if rounds == 0 {
            return [0.0, 0.0];
        }
        let mut random = Random::new(1);
        let mut ratios: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn: Vec<usize> = (0..rounds)
                    .map(|_| (random.share() * rounds as f64) as usize)
                    .collect();
                let pick = |values: &[f64]| drawn.iter().map(|index| values[*index]).collect();
                figure(pick(&self.0), statistic)
                    / figure(pick(&other.0), statistic).max(f64::MIN_POSITIVE)
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        [
            ratios[RESAMPLES * 25 / 1000],
            ratios[RESAMPLES * 975 / 1000],
        ]
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

fn figure(mut values: Vec<f64>, statistic: Statistic) -> f64 {
    values.sort_by(f64::total_cmp);
    let share = match statistic {
        Statistic::Median => 0.5,
        Statistic::P99 => 0.99,
    };
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_values() {
        let sample: Sample = (1..=101).map(f64::from).collect();
        assert_eq!(sample.figure(Statistic::Median), 51.0);
        assert_eq!(sample.figure(Statistic::P99), 100.0);
        assert_eq!(
            (
                sample.summary().min,
                sample.summary().max,
                sample.summary().n
            ),
            (1.0, 101.0, 101)
        );
        assert_eq!(Sample::default().figure(Statistic::Median), 0.0);
    }

    #[test]
    fn the_interval_of_a_doubled_sample_is_at_two_and_that_of_noise_includes_one() {
        let base: Sample = (0..50).map(|n| 10.0 + f64::from(n % 7)).collect();
        let doubled: Sample = base.0.iter().map(|value| value * 2.0).collect();
        let [low, high] = doubled.interval(&base, Statistic::Median);
        assert!(
            (low - 2.0).abs() < 1e-9 && (high - 2.0).abs() < 1e-9,
            "{low} {high}"
        );
        let other: Sample = (0..50).map(|n| 10.0 + f64::from((n * 3) % 7)).collect();
        let [low, high] = other.interval(&base, Statistic::Median);
        assert!(low <= 1.0 && high >= 1.0, "{low} {high}");
    }
}
