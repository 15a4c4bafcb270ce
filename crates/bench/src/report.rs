//! What was measured: rows with their goals, and curves for the page.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;
use serde::Serialize;

/// One measured thing.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Row {
    /// The measurement it belongs to, as `--only` calls it.
    pub(crate) section: &'static str,
    /// What was done.
    pub(crate) work: String,
    /// On which clip; empty where that says nothing.
    pub(crate) clip: String,
    /// How it went, in `unit`; absent where it could not be measured.
    pub(crate) value: Option<f64>,
    /// `ms`, `frames/s`, `MiB` …
    pub(crate) unit: &'static str,
    /// The same as a share of something that was measured beside it.
    pub(crate) ratio: Option<Ratio>,
    /// What it must reach.
    pub(crate) goal: Option<Goal>,
    /// What else is to be known: counts, wrong pictures, why nothing was measured.
    pub(crate) note: String,
}

/// A figure against another one of the same run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    /// How many times.
    pub(crate) value: f64,
    /// Of what, with its absolute figure.
    pub(crate) of: String,
}

/// What a row must reach.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// In words, as `≤ 1.05 × limit`.
    pub(crate) text: String,
    /// Whether it is reached; absent where that cannot be said.
    pub(crate) met: Option<bool>,
}

impl Goal {
    /// At most.
    pub(crate) fn at_most(value: f64, most: f64, of: &str) -> Self {
        Self {
            text: format!("≤ {} {of}", number(most)),
            met: value.is_finite().then_some(value <= most),
        }
    }

    /// At least.
    pub(crate) fn at_least(value: f64, least: f64, of: &str) -> Self {
        Self {
            text: format!("≥ {} {of}", number(least)),
            met: value.is_finite().then_some(value >= least),
        }
    }
}

impl Row {
    /// A measured figure.
    pub(crate) fn new(work: impl Into<String>, clip: &str, value: f64, unit: &'static str) -> Self {
        Self {
            work: work.into(),
            clip: clip.to_owned(),
            value: value.is_finite().then_some(value),
            unit,
            ..Self::default()
        }
    }

    /// Something that could not be measured.
    pub(crate) fn failed(work: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            work: work.into(),
            note: why.into(),
            ..Self::default()
        }
    }

    /// Beside another figure.
    #[must_use]
    pub(crate) fn ratio(mut self, value: f64, of: impl Into<String>) -> Self {
        let of = of.into();
        self.ratio = value.is_finite().then_some(Ratio { value, of });
        self
    }

    /// With what it must reach.
    #[must_use]
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// With more words.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// `met`, `missed`, or nothing.
    pub(crate) fn verdict(&self) -> &'static str {
        match &self.goal {
            None => "",
            Some(_) if self.value.is_none() => "not measured",
            Some(Goal {
                met: Some(true), ..
            }) => "met",
            Some(Goal {
                met: Some(false), ..
            }) => "MISSED",
            Some(Goal { met: None, .. }) => "unknown",
        }
    }
}

/// A figure with as many digits as it deserves.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => {
            let text = format!("{value:.2}");
            text.strip_suffix(".00").map_or(text.clone(), str::to_owned)
        }
        _ => format!("{value:.3}"),
    }
}

/// Curves in one picture.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plot {
    /// Above the picture.
    pub(crate) title: String,
    /// Below the horizontal axis.
    pub(crate) x: &'static str,
    /// Beside the vertical axis.
    pub(crate) y: &'static str,
    /// Whether the horizontal axis is logarithmic.
    pub(crate) log_x: bool,
    /// Names and points, in the order of `x`.
    pub(crate) curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    /// How many of the values lie below each of them.
    pub(crate) fn distributions(title: impl Into<String>, x: &'static str) -> Self {
        Self {
            title: title.into(),
            x,
            y: "share of frames",
            log_x: true,
            curves: Vec::new(),
        }
    }

    /// Adds a distribution.
    pub(crate) fn distribution(&mut self, name: impl Into<String>, values: &[f64]) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let share = |at: usize| (at + 1) as f64 / count;
        let points = sorted.iter().enumerate().map(|(at, v)| (*v, share(at)));
        self.curves.push((name.into(), points.collect()));
    }
}

/// Everything that a run found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// When, where, with what.
    pub(crate) environment: Vec<(String, String)>,
    /// In the order of measuring.
    pub(crate) rows: Vec<Row>,
    /// In the order of measuring.
    pub(crate) plots: Vec<Plot>,
    /// Where rows belong that come now.
    #[serde(skip)]
    pub(crate) section: &'static str,
}

impl Report {
    /// The following rows belong to this measurement.
    pub(crate) fn begin(&mut self, section: &'static str, about: &str) -> Result<()> {
        self.section = section;
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}", emphasis(&format!("{section}: {about}")))?;
        Ok(out.flush()?)
    }

    /// Adds a row and prints it.
    pub(crate) fn row(&mut self, mut row: Row) -> Result<()> {
        row.section = self.section;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", line(&row))?;
        out.flush()?;
        self.rows.push(row);
        Ok(())
    }

    /// How many goals are met, and how many there are.
    pub(crate) fn goals(&self) -> (usize, usize) {
        let met = self.rows.iter().filter(|r| r.verdict() == "met").count();
        let all = self.rows.iter().filter(|r| r.goal.is_some()).count();
        (met, all)
    }
}

/// The row as the terminal shows it: the ratio first, the absolute figure beside it.
fn line(row: &Row) -> String {
    let ratio = row
        .ratio
        .as_ref()
        .map_or_else(String::new, |r| format!("{} × {}", number(r.value), r.of));
    let value = row.value.map_or_else(
        || "not measured".to_owned(),
        |v| format!("{} {}", number(v), row.unit),
    );
    let goal = row.goal.as_ref().map_or("", |g| &g.text);
    let verdict = match row.verdict() {
        "MISSED" => emphasis("MISSED"),
        other => other.to_owned(),
    };
    let what = if row.clip.is_empty() {
        row.work.clone()
    } else {
        format!("{} [{}]", row.work, row.clip)
    };
    let text = format!(
        "  {what:<58} {ratio:<34} {value:>14}  {goal:<22} {verdict:<7} {}",
        row.note
    );
    text.trim_end().to_owned()
}

fn emphasis(text: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_goal_is_met() {
        let row =
            |value: f64| Row::new("w", "c", value, "ms").goal(Goal::at_most(value, 2.0, "ms"));
        assert_eq!(row(2.0).verdict(), "met");
        assert_eq!(row(2.1).verdict(), "MISSED");
        assert_eq!(row(f64::NAN).verdict(), "not measured");
        assert_eq!(Row::new("w", "c", 1.0, "ms").verdict(), "");
        assert!(line(&row(2.1)).contains("≤ 2 ms"));
    }

    #[test]
    fn figures_have_about_three_digits() {
        let texts = [1234.5, 56.78, 3.0, 1.052, 0.0461].map(number);
        assert_eq!(texts, ["1234", "56.8", "3", "1.05", "0.046"]);
    }

    #[test]
    fn a_distribution_ends_at_one() {
        let mut plot = Plot::distributions("t", "ms");
        plot.distribution("a", &[3.0, 1.0]);
        assert_eq!(plot.curves[0].1, [(1.0, 0.5), (3.0, 1.0)]);
    }
}
