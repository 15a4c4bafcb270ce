//! Sample descriptions: `stsd`, the visual sample entry, `hvcC`, `colr`, `pasp`, encryption.

use bytes::Bytes;

use super::super::DemuxError;
use super::boxes::{BoxRef, Fields, FourCc};
use crate::colour::{ColourDescription, UNSPECIFIED};
use crate::index::{Framing, SampleDescription};

/// Bytes of a visual sample entry (ISO/IEC 14496-12, 12.1.3) before the boxes inside it.
const VISUAL_SAMPLE_ENTRY: usize = 78;

/// One entry of `stsd`.
#[derive(Debug)]
pub(super) struct SampleEntry {
    pub(super) fourcc: FourCc,
    /// Width and height in pixels, as the entry says; 0 where it is no visual sample entry.
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) content: Content,
}

/// What the samples of an entry hold.
#[derive(Debug)]
pub(super) enum Content {
    /// H.265 that can be decoded.
    Hevc(SampleDescription),
    /// Anything else, and why it cannot be served.
    Other(DemuxError),
}

/// Reads all entries of `stsd`. `visual`: the track's handler says that they are pictures.
pub(super) fn read_stsd(stsd: &BoxRef<'_>, visual: bool) -> Result<Vec<SampleEntry>, DemuxError> {
    let (_, _, mut fields) = stsd.full()?;
    let count = fields.u32().ok_or_else(|| stsd.short())?;
    let mut entries = Vec::new();
    for entry in stsd.children_after(8) {
        if entries.len() as u64 >= u64::from(count) {
            break;
        }
        entries.push(read_entry(&entry?, visual));
    }
    if (entries.len() as u64) < u64::from(count) {
        return Err(stsd.damaged(format_args!(
            "says that it has {count} entries, but there are {}",
            entries.len()
        )));
    }
    Ok(entries)
}

/// An entry that cannot be read is kept with the reason: another entry, or another track, may be
/// the one that is wanted.
fn read_entry(entry: &BoxRef<'_>, visual: bool) -> SampleEntry {
    let fourcc = entry.fourcc;
    let (width, height) = if visual {
        dimensions(entry).unwrap_or((0, 0))
    } else {
        (0, 0)
    };
    let content = match &fourcc.0 {
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => match read_hevc(entry) {
            Ok(description) => Content::Hevc(description),
            Err(e) => Content::Other(e),
        },
        b"encv" => Content::Other(encrypted(entry)),
        // H.265 as well, but put together from parts, or not whole by itself.
        b"hvc2" | b"hev2" | b"hvc3" | b"hev3" | b"lhv1" | b"lhe1" | b"hvt1" | b"hvt2" | b"hvt3" => {
            Content::Other(DemuxError::Unsupported {
                what: codec_name(fourcc),
            })
        }
        _ => Content::Other(DemuxError::OtherCodec {
            codec: codec_name(fourcc),
        }),
    };
    SampleEntry {
        fourcc,
        width,
        height,
        content,
    }
}

/// ```text
/// reserved(8×6) data_reference_index(16) pre_defined(16) reserved(16) pre_defined(32×3)
/// width(16) height(16) …
/// ```
fn dimensions(entry: &BoxRef<'_>) -> Option<(u16, u16)> {
    let mut fields = entry.fields();
    fields.skip(24)?;
    Some((fields.u16()?, fields.u16()?))
}

fn read_hevc(entry: &BoxRef<'_>) -> Result<SampleDescription, DemuxError> {
    if entry.body.len() < VISUAL_SAMPLE_ENTRY {
        return Err(entry.short());
    }
    let (mut configuration, mut colour, mut pixel_aspect) = (None, None, None);
    for child in entry.children_after(VISUAL_SAMPLE_ENTRY) {
        let child = child?;
        match &child.fourcc.0 {
            b"hvcC" if configuration.is_none() => configuration = Some(read_hvcc(&child)?),
            b"colr" if colour.is_none() => colour = read_colr(&child),
            b"pasp" => pixel_aspect = read_pasp(&child),
            _ => {}
        }
    }
    let (length_size, parameter_sets) =
        configuration.ok_or_else(|| entry.damaged("has no `hvcC`"))?;
    Ok(SampleDescription {
        fourcc: Some(entry.fourcc.0),
        framing: Framing::LengthPrefixed(length_size),
        parameter_sets,
        colour: colour.unwrap_or_default(),
        pixel_aspect,
    })
}

/// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 8.3.3.1): the size of NAL unit lengths,
/// and the parameter sets of the base layer in the record's order.
///
/// ```text
/// … 21 bytes …  constantFrameRate(2) numTemporalLayers(3) temporalIdNested(1) lengthSizeMinusOne(2)
/// numOfArrays(8)  { array_completeness(1) 0(1) NAL_unit_type(6)  numNalus(16)
///                   { nalUnitLength(16) nalUnit } }
/// ```
fn read_hvcc(hvcc: &BoxRef<'_>) -> Result<(u8, Vec<Bytes>), DemuxError> {
    let mut fields = hvcc.fields();
    fields.skip(21).ok_or_else(|| hvcc.short())?;
    let length_size = (fields.u8().ok_or_else(|| hvcc.short())? & 0b11) + 1;
    if length_size == 3 {
        return Err(DemuxError::Unsupported {
            what: "NAL unit lengths of 3 bytes (`lengthSizeMinusOne` 2 is reserved)".into(),
        });
    }
    let parameter_sets = read_arrays(&mut fields).ok_or_else(|| hvcc.short())?;
    Ok((length_size, parameter_sets))
}

