//! Clients of all kinds. Each holds every picture against what was there, and every answer against
//! what it asked for.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::Place;
use super::common::{Client, Random};
use super::shelf::{FRAMES, Shown, Video};

/// Long enough for a busy machine; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(crate) type Run = fn(Arc<Place>, Random) -> Task;

/// What a session has of the video that it has set.
pub(crate) struct View<'p> {
    place: &'p Place,
    shown: Shown,
    /// Frames that have no answer yet: the message's name, and the frame's place in it.
    due: BTreeSet<(u64, u64)>,
    /// What each of these messages asked for.
    asked: Vec<Vec<u64>>,
    /// It was told that the object is another one by now.
    changed: bool,
}

impl<'p> View<'p> {
    /// Sets a video on a connection that has nothing due; `None` where it is refused.
    pub(crate) async fn open(place: &'p Place, client: &mut Client, video: &Video) -> Option<Self> {
        Self::open_after(place, client, video, None).await
    }

    /// The same, where frames of the video before may still be due.
    async fn open_after(
        place: &'p Place,
        client: &mut Client,
        video: &Video,
        mut before: Option<Self>,
    ) -> Option<Self> {
        let opening = video.opening();
        client
            .send(json!({"type": "SetVideo", "path": video.key()}))
            .await;
        let mut code = None;
        let set = loop {
            let (reply, image) = client.reply().await;
            match reply["type"].as_str() {
                Some("VideoSet") => break reply,
                Some("Error") => code = reply["error"].as_str().map(str::to_owned),
                _ => match &mut before {
                    Some(before) => drop(before.take(&reply, image)),
                    None => panic!("nobody asked: {reply}"),
                },
            }
        };
        // All answers about the first come before.
        assert!(before.is_none_or(|b| b.due.is_empty()), "answers are lost");
        assert_eq!(set["path"], video.key());
        place.figures.add("videos set", 1);
        if set["ok"] != true {
            let code = code.expect("an Error before a VideoSet that is not ok");
            place.figures.code(&code, "SetVideo");
            return None;
        }
        assert_eq!(set["frame_count"], FRAMES);
        Some(Self {
            place,
            shown: opening.done(),
            due: BTreeSet::new(),
            asked: Vec::new(),
            changed: false,
        })
    }

    pub(crate) fn version(&self) -> Option<u32> {
        self.shown.version()
    }

    /// Asks for frames by their numbers, with further fields of the message.
    pub(crate) async fn request(&mut self, client: &mut Client, frames: &[u64], more: Value) {
        let id = self.asked.len() as u64;
        let entries: Vec<Value> = (frames.iter().enumerate())
            .map(|(index, frame)| json!({"frame": frame, "index": index}))
            .collect();
        let mut message = json!({"type": "RequestFrames", "frames": entries, "request_id": id});
        let fields = message.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        self.due.extend((0..frames.len() as u64).map(|n| (id, n)));
        self.asked.push(frames.to_vec());
        self.place
            .figures
            .add("frames asked for", frames.len() as u64);
        client.send(message).await;
    }

    /// An answer. Whether it is an error.
    fn take(&mut self, reply: &Value, image: Option<Vec<u8>>) -> bool {
        let id = reply["request_id"].as_u64().unwrap();
        let index = reply["index"].as_u64().unwrap();
        let asked = self.asked[id as usize][index as usize];
        let figures = &self.place.figures;
        if reply["preview"] == true {
            let due = self.due.contains(&(id, index));
            assert!(due, "a preview of what was answered: {reply}");
            let frame = reply["frame"].as_u64().unwrap();
            self.shown.check(&image.unwrap(), frame);
            figures.add("previews", 1);
            return false;
        }
        let due = self.due.remove(&(id, index));
        assert!(due, "two answers, or one that nobody asked for: {reply}");
        match (reply["type"].as_str(), image) {
            (Some("Frame"), Some(image)) => {
                assert_eq!(reply["frame"], asked);
                self.shown.check(&image, asked);
                figures.add("frames", 1);
                false
            }
            (Some("FrameError"), None) => {
                let code = reply["error"].as_str().unwrap();
                figures.code(code, "a frame");
                assert_ne!(reply["message"], "");
                self.changed |= code == "video_changed";
                true
            }
            _ => panic!("no answer: {reply}"),
        }
    }

    /// Takes at most so many answers that are due.
    async fn some(&mut self, client: &mut Client, most: usize) -> u64 {
        let mut errors = 0;
        for _ in 0..most {
            if self.due.is_empty() {
                break;
            }
            let (reply, image) = client.reply().await;
            errors += u64::from(self.take(&reply, image));
        }
        errors
    }

