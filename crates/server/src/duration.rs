//! Times as people write them: `20s`, `1500ms`, `2m`, `2.5` (seconds).

use std::time::Duration;

pub(crate) const SHORTEST: Duration = Duration::from_millis(100);
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// Reads a time; without a unit, in seconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let text = text.trim();
    let with_unit = UNITS.iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?;
        Some((number.trim_end(), *seconds))
    });
    let (number, seconds) = with_unit.unwrap_or((text, 1.0));
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_are_read_with_a_unit_or_without() {
        for (text, millis) in [
            ("20", 20_000),
            ("20s", 20_000),
            (" 1500 ms ", 1500),
            ("2.5", 2500),
            ("0.1s", 100),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text).map(|t| t.as_millis()), Some(millis), "{text}");
        }
        for text in [
            "",
            "s",
            "ms",
            "-1",
            "1d",
            "1e3",
            "NaN",
            "inf",
            "1.2.3",
            ".5",
            "9".repeat(400).as_str(),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
