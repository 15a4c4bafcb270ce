//! The page: tables and plots in one file that needs nothing else.

use std::fmt::Write as _;

use anyhow::Result;
use plotters::prelude::*;

use crate::report::{Plot, Report, Row, number};

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2430}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}\
table{border-collapse:collapse;width:100%;font-size:13px}\
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d9dee5;vertical-align:top}\
td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
.met{color:#17713a}.missed{color:#b3261e;font-weight:600}.note{color:#5b6675}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(30rem,1fr));gap:1rem}\
svg{width:100%;height:auto;background:#fff;border:1px solid #d9dee5}";

/// The whole page.
pub(crate) fn html(report: &Report) -> Result<String> {
    let mut page = String::new();
    write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>bucket-streamer: benchmark</title><style>{STYLE}</style>\
         <h1>bucket-streamer: benchmark</h1>"
    )?;
    let (met, all) = report.goals();
    write!(
        page,
        "<p>{met} of {all} goals are met. Ratios are medians over neighbours in time within this \
         run and are what counts; absolute figures stand beside them. <em>Limit</em>: libavcodec \
         alone on the same access units, conversion and JPEG, in process, on the same cores.</p>\
         <table>"
    )?;
    for (name, value) in &report.environment {
        write!(
            page,
            "<tr><th>{}</th><td>{}</td></tr>",
            escape(name),
            escape(value)
        )?;
    }
    page.push_str("</table>");
    let mut section = "";
    for row in &report.rows {
        if row.section != section {
            if !section.is_empty() {
                page.push_str("</table>");
            }
            section = row.section;
            write!(
                page,
                "<h2>{section}</h2><table><tr><th>work</th><th>clip</th><th>ratio</th><th></th>\
                 <th>absolute</th><th>goal</th><th></th><th>more</th></tr>"
            )?;
        }
        page.push_str(&table_row(row)?);
    }
    page.push_str("</table><h2>Plots</h2><div class=\"plots\">");
    for plot in &report.plots {
        if let Some(svg) = draw(plot)? {
            page.push_str(&svg);
        }
    }
    page.push_str("</div></html>\n");
    Ok(page)
}

fn table_row(row: &Row) -> Result<String> {
    let (ratio, of) = match &row.ratio {
        Some(r) => (number(r.value), format!("× {}", r.of)),
        None => (String::new(), String::new()),
    };
    let value = match row.value {
        Some(value) => format!("{} {}", number(value), row.unit),
        None => "not measured".into(),
    };
    let verdict = row.verdict();
    let class = if verdict == "met" { "met" } else { "missed" };
    let goal = row.goal.as_ref().map_or("", |g| g.text.as_str());
    let mut text = String::new();
    write!(
        text,
        "<tr><td>{}</td><td>{}</td><td class=\"n\">{ratio}</td><td>{}</td><td class=\"n\">{value}</td>\
         <td>{}</td><td class=\"{class}\">{verdict}</td><td class=\"note\">{}</td></tr>",
        escape(&row.work),
        escape(&row.clip),
        escape(&of),
        escape(goal),
        escape(&row.note),
    )?;
    Ok(text)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// One picture as SVG; none where there is nothing to draw.
fn draw(plot: &Plot) -> Result<Option<String>> {
    let points = || plot.curves.iter().flat_map(|(_, points)| points.iter());
    let (mut left, mut right, mut top) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64);
    for (x, y) in points() {
        (left, right, top) = (left.min(*x), right.max(*x), top.max(*y));
    }
    if left > right {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (720, 420)).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder
            .caption(&plot.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(58);
        let top = top * 1.04;
        if plot.log_x {
            let range = (left.max(1e-3) * 0.9..right * 1.1).log_scale();
            let mut chart = builder.build_cartesian_2d(range, 0.0..top)?;
            lines(&mut chart, plot)?;
        } else {
            let mut chart = builder.build_cartesian_2d(left.min(0.0)..right * 1.02, 0.0..top)?;
            lines(&mut chart, plot)?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

fn lines<'a, X>(
    chart: &mut ChartContext<
        'a,
        SVGBackend<'a>,
        Cartesian2d<X, plotters::coord::types::RangedCoordf64>,
    >,
    plot: &Plot,
) -> Result<()>
where
    X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(plot.x)
        .y_desc(plot.y)
        .x_label_formatter(&|v| number(*v))
        .y_label_formatter(&|v| number(*v))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (at, (name, points)) in plot.curves.iter().enumerate() {
        let colour = Palette99::pick(at);
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(name.as_str())
            .legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 16, y)], Palette99::pick(at).stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", 12))
        .position(SeriesLabelPosition::LowerRight)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_its_plots_and_no_address_outside() {
        let mut report = Report::default();
        let mut plot = Plot::distributions("times & places", "ms");
        plot.distribution("server", &[1.0, 2.0, 40.0]);
        report.plots.push(plot);
        report
            .rows
            .push(Row::new("a <b>", "clip", 2.0, "ms").ratio(1.5, "limit"));
        let page = html(&report).unwrap();
        assert!(
            page.contains("<svg") && page.contains("a &lt;b&gt;"),
            "{page}"
        );
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http"), "{outside}");
    }
}