    /// Takes all answers that are due, and makes sure that nothing else comes. The errors among them.
    pub(crate) async fn drain(&mut self, client: &mut Client) -> u64 {
        let mut errors = 0;
        while !self.due.is_empty() {
            errors += self.some(client, usize::MAX).await;
        }
        client.send(json!({"type": "GetStats"})).await;
        let (stats, _) = client.reply().await;
        assert_eq!(stats["type"], "Stats", "something else comes: {stats}");
        errors
    }
}

fn pick<'p>(place: &'p Place, random: &mut Random) -> &'p Video {
    let videos = place.shelf.videos();
    &videos[random.below(videos.len())]
}

/// Goes back and forth: each message replaces the one before, and shows what is near meanwhile.
pub(crate) fn scrubber(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        let place = &*place;
        while !place.is_over() {
            let mut client = Client::connect(&place.server).await;
            let mut before: Option<View<'_>> = None;
            for _ in 0..1 + random.below(6) {
                let video = pick(place, &mut random);
                let opened = View::open_after(place, &mut client, video, before.take()).await;
                let Some(mut view) = opened else {
                    continue;
                };
                let mut at = random.below(FRAMES);
                for _ in 0..random.below(30) {
                    at = match random.below(8) {
                        0 => random.below(FRAMES),
                        far => (at + far).min(FRAMES - 1),
                    };
                    let frames: Vec<u64> = (0..1 + random.below(3))
                        .map(|n| ((at + n * 2) % FRAMES) as u64)
                        .collect();
                    let mut more = json!({"replace": true, "preview": random.below(2) == 0});
                    if random.below(2) == 0 {
                        more["width"] = json!(160);
                    }
                    view.request(&mut client, &frames, more).await;
                    match random.below(6) {
                        0 => {
                            client.send(json!({"type": "Cancel"})).await;
                            place.figures.add("cancels", 1);
                        }
                        1 => tokio::time::sleep(Duration::from_millis(10)).await,
                        _ => {}
                    }
                    let most = random.below(5);
                    view.some(&mut client, most).await;
                    if view.changed {
                        break;
                    }
                }
                if random.below(2) == 0 {
                    view.drain(&mut client).await;
                }
                before = Some(view);
            }
            if let Some(mut view) = before {
                view.drain(&mut client).await;
            }
        }
    })
}

/// Wants much, in order.
pub(crate) fn batch(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        let place = &*place;
        while !place.is_over() {
            let mut client = Client::connect(&place.server).await;
            let video = pick(place, &mut random);
            let Some(mut view) = View::open(place, &mut client, video).await else {
                continue;
            };
            for _ in 0..1 + random.below(3) {
                let first = random.below(FRAMES / 2) as u64;
                let frames: Vec<u64> = (first..first + 36).collect();
                let more = json!({"priority": "fifo", "quality": 60});
                view.request(&mut client, &frames, more).await;
            }
            view.drain(&mut client).await;
        }
    })
}

/// Wants much in good quality, and takes it slowly.
pub(crate) fn slow(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        let place = &*place;
        while !place.is_over() {
            let mut client = Client::connect(&place.server).await;
            let video = pick(place, &mut random);
            let Some(mut view) = View::open(place, &mut client, video).await else {
                continue;
            };
            let frames: Vec<u64> = (0..FRAMES as u64).collect();
            view.request(&mut client, &frames, json!({"quality": 100}))
                .await;
            while !view.due.is_empty() {
                view.some(&mut client, 1).await;
                if !place.is_over() {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            }
            view.drain(&mut client).await;
        }
    })
}

