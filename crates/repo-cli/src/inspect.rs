//! `repo-cli inspect`: what the server sees of a video.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use media::h265::ParameterSets;
use media::h265::slice::SliceType;
use media::index::{Framing, Layout};
use media::survey::{self, Content, FrameReport, Totals, Window};
use media::{DecodeIndex, VideoIndex};
use serde_json::{Value, json};

use crate::closure::read_window;
use crate::source::{self, RawS3};

/// `repo-cli inspect`, as typed.
#[derive(Debug, clap::Args)]
pub(crate) struct RawInspect {
    /// An H.265 video (MP4, MOV or a raw stream): a local path or s3://BUCKET/KEY
    #[arg(value_name = "VIDEO")]
    video: PathBuf,

    /// One JSON object in place of text
    #[arg(long)]
    json: bool,

    /// Leave the line per frame out
    #[arg(long)]
    summary: bool,

    #[command(flatten)]
    s3: RawS3,
}

/// One GOP, for the table.
#[derive(Clone, Copy, Debug)]
struct Gop {
    window: Window,
    bytes: u64,
    first_type: &'static str,
    leading: u32,
    totals: Totals,
}

/// Runs the subcommand.
pub(crate) fn run(raw: &RawInspect) -> anyhow::Result<ExitCode> {
    source::runtime()?.block_on(inspect(raw))?;
    Ok(ExitCode::SUCCESS)
}

async fn inspect(raw: &RawInspect) -> anyhow::Result<()> {
    let opened = source::open(&raw.video, Some(&raw.s3)).await?;
    let out = &mut BufWriter::new(std::io::stdout().lock());
    let head = head(&raw.video.to_string_lossy(), &opened.index);
    // Frames are written as they are read: a long video is not held.
    if raw.json {
        let text = serde_json::to_string(&head)?;
        write!(out, "{}", text.trim_end_matches('}'))?;
        if !raw.summary {
            write!(out, ",\"frames\":[")?;
        }
    } else {
        write_head(out, &head)?;
        if !raw.summary {
            writeln!(out, "\n{FRAME_HEADING}")?;
        }
    }
    let mut gops = Vec::new();
    let mut totals = Totals::default();
    let mut first = true;
    for window in survey::windows(&opened.index) {
        let reports = read_window(&opened, &window).await?;
        let mut gop = Gop::new(window);
        for report in &reports {
            gop.add(report);
            totals.add(report);
            if raw.summary {
                continue;
            }
            if raw.json {
                let comma = if first { "" } else { "," };
                write!(out, "{comma}{}", frame_json(&opened.index, report))?;
            } else {
                writeln!(out, "{}", frame_line(&opened.index, report))?;
            }
            first = false;
        }
        gops.push(gop);
    }
    if raw.json {
        let close = if raw.summary { "" } else { "]" };
        let gops: Vec<Value> = gops.iter().map(|g| g.json(&opened.index)).collect();
        let totals = totals_json(&totals);
        writeln!(
            out,
            "{close},\"gops\":{},\"totals\":{totals}}}",
            Value::from(gops)
        )?;
    } else {
        writeln!(out, "\n{GOP_HEADING}")?;
        for gop in &gops {
            writeln!(out, "{}", gop.line(&opened.index))?;
        }
        write_totals(out, &totals)?;
    }
    out.flush()?;
    Ok(())
}

fn text(fourcc: [u8; 4]) -> String {
    String::from_utf8_lossy(&fourcc).into_owned()
}