fn read_arrays(fields: &mut Fields<'_>) -> Option<Vec<Bytes>> {
    let mut sets = Vec::new();
    for _array in 0..fields.u8()? {
        fields.u8()?;
        for _nal in 0..fields.u16()? {
            let length = fields.u16()?;
            let nal = fields.bytes(usize::from(length))?;
            if is_base_layer_parameter_set(nal) {
                // Copied: a slice would keep the whole `moov` alive.
                sets.push(Bytes::copy_from_slice(nal));
            }
        }
    }
    Some(sets)
}

/// Whether a NAL unit is a VPS, SPS or PPS with `nuh_layer_id` 0 (H.265, 7.3.1.2).
pub(super) fn is_base_layer_parameter_set(nal: &[u8]) -> bool {
    nal_header(nal).is_some_and(|(kind, layer)| matches!(kind, 32..=34) && layer == 0)
}

/// Whether a NAL unit is an SPS with `nuh_layer_id` 0.
pub(super) fn is_base_layer_sps(nal: &[u8]) -> bool {
    nal_header(nal) == Some((33, 0))
}

/// `nal_unit_type` and `nuh_layer_id`.
fn nal_header(nal: &[u8]) -> Option<(u8, u8)> {
    let word = Fields(nal).u16()?;
    Some((((word >> 9) & 0x3f) as u8, ((word >> 3) & 0x3f) as u8))
}

/// `colr`: `nclx`, or QuickTime's `nclc`, which says nothing of the range. ICC profiles say
/// nothing by code points.
fn read_colr(colr: &BoxRef<'_>) -> Option<ColourDescription> {
    let mut fields = colr.fields();
    let kind = fields.array::<4>()?;
    if !matches!(&kind, b"nclx" | b"nclc") {
        return None;
    }
    let mut code = || {
        let value = fields.u16()?;
        Some(u8::try_from(value).unwrap_or(UNSPECIFIED))
    };
    let (primaries, transfer, matrix) = (code()?, code()?, code()?);
    let full_range = if &kind == b"nclx" {
        fields.u8().map(|byte| byte & 0x80 != 0)
    } else {
        None
    };
    Some(ColourDescription {
        primaries,
        transfer,
        matrix,
        full_range,
    })
}

fn read_pasp(pasp: &BoxRef<'_>) -> Option<(u32, u32)> {
    let mut fields = pasp.fields();
    Some((fields.u32()?, fields.u32()?)).filter(|&(h, v)| h != 0 && v != 0)
}

/// The error for an encrypted entry, with what `sinf` says of it (ISO/IEC 14496-12, 8.12).
fn encrypted(entry: &BoxRef<'_>) -> DemuxError {
    let sinf = entry
        .children_after(VISUAL_SAMPLE_ENTRY)
        .filter_map(Result::ok)
        .find(|child| &child.fourcc.0 == b"sinf");
    let inner = |kind: &[u8; 4], skip: usize| {
        let child = sinf?.child(kind).ok()??;
        let mut fields = child.fields();
        fields.skip(skip)?;
        fields.array::<4>().map(FourCc)
    };
    let codec = inner(b"frma", 0).map_or_else(|| "video".into(), codec_name);
    let scheme = inner(b"schm", 4).map_or_else(String::new, |s| format!(", scheme `{s}`"));
    DemuxError::Unsupported {
        what: format!("encrypted {codec} (`encv`{scheme})"),
    }
}

/// What people call the codec of a sample entry, with its code.
pub(super) fn codec_name(fourcc: FourCc) -> String {
    let name = match &fourcc.0 {
        b"hvc1" | b"hev1" => "H.265",
        b"hvc2" | b"hev2" | b"hvc3" | b"hev3" => "H.265 with extractors",
        b"dvh1" | b"dvhe" => "Dolby Vision H.265",
        b"lhv1" | b"lhe1" => "layered H.265 without its base layer",
        b"hvt1" | b"hvt2" | b"hvt3" => "H.265 tiles",
        b"avc1" | b"avc2" | b"avc3" | b"avc4" => "H.264",
        b"dva1" | b"dvav" => "Dolby Vision H.264",
        b"vvc1" | b"vvi1" => "H.266",
        b"evc1" => "EVC",
        b"av01" => "AV1",
        b"dav1" => "Dolby Vision AV1",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"mp4v" => "MPEG-4 part 2",
        b"s263" | b"h263" => "H.263",
        b"mp1v" | b"m1v " => "MPEG-1 video",
        b"mp2v" | b"m2v1" | b"hdv1" | b"hdv2" | b"hdv3" => "MPEG-2 video",
        b"jpeg" | b"mjpa" | b"mjpb" | b"mjpg" => "Motion JPEG",
        b"mjp2" | b"mj2s" => "Motion JPEG 2000",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "ProRes",
        b"aprn" => "ProRes RAW",
        b"AVdn" | b"AVdh" => "DNxHD",
        b"CFHD" => "CineForm",
        b"dvcp" | b"dvc " | b"dvpp" | b"dv5p" | b"dv5n" => "DV",
        b"png " => "PNG",
        b"tmcd" => "a time code",
        b"mebx" | b"mett" | b"metx" => "timed metadata",
        _ => return format!("`{fourcc}`"),
    };
    format!("{name} (`{fourcc}`)")
}
