//! What the server says of itself, against the manual, the dashboard, the alerts, and the real
//! Prometheus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Backend, Client, Place, offsets};
use serde_json::{Value, json};
use testkit::directories::workspace;
use testkit::programs::Server;
use testkit::prometheus;
use web::{Web, encoded};

const BACKEND: Backend = Backend::Folder;
const PREFIX: &str = "bucket_streamer_";

/// One line of an exposition: its labels, and its value.
type Series = (BTreeMap<String, String>, f64);

/// A scrape.
#[derive(Debug, Default)]
struct Scraped {
    text: String,
    /// Type of each metric.
    kinds: BTreeMap<String, String>,
    /// Series by the names that they have in the text (`_bucket`, `_sum` and `_count`, too).
    series: BTreeMap<String, Vec<Series>>,
}

impl Scraped {
    fn of(text: String) -> Self {
        let mut scraped = Self::default();
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                scraped.kinds.insert(name.into(), kind.into());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').unwrap();
                let labels = labels.split(',').filter(|l| !l.is_empty()).map(|label| {
                    let (name, value) = label.split_once('=').unwrap();
                    (name.to_owned(), value.trim_matches('"').to_owned())
                });
                let series = scraped.series.entry(name.into()).or_default();
                series.push((labels.collect(), value.parse().unwrap()));
            }
        }
        scraped.text = text;
        scraped
    }

    async fn from(web: &Web) -> Self {
        let answer = web.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type");
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Self::of(answer.text())
    }

    /// The sum of a metric's series that have these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("{PREFIX}{name}");
        let series = self.series.get(&name).unwrap_or_else(|| panic!("{name}"));
        let of = |(has, _): &&Series| {
            let has = |(label, value): &(&str, &str)| has.get(*label).is_some_and(|v| v == value);
            labels.iter().all(has)
        };
        series.iter().filter(of).map(|(_, value)| value).sum()
    }

    /// The metric that a series belongs to, and the labels that it has beside `le`.
    fn labels(&self, metric: &str) -> BTreeSet<String> {
        let names = ["", "_count"].map(|end| format!("{metric}{end}"));
        let series = names.iter().filter_map(|n| self.series.get(n)).flatten();
        series
            .flat_map(|(labels, _)| labels.keys().cloned())
            .collect()
    }
}