/// Everything but GOPs and frames.
fn head(name: &str, index: &VideoIndex) -> Value {
    let sets = ParameterSets::from_nals(index.parameter_sets());
    let seconds = index.duration() as f64 / f64::from(index.timescale().max(1));
    let layout = match index.layout() {
        Layout::Progressive { moov_first: true } => "ISO BMFF, moov before the samples",
        Layout::Progressive { moov_first: false } => "ISO BMFF, moov behind the samples",
        Layout::Fragmented => "ISO BMFF, fragmented",
        Layout::AnnexB => "byte stream (Annex B)",
    };
    let tracks: Vec<Value> = index
        .tracks()
        .iter()
        .map(|t| {
            json!({
                "id": t.id,
                "handler": text(t.handler),
                "codec": t.codec.map(text),
                "selected": t.selected,
            })
        })
        .collect();
    let descriptions: Vec<Value> = index
        .descriptions()
        .iter()
        .map(|d| {
            let framing = match d.framing {
                Framing::LengthPrefixed(n) => format!("{n}-byte lengths"),
                Framing::StartCodes => "start codes".into(),
            };
            json!({
                "codec": d.fourcc.map(text),
                "framing": framing,
                "parameter_sets": d.parameter_sets.len(),
                "colour": [d.colour.primaries, d.colour.transfer, d.colour.matrix],
                "full_range": d.colour.full_range,
                "pixel_aspect": d.pixel_aspect.map(|(h, v)| [h, v]),
            })
        })
        .collect();
    let sps: Vec<Value> = sets
        .all_sps()
        .map(|s| {
            let colour = s.vui.colour;
            json!({
                "id": s.id,
                "profile": s.profile.name(),
                "codec_string": s.profile.codec_string("hvc1"),
                "coded_size": [s.coded_width, s.coded_height],
                "size": [s.width(), s.height()],
                "chroma_format_idc": s.chroma_format_idc,
                "bit_depth": [s.bit_depth_luma, s.bit_depth_chroma],
                "short_term_ref_pic_sets": s.short_term_sets.len(),
                "long_term_ref_pics": s.long_term_present,
                "log2_max_poc_lsb": s.log2_max_poc_lsb,
                "colour": [colour.primaries, colour.transfer, colour.matrix],
                "full_range": colour.full_range,
                "sample_aspect": s.vui.sample_aspect.map(|(h, v)| [h, v]),
                "field_seq": s.vui.field_seq,
            })
        })
        .collect();
    let pps: Vec<Value> = sets
        .all_pps()
        .map(|p| {
            json!({
                "id": p.id,
                "sps_id": p.sps_id,
                "default_active": [p.default_active_l0, p.default_active_l1],
                "wavefront": p.wavefront,
                "tiles": p.tiles,
                "dependent_slice_segments": p.dependent_slice_segments,
                "lists_modification": p.lists_modification,
            })
        })
        .collect();
    let orientation = index.orientation();
    json!({
        "video": name,
        "layout": layout,
        "size": index.object_size(),
        "tracks": tracks,
        "descriptions": descriptions,
        "sps": sps,
        "pps": pps,
        "rotation": u32::from(orientation.quarter_turns) * 90,
        "mirrored": orientation.mirrored,
        "timescale": index.timescale(),
        "duration_s": seconds,
        "samples": index.sample_count(),
        "presented": index.frame_count(),
    })
}

/// The head's values, one a line, nested lists with one element a line.
fn write_head(out: &mut impl Write, head: &Value) -> anyhow::Result<()> {
    for (key, value) in head.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) => {
                for item in items {
                    let parts: Vec<String> = item
                        .as_object()
                        .into_iter()
                        .flatten()
                        .filter(|(_, v)| !v.is_null())
                        .map(|(k, v)| format!("{k} {}", plain(v)))
                        .collect();
                    writeln!(out, "{key:14} {}", parts.join(", "))?;
                }
            }
            _ => writeln!(out, "{key:14} {}", plain(value))?,
        }
    }
    Ok(())
}

/// A value without JSON's quotes and brackets.
fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("/"),
        other => other.to_string(),
    }
}

const FRAME_HEADING: &str = " decode  present         offset      size  type        poc  \
                             layer  closure   rps  prefix  references";

fn type_name(picture: &media::graph::Picture) -> String {
    let slice = match picture.slice_type {
        SliceType::I => 'I',
        SliceType::P => 'P',
        SliceType::B => 'B',
    };
    format!("{slice} {}", picture.nal_type.name())
}

