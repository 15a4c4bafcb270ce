//! A headless Chromium with a page, driven by the Chrome DevTools protocol over its WebSocket.
//!
//! Hands and eyes only: events of mouse, touch and keyboard go through the browser's own input, and
//! what is on the page is asked of the page.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Long enough for a slow machine; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the page.
const GLANCE: Duration = Duration::from_millis(25);

/// Where Chromium is: `CHROMIUM`, else under one of its names. `make test` installs it on Debian.
pub fn program() -> Result<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM").filter(|value| !value.is_empty()) {
        return Ok(named.into());
    }
    const NAMES: [&str; 4] = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let found = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .chain(["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome".into()])
        .find(|program| program.is_file());
    found.context("Chromium is not installed: run `scripts/install-deps.sh tests`, or set CHROMIUM to its path")
}

type Replies = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// A running browser, ended when dropped.
pub struct Browser {
    child: Child,
    wire: Wire,
    // Removed after the child has been ended.
    _profile: TempDir,
}

#[derive(Clone)]
struct Wire {
    next: Arc<AtomicU64>,
    replies: Replies,
    events: Arc<Mutex<Vec<Value>>>,
    commands: mpsc::Sender<Message>,
}

impl Browser {
    /// Starts it with an empty profile, and with no window.
    pub async fn start() -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(program()?);
        command
            .args(["--headless", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // The pages are our own, and a container's root has no sandbox to give.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
            .args(["--no-first-run", "--disable-extensions", "--disable-sync"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--password-store=basic",
                "--hide-scrollbars",
                "--mute-audio",
            ])
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start Chromium")?;
        let stderr = child.stderr.take().context("no pipe")?;
        let (told, address) = oneshot::channel();
        thread::Builder::new()
            .name("chromium's log".to_owned())
            .spawn(move || watch(stderr, told))?;
        let address = tokio::time::timeout(PATIENCE, address).await;
        let address = match address
            .context("Chromium does not start")
            .and_then(|a| Ok(a?))
        {
            Ok(Ok(address)) => address,
            Ok(Err(log)) => {
                let _ = child.kill();
                let status = child.wait()?;
                bail!("Chromium ended before it listened ({status})\n{log}");
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let wire = Wire::connect(&address).await?;
        Ok(Self {
            child,
            wire,
            _profile: profile,
        })
    }

    /// An empty page of this size in CSS pixels.
    pub async fn page(&self, width: u32, height: u32) -> Result<Page> {
        let made = self
            .wire
            .call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let target = text(&made.await?, "targetId")?;
        let attached = self.wire.call(
            None,
            "Target.attachToTarget",
            json!({ "targetId": target, "flatten": true }),
        );
        let session = text(&attached.await?, "sessionId")?;
        let page = Page {
            wire: self.wire.clone(),
            session,
        };
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        page.resize(width, height, 1.0, false).await?;
        Ok(page)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the address that Chromium listens on, or all it wrote where it ended before.
fn watch(stderr: impl Read, told: oneshot::Sender<Result<String, String>>) {
    let mut told = Some(told);
    let mut log = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        // The rest is read, so that the pipe does not fill, and passed over.
        if told.is_none() {
            continue;
        }
        if let Some((_, address)) = line.split_once("DevTools listening on ") {
            let told = told.take().map(|told| told.send(Ok(address.to_owned())));
            drop(told);
        }
        log.push_str(&line);
        log.push('\n');
    }
    if let Some(told) = told {
        let _ = told.send(Err(log));
    }
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value.get(field).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("no {field}: {value}"))?
        .to_owned())
}

impl Wire {
    async fn connect(address: &str) -> Result<Self> {
        // A screenshot is one message.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let (socket, _) = connect_async_with_config(address, Some(config), true).await?;
        let (mut write, mut read) = socket.split();
        let (commands, mut wanted) = mpsc::channel(64);
        let replies = Replies::default();
        let events = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(async move {
            while let Some(message) = wanted.recv().await {
                if write.send(message).await.is_err() {
                    return;
                }
            }
        });
        let (waiting, log) = (Arc::clone(&replies), Arc::clone(&events));
        tokio::spawn(async move {
            while let Some(Ok(message)) = read.next().await {
                let Message::Text(message) = message else {
                    continue;
                };
                let Ok(message) = serde_json::from_str::<Value>(&message) else {
                    continue;
                };
                let Some(id) = message["id"].as_u64() else {
                    lock(&log).push(message);
                    continue;
                };
                if let Some(waiting) = lock(&waiting).remove(&id) {
                    let reply = match message.get("error") {
                        Some(error) => Err(error.to_string()),
                        None => Ok(message["result"].clone()),
                    };
                    let _ = waiting.send(reply);
                }
            }
            // Who still waits is told by the end of its channel.
            lock(&waiting).clear();
        });
        Ok(Self {
            next: Arc::new(AtomicU64::new(1)),
            replies,
            events,
            commands,
        })
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (told, reply) = oneshot::channel();
        lock(&self.replies).insert(id, told);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let sent = self.commands.send(Message::text(message.to_string())).await;
        sent.ok().context("Chromium has gone")?;
        let reply = tokio::time::timeout(PATIENCE, reply).await;
        let reply = reply.with_context(|| format!("Chromium does not answer {method}"))?;
        reply
            .context("Chromium has gone")?
            .map_err(|error| anyhow!("{method}: {error}"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One page.
pub struct Page {
    wire: Wire,
    session: String,
}

impl Page {
    /// A command of the protocol.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.wire.call(Some(&self.session), method, params).await
    }

    /// What the browser told of this page since it was made: those events of this name.
    pub fn events(&self, method: &str) -> Vec<Value> {
        let events = lock(&self.wire.events);
        let own = |e: &&Value| e["sessionId"] == self.session.as_str() && e["method"] == method;
        events
            .iter()
            .filter(own)
            .map(|e| e["params"].clone())
            .collect()
    }

    /// Everything that went wrong on the page by its own words: exceptions nobody caught, and what
    /// the browser refused (a policy's violations among them).
    pub fn complaints(&self) -> Vec<String> {
        let thrown = self.events("Runtime.exceptionThrown").into_iter();
        let logged = self.events("Log.entryAdded").into_iter();
        let logged = logged.filter(|e| e["entry"]["level"] == "error");
        thrown
            .chain(logged)
            .map(|event| event.to_string())
            .collect()
    }

    /// The size of the window in CSS pixels, the screen's pixels for each, and whether it is a
    /// phone's.
    pub async fn resize(&self, width: u32, height: u32, scale: f64, phone: bool) -> Result<()> {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)
            .await?;
        let touch = json!({ "enabled": phone, "maxTouchPoints": 2 });
        self.call("Emulation.setTouchEmulationEnabled", touch)
            .await?;
        Ok(())
    }

    /// What the system says of colours: `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) -> Result<()> {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let params = json!({ "features": [feature] });
        self.call("Emulation.setEmulatedMedia", params).await?;
        Ok(())
    }

    /// Goes to an address; returns when the page has loaded.
    pub async fn go(&self, url: &str) -> Result<()> {
        let before = self.events("Page.loadEventFired").len();
        let went = self.call("Page.navigate", json!({ "url": url })).await?;
        ensure!(went.get("errorText").is_none(), "{url}: {went}");
        // Another place on the same page loads nothing.
        if went.get("loaderId").is_none() {
            return Ok(());
        }
        let loaded = async {
            while self.events("Page.loadEventFired").len() == before {
                tokio::time::sleep(GLANCE).await;
            }
        };
        let loaded = tokio::time::timeout(PATIENCE, loaded).await;
        loaded.with_context(|| format!("{url} does not load"))
    }

    /// The value of an expression in the page; promises are waited for.
    pub async fn value(&self, expression: &str) -> Result<Value> {
        let params = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
            "userGesture": true,
        });
        let result = self.call("Runtime.evaluate", params).await?;
        if let Some(thrown) = result.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(result["result"]["value"].clone())
    }

    /// Waits until the expression is true.
    pub async fn until(&self, expression: &str) -> Result<()> {
        let truth = async {
            loop {
                if self.value(expression).await? == true {
                    return Ok(());
                }
                tokio::time::sleep(GLANCE).await;
            }
        };
        match tokio::time::timeout(PATIENCE, truth).await {
            Ok(done) => done,
            Err(_) => {
                let text = self.value("document.body.innerText").await;
                let complaints = self.complaints();
                bail!("never true: {expression}\npage: {text:?}\n{complaints:#?}")
            }
        }
    }

    /// The middle of the first element of this selector, in the window.
    pub async fn middle(&self, selector: &str) -> Result<(f64, f64)> {
        let (left, top, width, height) = self.place(selector).await?;
        Ok((left + width / 2.0, top + height / 2.0))
    }

    /// Left, top, width and height of the first element of this selector, in the window.
    pub async fn place(&self, selector: &str) -> Result<(f64, f64, f64, f64)> {
        let script = format!(
            "(() => {{ const b = document.querySelector({}).getBoundingClientRect(); \
             return [b.left, b.top, b.width, b.height] }})()",
            json!(selector)
        );
        let place: Vec<f64> = serde_json::from_value(self.value(&script).await?)?;
        let [left, top, width, height] = place[..] else {
            bail!("no place of {selector}")
        };
        Ok((left, top, width, height))
    }

    /// One event of the mouse: `mouseMoved`, `mousePressed` or `mouseReleased`. The left button is
    /// down where `held`.
    pub async fn mouse(&self, kind: &str, x: f64, y: f64, held: bool) -> Result<()> {
        let params = json!({
            "type": kind, "x": x, "y": y, "clickCount": 1,
            "button": if kind == "mouseMoved" && !held { "none" } else { "left" },
            "buttons": u8::from(held),
        });
        self.call("Input.dispatchMouseEvent", params).await?;
        Ok(())
    }

    /// A click into the middle of an element.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let (x, y) = self.middle(selector).await?;
        self.mouse("mouseMoved", x, y, false).await?;
        self.mouse("mousePressed", x, y, true).await?;
        self.mouse("mouseReleased", x, y, false).await
    }

