//! All metrics, by name: the one list of them. docs/operations.md has it as a table, which a test
//! holds against what the server really says.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{BOUNDS, Engine, HistogramReading};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::process::Process;
use super::{Answered, End, Metrics, Outcome, Protocol, Route};
use crate::outbox::Outboxes;

/// Where everything is read.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) metrics: Arc<Metrics>,
    pub(super) engine: Engine,
    pub(super) outboxes: Arc<Outboxes>,
    /// How many sessions there may be.
    pub(super) most_sessions: usize,
}

type Labels<'a> = &'a [(&'static str, &'static str)];

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: &[(Labels<'_>, u64)],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in series {
            let mut one = family.encode_family(labels)?;
            one.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, None, &[(&[], value)])
    }

    fn byte_counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, Some(&Unit::Bytes), &[(&[], value)])
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: &[(Labels<'_>, u64)],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, None, &[(&[], value)])
    }

    /// In seconds.
    fn histograms<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = ([(&'static str, &'static str); N], HistogramReading)>,
    ) -> fmt::Result {
        const NANOS: f64 = 1e9;
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Histogram);
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, reading) in series {
            let bounds = BOUNDS.iter().map(|nanos| *nanos as f64 / NANOS);
            let bounds = bounds.chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(reading.buckets).collect();
            let seconds = reading.nanos as f64 / NANOS;
            let mut one = family.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(seconds, reading.count(), &buckets, None)?;
        }
        Ok(())
    }
}

fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Families(encoder);
        self.requests(&mut to)?;
        self.work(&mut to)?;
        self.caches(&mut to)?;
        self.storage(&mut to)?;
        self.memory(&mut to)?;
        to.gauges(
            "build_info",
            "The program's version; always 1",
            None,
            &[(&[("version", env!("CARGO_PKG_VERSION"))], 1)],
        )
    }
}

