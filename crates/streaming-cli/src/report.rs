//! What was measured, in the two forms in which it is printed.

use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer latencies, an hour, count as this in percentiles.
const LONGEST_US: u64 = 3_600_000_000;

/// Counts of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Frames that were asked for.
    pub(crate) requested: u64,
    /// Frames that came as pictures.
    pub(crate) received: u64,
    /// Frames that came as errors.
    pub(crate) errored: u64,
    /// Bytes of all pictures.
    pub(crate) bytes: u64,
    sum: Duration,
    min: Option<Duration>,
    max: Duration,
    /// Microseconds, to three digits.
    histogram: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            requested: 0,
            received: 0,
            errored: 0,
            bytes: 0,
            sum: Duration::ZERO,
            min: None,
            max: Duration::ZERO,
            histogram: Histogram::new_with_bounds(1, LONGEST_US, 3)?,
        })
    }

    /// Counts a picture.
    pub(crate) fn picture(&mut self, latency: Duration, bytes: u64) {
        self.received += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.sum += latency;
        self.min = Some(self.min.map_or(latency, |m| m.min(latency)));
        self.max = self.max.max(latency);
        self.histogram
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds another connection's counts.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.requested += other.requested;
        self.received += other.received;
        self.errored += other.errored;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sum += other.sum;
        self.min = match (self.min, other.min) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.max = self.max.max(other.max);
        self.histogram.add(&other.histogram)?;
        Ok(())
    }

    /// The results of a run that took `total`.
    pub(crate) fn results(&self, total: Duration) -> Results {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        // A histogram gives the upper edge of a bin, which may lie beyond the largest value.
        let quantile = |q: f64| {
            let micros = self.histogram.value_at_quantile(q) as f64;
            (micros / 1000.0).min(ms(self.max))
        };
        let per = |sum: f64, n: f64| if n > 0.0 { sum / n } else { 0.0 };
        Results {
            frames_requested: self.requested,
            frames_received: self.received,
            frames_errored: self.errored,
            total_time_ms: ms(total),
            average_fps: per(self.received as f64, total.as_secs_f64()),
            latency_avg_ms: per(ms(self.sum), self.received as f64),
            latency_min_ms: ms(self.min.unwrap_or_default()),
            latency_max_ms: ms(self.max),
            latency_p50_ms: quantile(0.50),
            latency_p95_ms: quantile(0.95),
            latency_p99_ms: quantile(0.99),
            total_bytes: self.bytes,
        }
    }
}

/// The results, under the names that `--json` prints. Latencies are 0 where nothing was received.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Results {
    frames_requested: u64,
    frames_received: u64,
    frames_errored: u64,
    total_time_ms: f64,
    average_fps: f64,
    latency_avg_ms: f64,
    latency_min_ms: f64,
    latency_max_ms: f64,
    latency_p50_ms: f64,
    latency_p95_ms: f64,
    latency_p99_ms: f64,
    total_bytes: u64,
}

impl Results {
    /// One JSON object on one line.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The text block; the last lines only where pictures were saved.
    pub(crate) fn text(&self, saved_to: Option<&Path>) -> String {
        let kilobytes = (self.total_bytes as f64 / 1024.0).round();
        let mut text = format!(
            "\
=== Benchmark Results ===
Frames requested: {}
Frames received:  {}
Frames errored:   {}
Total time:       {:.1}ms
Average FPS:      {:.1}
Total bytes:      {kilobytes} KB

Latency (ms):
  Avg: {:.1}
  Min: {:.1}
  Max: {:.1}
  P50: {:.1}
  P95: {:.1}
  P99: {:.1}
",
            self.frames_requested,
            self.frames_received,
            self.frames_errored,
            self.total_time_ms,
            self.average_fps,
            self.latency_avg_ms,
            self.latency_min_ms,
            self.latency_max_ms,
            self.latency_p50_ms,
            self.latency_p95_ms,
            self.latency_p99_ms,
        );
        if let Some(folder) = saved_to {
            text.push_str(&format!("\nFrames saved to: {}\n", folder.display()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Results {
        Results {
            frames_requested: 100,
            frames_received: 100,
            frames_errored: 0,
            total_time_ms: 4200.5,
            average_fps: 23.8,
            latency_avg_ms: 42.0,
            latency_min_ms: 31.2,
            latency_max_ms: 89.4,
            latency_p50_ms: 38.5,
            latency_p95_ms: 72.1,
            latency_p99_ms: 87.2,
            total_bytes: 4520 * 1024,
        }
    }

    #[test]
    fn the_text_block_byte_for_byte() {
        let block = "\
=== Benchmark Results ===
Frames requested: 100
Frames received:  100
Frames errored:   0
Total time:       4200.5ms
Average FPS:      23.8
Total bytes:      4520 KB

Latency (ms):
  Avg: 42.0
  Min: 31.2
  Max: 89.4
  P50: 38.5
  P95: 72.1
  P99: 87.2
";
        assert_eq!(example().text(None), block);
        let saved = example().text(Some(Path::new("data/out/frames")));
        assert_eq!(
            saved,
            format!("{block}\nFrames saved to: data/out/frames\n")
        );
    }

    #[test]
    fn the_json_object_has_exactly_these_keys() {
        assert_eq!(
            example().json().unwrap(),
            "{\"frames_requested\":100,\"frames_received\":100,\"frames_errored\":0,\
             \"total_time_ms\":4200.5,\"average_fps\":23.8,\"latency_avg_ms\":42.0,\
             \"latency_min_ms\":31.2,\"latency_max_ms\":89.4,\"latency_p50_ms\":38.5,\
             \"latency_p95_ms\":72.1,\"latency_p99_ms\":87.2,\"total_bytes\":4628480}\n"
        );
    }

    #[test]
    fn figures_follow_from_what_was_counted() {
        let mut one = Tally::new().unwrap();
        let mut other = Tally::new().unwrap();
        for i in 1..=100u64 {
            let tally = if i % 3 == 0 { &mut one } else { &mut other };
            tally.picture(Duration::from_millis(i), 1000);
            tally.requested += 1;
        }
        other.errored = 2;
        one.add(&other).unwrap();
        let r = one.results(Duration::from_secs(4));
        assert_eq!(
            (r.frames_requested, r.frames_received, r.frames_errored),
            (100, 100, 2)
        );
        assert_eq!(
            (r.average_fps, r.total_time_ms, r.total_bytes),
            (25.0, 4000.0, 100_000)
        );
        let close = |a: f64, b: f64| assert!((a - b).abs() / b < 0.001, "{a} is not {b}");
        close(r.latency_avg_ms, 50.5);
        assert_eq!((r.latency_min_ms, r.latency_max_ms), (1.0, 100.0));
        close(r.latency_p50_ms, 50.0);
        close(r.latency_p95_ms, 95.0);
        close(r.latency_p99_ms, 99.0);
    }

    #[test]
    fn nothing_received_is_zero_and_not_a_division() {
        let r = Tally::new().unwrap().results(Duration::ZERO);
        assert_eq!(
            (r.average_fps, r.latency_avg_ms, r.latency_p99_ms),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn no_percentile_is_above_the_maximum() {
        let mut tally = Tally::new().unwrap();
        tally.picture(Duration::from_nanos(123_456_789), 1);
        let r = tally.results(Duration::from_secs(1));
        assert!(r.latency_p99_ms <= r.latency_max_ms);
    }
}