    /// A turn of the wheel there; away from the hand where negative.
    pub async fn wheel(&self, x: f64, y: f64, delta: f64) -> Result<()> {
        let params = json!({
            "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta,
        });
        self.call("Input.dispatchMouseEvent", params).await?;
        Ok(())
    }

    /// `touchStart`, `touchMove` or `touchEnd`, with the fingers that are on the glass.
    pub async fn touch(&self, kind: &str, fingers: &[(f64, f64)]) -> Result<()> {
        let points: Vec<Value> = fingers
            .iter()
            .zip(0..)
            .map(|((x, y), id)| json!({ "x": x, "y": y, "id": id }))
            .collect();
        let params = json!({ "type": kind, "touchPoints": points });
        self.call("Input.dispatchTouchEvent", params).await?;
        Ok(())
    }

    /// A key, as `KeyboardEvent.key` calls it, pressed and let go.
    pub async fn key(&self, key: &str, shift: bool) -> Result<()> {
        let code = match key {
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Home" => 36,
            "End" => 35,
            "PageUp" => 33,
            "PageDown" => 34,
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            " " => 32,
            other => other
                .bytes()
                .next()
                .map_or(0, |b| u32::from(b.to_ascii_uppercase())),
        };
        let typed = match key {
            "Enter" => Some("\r"),
            one if one.chars().count() == 1 => Some(one),
            _ => None,
        };
        let mut params = json!({
            "type": "keyDown", "key": key, "windowsVirtualKeyCode": code,
            "modifiers": if shift { 8 } else { 0 },
        });
        if let Some(typed) = typed {
            params["text"] = typed.into();
        }
        self.call("Input.dispatchKeyEvent", params.clone()).await?;
        params["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", params).await?;
        Ok(())
    }