fn or_dash(value: Option<u32>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

fn frame_line(index: &VideoIndex, report: &FrameReport) -> String {
    let sample = &report.sample;
    let shown = or_dash(index.presentation_index(sample.index).map(|p| p.0));
    let (kind, poc, layer, references) = match &report.content {
        Content::Picture {
            picture,
            references,
        } => (
            type_name(picture),
            picture.poc.to_string(),
            picture.temporal_id.to_string(),
            references
                .iter()
                .map(|r| r.0.to_string())
                .collect::<Vec<_>>()
                .join(" "),
        ),
        Content::Empty => ("no picture".into(), "-".into(), "-".into(), String::new()),
        Content::Unreadable(why) => ("unreadable".into(), "-".into(), "-".into(), why.to_string()),
    };
    format!(
        "{:7} {shown:>8} {:14} {:9}  {kind:12}{poc:>4} {layer:>6} {:>8} {:>5} {:>7}  {references}",
        sample.index.0,
        sample.offset,
        sample.size,
        or_dash(report.closure),
        or_dash(report.rps_closure),
        report.prefix,
    )
}

fn frame_json(index: &VideoIndex, report: &FrameReport) -> Value {
    let sample = &report.sample;
    let mut value = json!({
        "decode_index": sample.index.0,
        "frame": index.presentation_index(sample.index).map(|p| p.0),
        "offset": sample.offset,
        "size": sample.size,
        "sync": sample.sync,
        "dts": sample.dts,
        "composition_offset": sample.composition_offset,
        "closure": report.closure,
        "rps_closure": report.rps_closure,
        "prefix": report.prefix,
    });
    let more = match &report.content {
        Content::Picture {
            picture,
            references,
        } => json!({
            "nal_type": picture.nal_type.name(),
            "slice_type": format!("{:?}", picture.slice_type),
            "slice_segments": picture.slice_segments,
            "poc": picture.poc,
            "temporal_id": picture.temporal_id,
            "output": picture.output,
            "references": references.iter().map(|r| r.0).collect::<Vec<_>>(),
        }),
        Content::Empty => json!({"error": "no picture"}),
        Content::Unreadable(why) => json!({"error": why.to_string()}),
    };
    if let (Value::Object(all), Value::Object(more)) = (&mut value, more) {
        all.extend(more);
    }
    value
}

const GOP_HEADING: &str =
    "    gop  present  frames      bytes  begins with   leading  closure mean/max  prefix mean";

impl Gop {
    fn new(window: Window) -> Self {
        Self {
            window,
            bytes: 0,
            first_type: "-",
            leading: 0,
            totals: Totals::default(),
        }
    }

    fn add(&mut self, report: &FrameReport) {
        self.bytes += u64::from(report.sample.size);
        self.totals.add(report);
        if let Content::Picture { picture, .. } = &report.content {
            if report.sample.index == self.window.gop {
                self.first_type = picture.nal_type.name();
            }
            let t = picture.nal_type;
            self.leading += u32::from(t.is_rasl() || t.is_radl());
        }
    }

    fn shown(&self, index: &VideoIndex) -> Option<u32> {
        index.presentation_index(self.window.gop).map(|p| p.0)
    }

    fn line(&self, index: &VideoIndex) -> String {
        let DecodeIndex(gop) = self.window.gop;
        let cut = match self.window.cut {
            0 => String::new(),
            n => format!("  ({n} more samples not looked at)"),
        };
        format!(
            "{gop:7} {:>8} {:7} {:10}  {:12} {:8} {:>11.1}/{:<5} {:>11.1}{cut}",
            or_dash(self.shown(index)),
            self.totals.samples,
            self.bytes,
            self.first_type,
            self.leading,
            self.totals.closure_mean(),
            self.totals.closure_max,
            self.totals.prefix_mean(),
        )
    }

    fn json(&self, index: &VideoIndex) -> Value {
        json!({
            "decode_index": self.window.gop.0,
            "frame": self.shown(index),
            "samples": self.totals.samples,
            "samples_not_looked_at": self.window.cut,
            "bytes": self.bytes,
            "nal_type": self.first_type,
            "leading": self.leading,
            "closure_mean": self.totals.closure_mean(),
            "closure_max": self.totals.closure_max,
            "prefix_mean": self.totals.prefix_mean(),
        })
    }
}

fn totals_json(totals: &Totals) -> Value {
    json!({
        "samples": totals.samples,
        "frames": totals.frames,
        "closure_mean": totals.closure_mean(),
        "closure_max": totals.closure_max,
        "rps_closure_mean": totals.rps_mean(),
        "prefix_mean": totals.prefix_mean(),
    })
}

fn write_totals(out: &mut impl Write, totals: &Totals) -> anyhow::Result<()> {
    writeln!(
        out,
        "\nA random frame costs {:.1} access units by its reference closure (at most {}), {:.1} by\n\
         whole reference picture sets, and {:.1} when everything from its IRAP on is decoded.",
        totals.closure_mean(),
        totals.closure_max,
        totals.rps_mean(),
        totals.prefix_mean(),
    )?;
    let without = totals.samples - totals.frames.min(totals.samples);
    if without > 0 {
        writeln!(
            out,
            "{without} samples give no picture by closure: see the lines with -."
        )?;
    }
    Ok(())
}