/// Asks for much, over the one or the other, and is gone.
pub(crate) fn vanishing(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        let place = &*place;
        while !place.is_over() {
            let video = pick(place, &mut random);
            if random.below(3) == 0 {
                let url = format!("/v1/videos/{}/frame.png?frame=", video.key());
                let url = place.server.http(&format!("{url}{}", random.below(FRAMES)));
                let wait = Duration::from_millis(random.below(30) as u64);
                // Whatever came of it by then.
                let _ = timeout(wait, reqwest::get(url)).await;
            } else {
                let mut client = Client::connect(&place.server).await;
                if let Some(mut view) = View::open(place, &mut client, video).await {
                    let frames: Vec<u64> = (0..FRAMES as u64).rev().collect();
                    view.request(&mut client, &frames, json!({})).await;
                    view.some(&mut client, random.below(4)).await;
                }
                // No word of parting.
                drop(client);
            }
            place.figures.add("clients vanished", 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

/// Sends what is no request.
pub(crate) fn rubbish(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        let place = &*place;
        while !place.is_over() {
            match random.below(3) {
                0 => noise(place, &mut random).await,
                1 => half_a_request(place, &mut random).await,
                _ => nonsense(place, &mut random).await,
            }
            place.figures.add("rubbish sent", 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Bytes that are no HTTP.
async fn noise(place: &Place, random: &mut Random) {
    let mut socket = TcpStream::connect(place.server.address()).await.unwrap();
    let bytes: Vec<u8> = (0..1 + random.below(4000))
        .map(|_| random.next() as u8)
        .collect();
    // It may be refused before its end; an answer, if there is one, is read to its end.
    let _ = socket.write_all(&bytes).await;
    let _ = socket.shutdown().await;
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    let _ = ended.expect("the server hangs on noise");
}

/// A request that ends in its middle.
async fn half_a_request(place: &Place, random: &mut Random) {
    let mut socket = TcpStream::connect(place.server.address()).await.unwrap();
    let request = "GET /v1/videos/flight%2F0.mp4/frame.jpg?frame=0 HTTP/1.1\r\nHost: x\r\nAccept: ";
    let part = &request[..random.below(request.len())];
    let _ = socket.write_all(part.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(random.below(50) as u64)).await;
}

/// Messages that are none, in a session that lives on.
async fn nonsense(place: &Place, random: &mut Random) {
    let connecting = tokio_tungstenite::connect_async(place.server.websocket());
    let (mut socket, _) = timeout(PATIENCE, connecting).await.unwrap().unwrap();
    for _ in 0..5 {
        let text = match random.below(5) {
            0 => "{".repeat(1 + random.below(2000)),
            1 => "{\"type\":\"RequestFrames\",\"frames\":[{\"frame\":-1}]}".to_owned(),
            2 => format!("{{\"type\":\"SetVideo\",\"path\":{}}}", random.next()),
            3 => "x".repeat((1 << 20) + 1 + random.below(1 << 20)),
            _ => format!("{:x}", random.next()),
        };
        socket.send(Message::text(text)).await.unwrap();
        let answer = timeout(PATIENCE, socket.next()).await.expect("no answer");
        let answer = answer.unwrap().unwrap().into_text().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["type"], "Error", "{answer}");
    }
    if random.below(2) == 0 {
        let _ = socket.close(None).await;
    }
}

/// Everything that there is by URL.
pub(crate) fn browser(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        let place = &*place;
        let http = reqwest::Client::new();
        while !place.is_over() {
            let video = pick(place, &mut random);
            let frame = random.below(FRAMES) as u64;
            let wanted = match random.below(12) {
                0 => "storyboard.json?columns=3&rows=2&width=64".to_owned(),
                1 => "storyboard.jpg?columns=3&rows=2&width=64".to_owned(),
                2 => format!("gop?frame={frame}"),
                3 => "index".to_owned(),
                4 => "clip?from=0&to=0.3&fps=30".to_owned(),
                5 => String::new(),
                6 => format!("frame.webp?frame={frame}"),
                7 => format!("frame.jpg?frame={frame}&width=160"),
                _ => format!("frame.jpg?frame={frame}"),
            };
            get(place, &http, video, &wanted, frame).await;
        }
    })
}

async fn get(place: &Place, http: &reqwest::Client, video: &Video, wanted: &str, frame: u64) {
    let slash = if wanted.is_empty() { "" } else { "/" };
    let url = place
        .server
        .http(&format!("/v1/videos/{}{slash}{wanted}", video.key()));
    let opening = video.opening();
    let asking = timeout(PATIENCE, http.get(&url).send()).await;
    let answer = asking.expect("the server hangs").unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = timeout(PATIENCE, answer.bytes())
        .await
        .expect("a body hangs")
        .unwrap();
    let mut shown = opening.done();
    place.figures.add("requests over HTTP", 1);
    if status != StatusCode::OK {
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], status.as_u16());
        place.figures.code(problem["code"].as_str().unwrap(), &url);
        return;
    }
    let header = |name: &str| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    };
    match wanted.split(['?', '.']).next() {
        Some("frame") => {
            assert_eq!(header("frame-number"), frame.to_string());
            if header("content-type") == "image/jpeg" {
                shown.check(&body, frame);
            }
            place.figures.add("pictures over HTTP", 1);
        }
        Some("clip") => {
            let mut parts = 0;
            let mut rest = &body[..];
            while let Some(at) = find(rest, b"\r\n\r\n") {
                let head = std::str::from_utf8(&rest[..at]).unwrap();
                let number = |name: &str| -> u64 {
                    let line = head.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap().trim().parse().unwrap()
                };
                let (length, frame) = (number("Content-Length:"), number("Frame-Number:"));
                let image = &rest[at + 4..at + 4 + length as usize];
                shown.check(image, frame);
                rest = &rest[at + 4 + length as usize + 2..];
                parts += 1;
            }
            place.figures.add("pictures in clips", parts);
        }
        Some("gop") => {
            let length = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&body[4..4 + length]).unwrap();
            assert_eq!(header["frame"], frame);
            let units = header["units"].as_array().unwrap();
            let bytes: u64 = units
                .iter()
                .map(|unit| unit["bytes"].as_u64().unwrap())
                .sum();
            assert_eq!(bytes as usize, body.len() - 4 - length);
            place.figures.add("closures over HTTP", 1);
        }
        _ => place.figures.add("other answers over HTTP", 1),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