    /// What is seen, as PNG.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        Ok(STANDARD.decode(text(&shot.await?, "data")?)?)
    }

    /// What a canvas of the page shows, as JPEG of the highest quality.
    pub async fn canvas(&self, selector: &str) -> Result<Vec<u8>> {
        let script = format!(
            "document.querySelector({}).toDataURL('image/jpeg', 1)",
            json!(selector)
        );
        let url = self.value(&script).await?;
        let url = url.as_str().context("no canvas")?;
        let data = url.strip_prefix("data:image/jpeg;base64,");
        Ok(STANDARD.decode(data.context("no JPEG")?)?)
    }

    /// From now on, the browser tells what comes over the network, pictures and all.
    pub async fn count_bytes(&self) -> Result<()> {
        self.call("Network.enable", json!({})).await?;
        Ok(())
    }

    /// Bytes that came for this page since [`Page::count_bytes`], as they were transferred: of
    /// requests with their headers, and of WebSockets.
    pub fn transferred(&self) -> u64 {
        let finished = self.events("Network.loadingFinished").into_iter();
        let http = finished.filter_map(|e| e["encodedDataLength"].as_f64());
        let frames = self.events("Network.webSocketFrameReceived").into_iter();
        let frames = frames.map(|e| {
            let data = e["response"]["payloadData"]
                .as_str()
                .unwrap_or_default()
                .len();
            // Binary messages are told in base 64.
            if e["response"]["opcode"] == 2 {
                data as f64 * 0.75
            } else {
                data as f64
            }
        });
        http.chain(frames).sum::<f64>() as u64
    }
}
