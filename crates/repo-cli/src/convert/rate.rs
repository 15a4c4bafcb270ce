//! Frame rates: exact ratios, as containers carry them.

use std::fmt;
use std::str::FromStr;

/// Pictures per second; both parts at least 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    numerator: u32,
    denominator: u32,
}

impl Rate {
    /// Pictures per second.
    pub(crate) fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denominator == 1 {
            write!(f, "{}", self.numerator)
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator)
        }
    }
}

/// Why a text is no frame rate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a frame rate is a positive number (25, 29.97) or ratio (30000/1001)")]
pub(crate) struct NoRate;

impl FromStr for Rate {
    type Err = NoRate;

    /// Reads `25`, `29.97` or `30000/1001`.
    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (numerator, denominator) = match text.split_once('/') {
            Some((n, d)) => (
                n.parse().map_err(|_| NoRate)?,
                d.parse().map_err(|_| NoRate)?,
            ),
            None => {
                let value: f64 = text.parse().map_err(|_| NoRate)?;
                if !(value.is_finite() && value > 0.0 && value <= 100_000.0) {
                    return Err(NoRate);
                }
                if value.fract() == 0.0 {
                    (value as u32, 1)
                } else {
                    ((value * 10_000.0).round() as u32, 10_000)
                }
            }
        };
        if numerator == 0 || denominator == 0 {
            return Err(NoRate);
        }
        Ok(Self {
            numerator,
            denominator,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ratios_are_read() {
        let read = |t: &str| t.parse::<Rate>().map(|r| r.to_string());
        assert_eq!(read("25").unwrap(), "25");
        assert_eq!(read("12.5").unwrap(), "125000/10000");
        assert_eq!(read("30000/1001").unwrap(), "30000/1001");
        for bad in [
            "", "0", "-1", "0/1", "1/0", "0/0", "nan", "inf", "1e30", "x", "1/2/3", "0.00001",
        ] {
            assert_eq!(read(bad), Err(NoRate), "{bad}");
        }
    }
}
