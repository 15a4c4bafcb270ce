//! Order statistics of a few measured values.

/// The value below which the share `q` (0 to 1) of the values lies; NaN for none.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (q.clamp(0.0, 1.0) * last as f64).ceil() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The middle value; NaN for none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The arithmetic mean; NaN for none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The median of the ratios of neighbours: what was measured turn by turn, `a` over `b`.
pub(crate) fn paired(a: &[f64], b: &[f64]) -> f64 {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(median(&values), 3.0);
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 1.0), 5.0);
        assert_eq!(quantile(&values, 0.95), 5.0);
        assert_eq!(mean(&values), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_between_neighbours() {
        // The machine became slower midway: each pair still says 2.
        assert_eq!(paired(&[2.0, 4.0, 20.0], &[1.0, 2.0, 10.0]), 2.0);
    }
}