async fn until(web: &Web, holds: impl Fn(&Scraped) -> bool) -> Scraped {
    loop {
        let scraped = Scraped::from(web).await;
        if holds(&scraped) {
            return scraped;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server with all that it has, which has done a bit of everything.
async fn busy() -> (Place, tempfile::TempDir, Web) {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().to_str().unwrap().to_owned();
    let place = Place::start(&["closed_gop"], &["--cache-dir", &folder, "--harvest=off"]).await;
    let web = Web::of(&place.server);
    let mut client = Client::connect(&place.server).await;
    client.request(&[7]).await;
    assert_eq!(client.reply().await.code(), "no_video");
    client.set_video("closed_gop.h265").await;
    let known = &offsets("closed_gop")[..5];
    for _ in 0..2 {
        client.request(known).await;
        client.replies(known.len()).await;
    }
    client.refused_video("absent.h265").await;
    client.refusal("{}").await;
    let frame = "/v1/videos/closed_gop.h265/frame.jpg?frame=3";
    for _ in 0..2 {
        assert_eq!(web.get(frame).await.status, 200);
    }
    let nowhere = web.get("/v1/videos/absent.h265/frame.jpg?frame=1").await;
    assert_eq!(nowhere.problem(404), "not_found");
    assert_eq!(web.get("/nothing/here").await.status, 404);
    (place, cache, web)
}

#[tokio::test]
async fn what_was_done_is_told() {
    let (_place, _cache, web) = busy().await;
    // The client has gone: its session ends. A pass counts when it has ended, and what is kept on
    // disk is written beside.
    let told = until(&web, |s| {
        s.value("sessions_ended_total", &[("end", "left")]) == 1.0
            && s.value("stage_duration_seconds_count", &[("stage", "decode")]) >= 1.0
            && s.value("disk_cache_writes_total", &[("result", "written")]) >= 1.0
    })
    .await;
    let value = |name: &str, labels: &[(&str, &str)]| told.value(name, labels);
    let frames = "websocket_frame_duration_seconds_count";
    assert_eq!(value(frames, &[("outcome", "ok")]), 10.0);
    assert_eq!(value(frames, &[("outcome", "cancelled")]), 0.0);
    let error = |protocol, code| {
        let labels = [("protocol", protocol), ("code", code)];
        value("errors_total", &labels)
    };
    assert_eq!(error("websocket", "no_video"), 1.0);
    assert_eq!(error("websocket", "not_found"), 1.0);
    assert_eq!(error("websocket", "bad_request"), 1.0);
    assert_eq!(error("http", "not_found"), 2.0);
    let http = |route, outcome| {
        let labels = [("route", route), ("outcome", outcome)];
        value("http_request_duration_seconds_count", &labels)
    };
    assert_eq!((http("frame", "ok"), http("frame", "refused")), (2.0, 1.0));
    assert_eq!(
        (http("websocket", "ok"), http("other", "refused")),
        (1.0, 1.0)
    );
    // The first five were made, the next five found; by URL, too, and then by the URL itself.
    let images = [("tier", "memory"), ("kind", "images")];
    assert!(value("cache_hits_total", &images) >= 5.0, "{}", told.text);
    assert!(value("cache_misses_total", &images) >= 5.0);
    let answers = [("tier", "memory"), ("kind", "answers")];
    assert_eq!(value("cache_hits_total", &answers), 1.0);
    assert_eq!(value("cache_misses_total", &answers), 2.0);
    assert!(value("image_bytes_total", &[("protocol", "websocket")]) > 1000.0);
    assert!(value("image_bytes_total", &[("protocol", "http")]) > 1000.0);
    for stage in [
        "queue", "fetch", "plan", "decode", "convert", "encode", "send",
    ] {
        let count = value("stage_duration_seconds_count", &[("stage", stage)]);
        assert!(count >= 1.0, "{stage}");
    }
    assert!(value("access_units_decoded_total", &[]) >= 5.0);
    assert!(value("storage_requests_total", &[]) >= 2.0);
    assert!(value("storage_received_bytes_total", &[]) > 1000.0);
    assert!(value("disk_cache_writes_total", &[("result", "written")]) >= 1.0);
    assert_eq!(value("disk_cache_writable", &[]), 1.0);
    assert_eq!(
        (value("sessions", &[]), value("sessions_limit", &[])),
        (0.0, 1024.0)
    );
    assert!(value("workers", &[]) >= 1.0);
    for idle in ["workers_busy", "websocket_frames_in_progress"] {
        until(&web, |s| s.value(idle, &[]) == 0.0).await;
    }
    // Who asks for it is in progress.
    let asking = [("route", "metrics")];
    assert_eq!(value("http_requests_in_progress", &asking), 1.0);
    if cfg!(target_os = "linux") {
        assert!(value("process_resident_memory_bytes", &[]) > 1e6);
    }
    // Buckets rise, and the last one is all.
    let buckets = &told.series[&format!("{PREFIX}stage_duration_seconds_bucket")];
    let mut last = BTreeMap::new();
    for (labels, count) in buckets {
        let before = last.insert(labels["stage"].clone(), *count).unwrap_or(0.0);
        assert!(before <= *count, "{labels:?}");
    }
    for (stage, count) in last {
        let counted = value("stage_duration_seconds_count", &[("stage", &stage)]);
        assert_eq!(counted, count, "{stage}");
    }
    let says = prometheus::promtool(&workspace(), &["check", "metrics"], &told.text);
    assert_eq!(says, Ok(()));
}

#[tokio::test]
async fn clients_choose_no_label() {
    let (_place, _cache, web) = busy().await;
    let count = |s: &Scraped| s.series.values().map(Vec::len).sum::<usize>();
    let names = [
        "secret-name.mp4",
        "x/secret-name/frame.jpg",
        "secret-name?frame=2&sig=secret-name",
    ];
    let ask = async || {
        for number in 0..20 {
            for name in names {
                web.get(&format!("/v1/videos/{number}{name}")).await;
                web.get(&format!("/{number}/{name}")).await;
            }
            let id = format!("secret-name-{number}");
            web.get_with("/health", &[("x-request-id", &id)]).await;
        }
    };
    ask().await;
    let before = Scraped::from(&web).await;
    ask().await;
    let after = Scraped::from(&web).await;
    assert_eq!(count(&before), count(&after));
    for word in ["secret-name", "closed_gop"] {
        assert!(!after.text.contains(word), "{word}");
    }
    let refused = [("route", "other"), ("outcome", "refused")];
    let counted = "http_request_duration_seconds_count";
    assert!(after.value(counted, &refused) > before.value(counted, &refused));
}

#[tokio::test]
async fn the_manual_has_all_of_them_and_no_others() {
    let (_place, _cache, web) = busy().await;
    let told = Scraped::from(&web).await;
    let real: BTreeMap<_, _> = (told.kinds.iter())
        .map(|(name, kind)| (name.clone(), (kind.clone(), told.labels(name))))
        .collect();
    let manual = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let rows = manual
        .lines()
        .filter(|l| l.starts_with("| `bucket_streamer_"));
    let written: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let labels = cells[3].split(['`', ' ']).filter(|word| !word.is_empty());
            let labels: BTreeSet<String> = labels.map(str::to_owned).collect();
            let name = cells[1].trim_matches('`').to_owned();
            (name, (cells[2].to_owned(), labels))
        })
        .collect();
    for (name, metric) in &real {
        assert_eq!(written.get(name), Some(metric), "{name}");
    }
    let unknown: Vec<_> = written.keys().filter(|n| !real.contains_key(*n)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in real.keys() {
        assert!(name.starts_with(PREFIX), "{name}");
    }
}

/// The metrics that an expression names, each with what stands in its braces.
fn named(expression: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(PREFIX) {
        let from = &rest[at..];
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, behind) = from.split_at(end.unwrap_or(from.len()));
        let within = behind.strip_prefix('{').and_then(|b| b.split_once('}'));
        found.push((name.to_owned(), within.map_or("", |(w, _)| w).to_owned()));
        rest = behind;
    }
    found
}

/// Holds an expression against what the server says: names, labels, and their values.
fn check_expression(told: &Scraped, expression: &str) {
    let known = named(expression);
    assert!(
        !known.is_empty() || expression.starts_with("up{"),
        "{expression}"
    );
    for (name, selector) in known {
        let series = told.series.get(&name);
        let series = series.unwrap_or_else(|| panic!("{name} is not there: {expression}"));
        for matcher in selector.split(", ").filter(|m| !m.is_empty()) {
            let (label, value) = matcher.split_once('=').unwrap();
            // Those that Prometheus itself adds.
            if ["job", "instance"].contains(&label) {
                continue;
            }
            for value in value.trim_matches(['~', '"']).split('|') {
                let is_there = series
                    .iter()
                    .any(|(labels, _)| labels.get(label).is_some_and(|v| v == value));
                // Outcomes that have not happened are not there.
                let may_come = label == "outcome" && ["failed", "gone"].contains(&value);
                assert!(
                    is_there || may_come,
                    "{name} has no {label}={value}: {expression}"
                );
            }
        }
    }
    for by in expression.split("by (").skip(1) {
        let (labels, _) = by.split_once(')').unwrap();
        for label in labels
            .split(", ")
            .filter(|l| !["le", "instance"].contains(l))
        {
            let somewhere = named(expression).iter().any(|(name, _)| {
                told.series[name]
                    .iter()
                    .any(|(labels, _)| labels.contains_key(label))
            });
            assert!(somewhere, "{label}: {expression}");
        }
    }
}

/// All expressions of the dashboard, by their panels' titles.
fn dashboard() -> Vec<(String, String)> {
    let text = fs::read(workspace().join("deploy/grafana/bucket-streamer.json")).unwrap();
    let page: Value = serde_json::from_slice(&text).unwrap();
    let panels = page["panels"].as_array().unwrap();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(move |t| (title.clone(), t["expr"].as_str().unwrap().to_owned()))
    };
    panels.iter().flat_map(of).collect()
}

