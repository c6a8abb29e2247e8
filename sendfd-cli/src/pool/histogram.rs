//! How long hand-offs took: counts in steps of an eighth of an octave, so that each quantile is right to 9%.

use std::time::Duration;

const STEPS: usize = 8;
const COUNTS: usize = 40 * STEPS;

#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [u32; COUNTS],
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Histogram {
            counts: [0; COUNTS],
            total: 0,
        }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        let nanos = (time.as_nanos() as f64).max(1.0);
        let step = (nanos.log2() * STEPS as f64) as usize;
        let count = &mut self.counts[step.min(COUNTS - 1)];
        *count = count.saturating_add(1);
        self.total += 1;
    }

    /// In microseconds; 0 where nothing was counted.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64) * share).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if *count > 0 && seen >= wanted {
                // The middle of the step.
                return ((step as f64 + 0.5) / STEPS as f64).exp2() / 1000.0;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0.0);
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = histogram.quantile(share);
            assert!((found / exact - 1.0).abs() < 0.1, "{share}: {found}");
        }
    }
}