impl Exposition {
    fn requests(&self, to: &mut Families<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let routes = Route::ALL.iter().flat_map(|route| {
            let of = metrics.http.at(*route as usize);
            Outcome::ALL.iter().filter_map(move |outcome| {
                let reading = of?.at(*outcome as usize)?.read();
                let labels = [("route", route.as_str()), ("outcome", outcome.as_str())];
                // What never happened says nothing, and would be most of the page.
                let told = *outcome == Outcome::Ok || reading.count() > 0;
                told.then_some((labels, reading))
            })
        });
        to.histograms(
            "http_request_duration",
            "From an HTTP request to the beginning of its answer",
            routes,
        )?;
        let routes: Vec<_> = Route::ALL
            .iter()
            .map(|route| [("route", route.as_str())])
            .collect();
        let cells = routes.iter().zip(&metrics.http_in_progress.0);
        let cells: Vec<(Labels<'_>, u64)> = cells
            .map(|(labels, cell)| (&labels[..], read(cell)))
            .collect();
        to.gauges(
            "http_requests_in_progress",
            "HTTP requests whose answers have not begun",
            None,
            &cells,
        )?;
        let answered = Answered::ALL.iter().zip(&metrics.frames.0);
        to.histograms(
            "websocket_frame_duration",
            "From a message that asks for a frame to the frame's answer, without sending it",
            answered.map(|(a, histogram)| ([("outcome", a.as_str())], histogram.read())),
        )?;
        to.gauge(
            "websocket_frames_in_progress",
            "Frames asked for over WebSocket that have no answer yet",
            read(&metrics.frames_in_progress),
        )?;
        to.counter(
            "previews",
            "Previews sent over WebSocket",
            read(&metrics.previews),
        )?;
        let [websocket, http] = [Protocol::Websocket, Protocol::Http].map(|protocol| {
            let cell = metrics.image_bytes.at(protocol as usize);
            ([("protocol", protocol.as_str())], cell.map_or(0, read))
        });
        to.counters(
            "image",
            "Bytes of pictures given to clients",
            Some(&Unit::Bytes),
            &[(&websocket.0, websocket.1), (&http.0, http.1)],
        )?;
        let (help, kind) = (
            "Answers with an error in place of what was asked for",
            MetricType::Counter,
        );
        let family = to.0.encode_descriptor("errors", help, None, kind)?;
        metrics.errors.encode(family)?;
        to.gauge(
            "sessions",
            "WebSocket sessions that are open",
            read(&metrics.sessions),
        )?;
        to.gauge(
            "sessions_limit",
            "WebSocket sessions that may be open",
            self.most_sessions as u64,
        )?;
        to.counter(
            "sessions_refused",
            "WebSocket sessions refused, since as many were open as may be",
            read(&metrics.sessions_refused),
        )?;
        let ends: Vec<_> = End::ALL.iter().map(|end| [("end", end.as_str())]).collect();
        let ends = ends.iter().zip(&metrics.ended.0);
        let ends: Vec<(Labels<'_>, u64)> = ends
            .map(|(labels, cell)| (&labels[..], read(cell)))
            .collect();
        to.counters(
            "sessions_ended",
            "WebSocket sessions that have ended",
            None,
            &ends,
        )
    }

    fn work(&self, to: &mut Families<'_>) -> fmt::Result {
        let engine = &self.engine;
        let stages = engine.stage_histograms();
        let send = ("send", self.metrics.send.read());
        to.histograms(
            "stage_duration",
            "How long the stages of a frame's way took",
            stages
                .named()
                .chain([send])
                .map(|(s, r)| ([("stage", s)], r)),
        )?;
        let state = engine.state();
        to.gauge("workers", "Threads that decode and encode", state.workers)?;
        to.gauge(
            "workers_busy",
            "Of these, those that do",
            state.workers_busy,
        )?;
        let did = engine.counters();
        let figures = [
            (
                "access_units_decoded",
                "Access units given to a decoder",
                did.access_units_decoded,
            ),
            (
                "access_units_needed",
                "Access units that the pictures made depend on, each picture taken alone",
                did.access_units_needed,
            ),
            (
                "access_units_harvested",
                "Access units decoded for nobody's request",
                did.access_units_harvested,
            ),
            ("images_encoded", "Pictures encoded", did.images_encoded),
            (
                "images_harvested",
                "Pictures encoded for nobody's request",
                did.images_harvested,
            ),
            (
                "images_joined",
                "Pictures asked for that were in the making for somebody else",
                did.joined,
            ),
            ("passes", "Visits of a worker to a GOP", did.passes),
            (
                "passes_continued",
                "Passes that went on with a decoder that stood in the GOP",
                did.passes_continued,
            ),
            (
                "passes_yielded",
                "Passes that ended early for something more urgent",
                did.passes_yielded,
            ),
            (
                "passes_joined",
                "Frames that joined a running pass on its way",
                did.joined_passes,
            ),
            (
                "passes_fallback",
                "Passes that decoded everything, since headers did not say what depends on what",
                did.fallback_passes,
            ),
            (
                "passes_repeated",
                "Passes that met damage and decoded anew what does not depend on it",
                did.repeated_passes,
            ),
            ("decoders_opened", "Decoders opened", did.decoders_opened),
            (
                "decode_workers_lost",
                "Processes that decode and crashed, hung or were ended",
                did.workers_lost,
            ),
            (
                "videos_refused",
                "Videos that ended such processes again and again, and are not decoded for a while",
                did.suspects,
            ),
            (
                "frames_cancelled",
                "Frames that were no longer wanted before they were made",
                did.targets_cancelled,
            ),
        ];
        for (name, help, value) in figures {
            to.counter(name, help, value)?;
        }
        Ok(())
    }

    fn caches(&self, to: &mut Families<'_>) -> fmt::Result {
        let (did, state) = (self.engine.counters(), self.engine.state());
        let metrics = &self.metrics;
        const MEMORY: (&str, &str) = ("tier", "memory");
        const DISK: (&str, &str) = ("tier", "disk");
        const KINDS: [(&str, &str); 4] = [
            ("kind", "images"),
            ("kind", "runs"),
            ("kind", "indexes"),
            ("kind", "answers"),
        ];
        let [images, runs, indexes, answers] = KINDS;
        let labels = [
            [MEMORY, images],
            [MEMORY, runs],
            [MEMORY, indexes],
            [MEMORY, answers],
            [DISK, images],
            [DISK, runs],
            [DISK, indexes],
        ];
        let tiers = if state.disk.is_some() { 7 } else { 4 };
        let hits = [
            did.cache_hits.saturating_sub(did.disk_hits),
            did.run_hits,
            did.index_hits,
            read(&metrics.answer_hits),
            did.disk_hits,
            did.run_disk_hits,
            did.index_disk_hits,
        ];
        let misses = [
            did.cache_misses.saturating_add(did.disk_hits),
            did.run_misses,
            did.index_misses,
            read(&metrics.answer_misses),
            did.cache_misses,
            did.run_disk_misses,
            did.index_disk_misses,
        ];
        let series = |values: [u64; 7]| -> Vec<(Labels<'_>, u64)> {
            let all = labels.iter().zip(values).take(tiers);
            all.map(|(labels, value)| (&labels[..], value)).collect()
        };
        to.counters(
            "cache_hits",
            "What was looked for in a cache and found: images, compressed runs, indexes, and answers by their URLs",
            None,
            &series(hits),
        )?;
        to.counters(
            "cache_misses",
            "What was looked for in a cache and not found",
            None,
            &series(misses),
        )?;
        let disk = state.disk;
        let tiers = |memory: u64, disk: Option<u64>| -> Vec<(Labels<'static>, u64)> {
            let memory: (Labels<'static>, u64) = (&[MEMORY], memory);
            let disk = disk.map(|bytes| -> (Labels<'static>, u64) { (&[DISK], bytes) });
            [memory].into_iter().chain(disk).collect()
        };
        to.gauges(
            "cache",
            "What a cache holds",
            Some(&Unit::Bytes),
            &tiers(state.memory_bytes, disk.map(|d| d.bytes)),
        )?;
        to.gauges(
            "cache_limit",
            "What a cache may hold",
            Some(&Unit::Bytes),
            &tiers(state.memory_budget, disk.map(|d| d.budget)),
        )?;
        let Some(disk) = disk else { return Ok(()) };
        to.gauge("disk_cache_files", "Files of the cache on disk", disk.files)?;
        to.gauge(
            "disk_cache_writable",
            "Whether the folder took what was last written: 0 where the disk is full or gone",
            disk.writable.into(),
        )?;
        let c = disk.counters;
        to.counters(
            "disk_cache_writes",
            "What became of values for the cache on disk; skipped: the folder had just refused others",
            None,
            &[
                (&[("result", "written")], c.written),
                (&[("result", "skipped")], c.skipped),
                (&[("result", "dropped")], c.dropped),
                (&[("result", "too_large")], c.too_large),
            ],
        )?;
        to.counter(
            "disk_cache_failures",
            "Reads, writes and removals that the system refused",
            c.failed,
        )?;
        to.counter(
            "disk_cache_damaged",
            "Files left out, since they are not what was written",
            c.damaged,
        )
    }

    fn storage(&self, to: &mut Families<'_>) -> fmt::Result {
        let did = self.engine.store().counters();
        to.counter(
            "storage_requests",
            "Reads sent to the store, those sent again and rivals among them",
            did.requests,
        )?;
        to.byte_counter("storage_received", "Bytes received of the store", did.bytes)?;
        to.counter(
            "storage_retries",
            "Requests sent again after a failure that may pass",
            did.retries,
        )?;
        to.counter(
            "storage_hedges",
            "Second requests, since the first was slow to begin",
            did.hedges,
        )?;
        to.counter(
            "storage_joined",
            "Reads that joined an equal one under way, and sent nothing",
            did.joined,
        )
    }

    fn memory(&self, to: &mut Families<'_>) -> fmt::Result {
        let tickets = self.engine.state().waiting_bytes;
        let outboxes = self.outboxes.waiting() as u64;
        to.gauges(
            "waiting",
            "Bytes of pictures and answers that wait for clients to take them",
            Some(&Unit::Bytes),
            &[
                (&[("place", "tickets")], tickets),
                (&[("place", "outboxes")], outboxes),
            ],
        )?;
        let process = Process::read();
        let bytes = Some(&Unit::Bytes);
        let limit = Some(engine::usable_memory());
        for (name, help, unit, value) in [
            (
                "process_resident_memory",
                "Memory of this process that is really there",
                bytes,
                process.resident_bytes,
            ),
            (
                "process_memory_limit",
                "Memory that this process may use",
                bytes,
                limit,
            ),
            (
                "process_open_fds",
                "Open files and sockets",
                None,
                process.open_fds,
            ),
            (
                "process_max_fds",
                "Files and sockets that may be open",
                None,
                process.max_fds,
            ),
            ("process_threads", "Threads", None, process.threads),
        ] {
            if let Some(value) = value {
                to.gauges(name, help, unit, &[(&[], value)])?;
            }
        }
        Ok(())
    }
}