/// The alerts' names and expressions, as they stand in the file.
fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(workspace().join("deploy/prometheus/alerts.yml")).unwrap();
    let rules = text.split("- alert: ").skip(1);
    rules
        .map(|rule| {
            let (name, rest) = rule.split_once('\n').unwrap();
            let (_, rest) = rest.split_once("expr: ").unwrap();
            let (expression, _) = rest.split_once("\n        for:").unwrap();
            let words = expression.trim_start_matches('|').split_whitespace();
            (name.to_owned(), words.collect::<Vec<_>>().join(" "))
        })
        .collect()
}

#[tokio::test]
async fn dashboard_and_alerts_name_what_there_is() {
    let (_place, _cache, web) = busy().await;
    let told = Scraped::from(&web).await;
    let shown = dashboard();
    assert!(shown.len() > 40, "{}", shown.len());
    for (_, expression) in &shown {
        check_expression(&told, expression);
    }
    // What is worth telling is worth showing.
    let all: String = shown.iter().map(|(_, e)| e.as_str()).collect();
    let mut missing: Vec<&String> = told
        .kinds
        .keys()
        .filter(|name| !all.contains(*name))
        .collect();
    missing.retain(|name| {
        let less = [
            "previews",
            "decoders_opened",
            "passes_joined",
            "sessions_limit",
            "sessions_refused",
            "disk_cache_files",
            "disk_cache_writable",
        ];
        !less.iter().any(|l| name.contains(l))
    });
    assert!(missing.is_empty(), "the dashboard lacks {missing:?}");
    let manual = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let alerts = alerts();
    assert!(alerts.len() >= 10);
    for (name, expression) in &alerts {
        check_expression(&told, expression);
        let section = format!("\n### {name}\n");
        assert_eq!(manual.matches(&section).count(), 1, "{name} has no section");
    }
    let text = fs::read_to_string(workspace().join("deploy/prometheus/alerts.yml")).unwrap();
    for (name, _) in &alerts {
        let runbook = format!("runbook: docs/operations.md#{}\n", name.to_lowercase());
        assert_eq!(text.matches(&runbook).count(), 1, "{name}");
    }
    let folder = workspace().join("deploy/prometheus");
    for check in [
        &["check", "rules", "alerts.yml"][..],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "alerts_test.yml"],
    ] {
        let says = prometheus::promtool(&folder, check, "");
        assert_eq!(says, Ok(()), "{check:?}");
    }
}

#[tokio::test]
async fn metrics_may_have_a_listener_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--local-path",
        folder.path().to_str().unwrap(),
        "--metrics-addr",
        "127.0.0.1:0",
    ];
    let server = Server::start(arguments).unwrap();
    let address = loop {
        let log = server.log();
        if let Some(line) = log.lines().find(|l| l.contains("serving metrics")) {
            let (_, address) = line.split_once("address=").unwrap();
            break address.trim().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let (public, own) = (Web::of(&server), Web::at(&address));
    assert_eq!(public.get("/metrics").await.status, 404);
    let told = Scraped::from(&own).await;
    let refused = [("route", "metrics"), ("outcome", "refused")];
    assert_eq!(
        told.value("http_request_duration_seconds_count", &refused),
        1.0
    );
    assert_eq!(own.get("/health").await.status, 404);
    assert_eq!(own.get("/v1/videos").await.status, 404);
}

/// The real Prometheus, ended when dropped.
struct Prometheus {
    child: Child,
    web: Web,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Prometheus {
    /// Scrapes a server each second, with the alerts of the repository.
    fn start(server: &Server) -> Option<Self> {
        let program = prometheus::program("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let alerts = workspace().join("deploy/prometheus/alerts.yml");
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [fs::canonicalize(alerts).unwrap()],
            "scrape_configs": [{
                "job_name": "bucket-streamer",
                "static_configs": [{"targets": [server.address()]}],
            }],
        });
        // JSON is YAML.
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let mut child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{seen}")).unwrap();
            if line.contains("\"Listening on\"") {
                let (_, address) = line.rsplit_once("address=").unwrap();
                break address.to_owned();
            }
            seen.push_str(&line);
        };
        // What it goes on to say must be read, or it would wait.
        std::thread::spawn(move || lines.for_each(drop));
        let web = Web::at(&address);
        Some(Self {
            child,
            web,
            _folder: folder,
        })
    }

    /// The series that an expression has now.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer = self.web.get(&path).await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["status"], "success", "{expression}: {told}");
        told["data"]["result"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn the_real_prometheus_scrapes_it_and_answers_the_dashboard() {
    let (place, _cache, web) = busy().await;
    let Some(prometheus) = Prometheus::start(&place.server) else {
        return;
    };
    while prometheus.web.get("/-/ready").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A rate needs two scrapes.
    let scrapes = "count_over_time(up{job=\"bucket-streamer\"}[1m])";
    loop {
        let series = prometheus.query(scrapes).await;
        let count = series
            .first()
            .map(|s| s["value"][1].as_str().unwrap().to_owned());
        if count.is_some_and(|c| c.parse::<f64>().unwrap() >= 2.0) {
            break;
        }
        web.get("/v1/videos/closed_gop.h265/frame.jpg?frame=3")
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let up = prometheus.query("up{job=\"bucket-streamer\"}").await;
    assert_eq!(up[0]["value"][1], "1");
    for (title, expression) in dashboard() {
        let asked = expression
            .replace("$__rate_interval", "1m")
            .replace("$job", "bucket-streamer")
            .replace("$instance", ".*");
        let series = prometheus.query(&asked).await;
        assert!(!series.is_empty(), "{title} shows nothing: {asked}");
    }
    for (name, expression) in alerts() {
        let firing = prometheus.query(&expression).await;
        assert!(firing.is_empty(), "{name}: {firing:?}");
    }
    let health = loop {
        let answer = prometheus.web.get("/api/v1/rules").await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        let rules = told["data"]["groups"][0]["rules"]
            .as_array()
            .unwrap()
            .clone();
        let health: Vec<String> = rules
            .iter()
            .map(|r| r["health"].as_str().unwrap().to_owned())
            .collect();
        if !health.iter().any(|h| h == "unknown") {
            break health;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(health.len(), alerts().len());
    assert!(health.iter().all(|h| h == "ok"), "{health:?}");
}
