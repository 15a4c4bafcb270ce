//! The viewer in a real Chromium: what a person sees and does, by mouse, keys and fingers. Which
//! frame is shown is read from the number that is burnt into the picture.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::browser::{Browser, Page};
use testkit::command::Run;
use testkit::programs::{Server, command};
use testkit::{footage, jpeg};

/// A folder with videos and folders, a server of it, a browser with the page.
struct Viewer {
    folder: TempDir,
    server: Server,
    browser: Browser,
    page: Page,
}

/// Frames of the clip `closed_gop`, and how many a second.
const FRAMES: u32 = 72;
const RATE: u32 = 24;

/// A bucket as people have them.
fn videos() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("flights/2026 spring")).unwrap();
    let clip = footage::clip("closed_gop").unwrap().path;
    fs::copy(&clip, root.join("yard.mp4")).unwrap();
    // A name that must be escaped in every address.
    fs::copy(&clip, root.join("flights/2026 spring/cam #1 100%.mp4")).unwrap();
    fs::write(root.join("flights/noise.mp4"), [0x5a; 5000]).unwrap();
    folder
}

fn serve(folder: &TempDir) -> Server {
    Server::start([Path::new("--local-path"), folder.path()]).unwrap()
}

impl Viewer {
    /// With this behind the `#`.
    async fn open(hash: &str) -> Self {
        Self::of(videos(), hash).await
    }

    async fn of(folder: TempDir, hash: &str) -> Self {
        Self::sized(folder, hash, 1280, 800).await
    }

    async fn sized(folder: TempDir, hash: &str, width: u32, height: u32) -> Self {
        let server = serve(&folder);
        let browser = Browser::start().await.unwrap();
        let page = browser.page(width, height).await.unwrap();
        page.go(&server.http(&format!("/{hash}"))).await.unwrap();
        Self {
            folder,
            server,
            browser,
            page,
        }
    }

    /// Waits until this frame is shown, exact; looks at the picture and at what is said of it.
    async fn shows(&self, frame: u32) {
        shows(&self.page, frame).await;
    }

    async fn text(&self, selector: &str) -> String {
        let script = format!("document.querySelector({}).textContent", json!(selector));
        self.page
            .value(&script)
            .await
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn state(&self) -> String {
        let state = self
            .page
            .value("document.getElementById('stage').dataset.state")
            .await;
        state.unwrap().as_str().unwrap().to_owned()
    }

    /// Nothing went wrong on the page.
    fn is_content(&self) {
        assert_eq!(self.page.complaints(), Vec::<String>::new());
    }
}

async fn shows(page: &Page, frame: u32) {
    page.until(&format!(
        "(() => {{ const p = document.getElementById('picture')?.dataset; \
         return p?.frame === '{frame}' && p.exact === 'true' }})()"
    ))
    .await
    .unwrap();
    let picture = page.canvas("#picture").await.unwrap();
    assert_eq!(jpeg::frame_number(&picture).unwrap(), frame);
    let said = page
        .value(
            "[document.getElementById('frame').value, \
             document.getElementById('timeline').getAttribute('aria-valuenow')]",
        )
        .await
        .unwrap();
    assert_eq!(said, json!([frame.to_string(), frame.to_string()]));
}

#[tokio::test]
async fn a_person_browses_folders_and_opens_a_video() {
    let folder = videos();
    let server = serve(&folder);
    let browser = Browser::start().await.unwrap();
    let page = browser.page(1280, 800).await.unwrap();
    // Every look that the page takes, from its first moment on.
    let script = "window.looks = []; new MutationObserver(() => { \
        const s = document.getElementById('stage')?.dataset.state; \
        if (s && looks.at(-1) !== s) looks.push(s) \
        }).observe(document, { subtree: true, childList: true, attributes: true });";
    page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({ "source": script }),
    )
    .await
    .unwrap();
    page.go(&server.http("/")).await.unwrap();
    let viewer = Viewer {
        folder,
        server,
        browser,
        page,
    };
    let page = &viewer.page;
    page.until("document.getElementById('entries').childElementCount === 2")
        .await
        .unwrap();
    assert_eq!(viewer.state().await, "welcome");
    let names = "[...document.querySelectorAll('.entry .name')].map(e => e.textContent)";
    assert_eq!(
        page.value(names).await.unwrap(),
        json!(["flights", "yard.mp4"])
    );

    page.click("button[data-folder='flights/']").await.unwrap();
    page.until(&format!("{names}[0] === '2026 spring'"))
        .await
        .unwrap();
    assert_eq!(
        page.value(names).await.unwrap(),
        json!(["2026 spring", "noise.mp4"])
    );
    page.click("button[data-folder='flights/2026 spring/']")
        .await
        .unwrap();
    page.until(&format!("{names}[0] === 'cam #1 100%.mp4'"))
        .await
        .unwrap();
    page.click("a[data-video]").await.unwrap();
    viewer.shows(0).await;
    assert_eq!(viewer.text("#title").await, "cam #1 100%.mp4");
    let facts = viewer.text("#facts").await;
    assert!(
        facts.contains("320 × 180") && facts.contains("24 fps"),
        "{facts}"
    );
    assert_eq!(viewer.text("#count").await, format!("of {}", FRAMES - 1));
    // The address names the video, and its escapes are read back.
    page.until("location.hash.includes('cam%20%231%20100%25.mp4')")
        .await
        .unwrap();
    page.click("#last").await.unwrap();
    viewer.shows(FRAMES - 1).await;
    page.until("location.hash.endsWith('&frame=71')")
        .await
        .unwrap();
    page.call("Page.reload", json!({})).await.unwrap();
    viewer.shows(FRAMES - 1).await;
    assert_eq!(page.value(names).await.unwrap()[0], "cam #1 100%.mp4");
    assert_eq!(
        page.value("looks").await.unwrap(),
        json!(["loading", "opening", "shown"])
    );

    // The way up.
    page.click("#crumbs button").await.unwrap();
    page.until(&format!("{names}[0] === 'flights'"))
        .await
        .unwrap();
    page.click("a[data-video='yard.mp4']").await.unwrap();
    page.until("document.title.startsWith('yard.mp4')")
        .await
        .unwrap();
    viewer.shows(0).await;
    // Back to the other video, by the browser's own button.
    page.value("history.back()").await.unwrap();
    page.until("document.title.startsWith('cam')")
        .await
        .unwrap();
    viewer.shows(FRAMES - 1).await;
    viewer.is_content();
}

#[tokio::test]
async fn sixty_moves_of_the_mouse_end_on_the_right_frame() {
    let viewer = Viewer::open("#video=yard.mp4&frame=0").await;
    let page = &viewer.page;
    viewer.shows(0).await;
    let (left, top, width, height) = page.place("#timeline").await.unwrap();
    let y = top + height / 3.0;
    // The middle of a frame's part of the timeline.
    let x = |frame: f64| left + (frame + 0.5) / f64::from(FRAMES) * width;
    page.mouse("mouseMoved", x(2.0), y, false).await.unwrap();
    page.mouse("mousePressed", x(2.0), y, true).await.unwrap();
    for step in 0..60 {
        // Forth over all of it, and some of the way back.
        let frame = if step < 45 {
            2.0 + f64::from(step) * 1.5
        } else {
            68.0 - f64::from(step - 45) * 3.0
        };
        page.mouse("mouseMoved", x(frame.floor()), y, true)
            .await
            .unwrap();
    }
    page.mouse("mouseReleased", x(26.0), y, false)
        .await
        .unwrap();
    viewer.shows(26).await;
    let time = clock_of(26);
    assert_eq!(viewer.text("#time").await, time);
    let said = "document.getElementById('timeline').getAttribute('aria-valuetext')";
    assert_eq!(
        page.value(said).await.unwrap(),
        format!("Frame 26 of 0 to 71, at {time}")
    );
    // The filmstrip has come: its middle row is of many colours.
    page.until(
        "(() => { const s = document.getElementById('strip'); \
         const row = s.getContext('2d').getImageData(0, Math.round(s.height / 3), s.width, 1); \
         return new Set(new Uint32Array(row.data.buffer)).size > 50 })()",
    )
    .await
    .unwrap();
    // What it cost is told.
    page.until("/^[\\d.]+ (ms|s)$/.test(document.getElementById('m-latency').textContent)")
        .await
        .unwrap();
    page.until("/^\\d+ \\/ \\d+$/.test(document.getElementById('m-units').textContent)")
        .await
        .unwrap();
    page.until("/^\\d+ of \\d+$/.test(document.getElementById('m-hits').textContent)")
        .await
        .unwrap();
    viewer.is_content();
}

/// As the viewer writes the time of a frame.
fn clock_of(frame: u32) -> String {
    format!("0:{:06.3}", f64::from(frame) / f64::from(RATE))
}

#[tokio::test]
async fn keys_step_and_jump_and_a_number_may_be_typed() {
    let viewer = Viewer::open("#video=yard.mp4&frame=30").await;
    let page = &viewer.page;
    viewer.shows(30).await;
    for (key, shift, frame) in [
        ("ArrowRight", false, 31),
        ("ArrowRight", false, 32),
        ("ArrowLeft", false, 31),
        ("ArrowRight", true, 41),
        ("ArrowLeft", true, 31),
        ("PageUp", false, 31 + RATE),
        ("PageDown", false, 31),
        ("Home", false, 0),
        ("ArrowLeft", false, 0),
        ("End", false, FRAMES - 1),
        ("ArrowRight", true, FRAMES - 1),
    ] {
        page.key(key, shift).await.unwrap();
        viewer.shows(frame).await;
    }
    // On the slider, up and down do the same; the focus comes there by the keyboard alone.
    page.value("document.getElementById('timeline').focus()")
        .await
        .unwrap();
    page.key("ArrowDown", false).await.unwrap();
    viewer.shows(FRAMES - 2).await;
    page.key("ArrowUp", false).await.unwrap();
    viewer.shows(FRAMES - 1).await;
    // A number, beyond the end too. In the field, keys write and do not step.
    for (typed, frame) in [("17", 17), ("1000", FRAMES - 1)] {
        page.click("#frame").await.unwrap();
        for digit in typed.chars() {
            page.key(&digit.to_string(), false).await.unwrap();
        }
        page.key("Enter", false).await.unwrap();
        viewer.shows(frame).await;
    }
    // What a screen reader is told when the hands rest.
    page.value("document.activeElement.blur()").await.unwrap();
    page.key("Home", false).await.unwrap();
    page.until("document.getElementById('said').textContent === 'Frame 0, 0:00.000'")
        .await
        .unwrap();
    // The list of keys, and out of it by the keyboard.
    page.key("?", false).await.unwrap();
    page.until("document.getElementById('keys').open")
        .await
        .unwrap();
    page.key("Escape", false).await.unwrap();
    page.until("!document.getElementById('keys').open")
        .await
        .unwrap();
    viewer.is_content();
}

#[tokio::test]
async fn playing_goes_on_to_the_end_and_pauses_where_it_is_told() {
    let viewer = Viewer::open("#video=yard.mp4&frame=0").await;
    let page = &viewer.page;
    viewer.shows(0).await;
    page.value(
        "window.seen = []; \
         document.addEventListener('viewer:picture', e => seen.push(e.detail.frame))",
    )
    .await
    .unwrap();
    page.key(" ", false).await.unwrap();
    page.until("document.getElementById('play').getAttribute('aria-label') === 'Pause'")
        .await
        .unwrap();
    page.until("seen.length > 3").await.unwrap();
    page.key(" ", false).await.unwrap();
    let paused = page
        .value("Number(document.getElementById('frame').value)")
        .await
        .unwrap();
    viewer
        .shows(u32::try_from(paused.as_u64().unwrap()).unwrap())
        .await;
    page.click("#play").await.unwrap();
    page.until("seen.at(-1) === 71").await.unwrap();
    page.until("document.getElementById('play').getAttribute('aria-label') === 'Play'")
        .await
        .unwrap();
    viewer.shows(FRAMES - 1).await;
    let seen: Vec<u32> = serde_json::from_value(page.value("seen").await.unwrap()).unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
    viewer.is_content();
}

#[tokio::test]
async fn a_link_is_copied_and_opens_its_frame() {
    let viewer =
        Viewer::open("#video=flights/2026%20spring/cam%20%231%20100%25.mp4&frame=33").await;
    let page = &viewer.page;
    viewer.shows(33).await;
    let allow = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    page.call("Browser.grantPermissions", allow).await.unwrap();
    page.key("ArrowRight", false).await.unwrap();
    viewer.shows(34).await;
    page.key("c", false).await.unwrap();
    page.until("document.getElementById('toast').textContent.includes('copied')")
        .await
        .unwrap();
    let link = page.value("navigator.clipboard.readText()").await.unwrap();
    let link = link.as_str().unwrap();
    assert_eq!(
        link,
        viewer
            .server
            .http("/#video=flights/2026%20spring/cam%20%231%20100%25.mp4&frame=34")
    );
    let other = viewer.browser.page(1000, 700).await.unwrap();
    other.go(link).await.unwrap();
    shows(&other, 34).await;
    viewer.is_content();
}

#[tokio::test]
async fn a_frame_is_saved_as_png_and_as_jpeg() {
    let viewer = Viewer::open("#video=yard.mp4&frame=50").await;
    let page = &viewer.page;
    viewer.shows(50).await;
    let downloads = tempfile::tempdir().unwrap();
    let allow = json!({ "behavior": "allow", "downloadPath": downloads.path() });
    page.call("Browser.setDownloadBehavior", allow)
        .await
        .unwrap();
    for (shift, name) in [(false, "yard-50.png"), (true, "yard-50.jpg")] {
        page.key(if shift { "S" } else { "s" }, shift)
            .await
            .unwrap();
        let path = downloads.path().join(name);
        let there = async {
            // Unfinished downloads have another name.
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), there)
            .await
            .expect(name);
        let image = if shift {
            fs::read(&path).unwrap()
        } else {
            assert!(fs::read(&path).unwrap().starts_with(b"\x89PNG\r\n"));
            let run = Run::ffmpeg().arg("-i").arg(&path);
            run.args(["-q:v", "1", "-f", "mjpeg", "pipe:1"])
                .output()
                .unwrap()
        };
        let image = jpeg::decode(&image).unwrap();
        assert_eq!((image.width, image.height), (320, 180));
        assert_eq!(image.frame_number(), Some(50), "{name}");
    }
    viewer.is_content();
}

#[tokio::test]
async fn a_lost_connection_comes_back_and_goes_on_where_it_was() {
    let Viewer {
        folder,
        server,
        browser,
        page,
    } = Viewer::open("#video=yard.mp4&frame=40").await;
    shows(&page, 40).await;
    let address = server.address().to_owned();
    drop(server);
    page.until("!document.getElementById('lost').hidden")
        .await
        .unwrap();
    let said = "document.getElementById('lost-text').textContent";
    let said = page.value(said).await.unwrap();
    assert!(
        said.as_str()
            .unwrap()
            .starts_with("The connection is lost."),
        "{said}"
    );
    // The picture stays, and what is wished meanwhile is not forgotten.
    let picture = page.canvas("#picture").await.unwrap();
    assert_eq!(jpeg::frame_number(&picture).unwrap(), 40);
    page.key("ArrowRight", true).await.unwrap();
    let again = [Path::new("--local-path"), folder.path()];
    let _server = Server::start_at(&address, again, |_| {}).unwrap();
    shows(&page, 50).await;
    page.until("document.getElementById('lost').hidden")
        .await
        .unwrap();
    page.key("ArrowRight", false).await.unwrap();
    shows(&page, 51).await;
    drop(browser);
}

#[tokio::test]
async fn where_the_server_asks_for_a_token_the_page_does() {
    const OPEN: &str = "document.getElementById('door').open";
    let folder = videos();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("tokens");
    let token = |name: &str| {
        let mut cli = command("repo-cli").unwrap();
        let made = cli.args(["token", name, "--file"]).arg(&file).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let first = token("first");
    let args = ["--local-path".as_ref(), folder.path().as_os_str()];
    let auth = ["--auth-token-file".as_ref(), file.as_os_str()];
    let server = Server::start(args.into_iter().chain(auth)).unwrap();
    let browser = Browser::start().await.unwrap();
    let page = browser.page(1280, 800).await.unwrap();
    let address = server.http("/#video=yard.mp4&frame=5");
    page.go(&address).await.unwrap();
    page.until(OPEN).await.unwrap();
    let axe = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/axe-core/axe.min.js");
    page.value(&fs::read_to_string(axe).unwrap()).await.unwrap();
    let found = page
        .value("axe.run().then(r => r.violations)")
        .await
        .unwrap();
    assert_eq!(found, json!([]));
    // By keys alone: the field has the focus.
    let enter = async |token: &str| {
        let focus = "document.activeElement.id === 'token'";
        page.until(&format!("{OPEN} && {focus}")).await.unwrap();
        page.call("Input.insertText", json!({ "text": token }))
            .await
            .unwrap();
        page.key("Enter", false).await.unwrap();
    };
    enter("bst_wrong").await;
    let wrong =
        "document.getElementById('door-wrong').textContent.includes('not let this token in')";
    page.until(&format!("{OPEN} && {wrong}")).await.unwrap();
    enter(&first).await;
    shows(&page, 5).await;
    page.until("document.querySelectorAll('#entries .entry').length === 2")
        .await
        .unwrap();
    let said = page
        .value("location.href + document.documentElement.outerHTML")
        .await
        .unwrap();
    assert!(!said.as_str().unwrap().contains(&first));
    // Pictures that come by HTTP, too.
    page.until("document.getElementById('lost').hidden")
        .await
        .unwrap();
    page.key("s", false).await.unwrap();
    let saved = "document.getElementById('toast').textContent.includes('saved as PNG')";
    page.until(saved).await.unwrap();
    // The tab remembers it.
    page.go(&server.http("/")).await.unwrap();
    page.go(&address).await.unwrap();
    shows(&page, 5).await;
    assert_eq!(page.value(OPEN).await.unwrap(), json!(false));
    // It ends: the next one goes on.
    fs::remove_file(&file).unwrap();
    let second = token("second");
    while !server.log().contains("was read anew") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    page.key("ArrowRight", false).await.unwrap();
    enter(&second).await;
    page.until(&format!("!{OPEN}")).await.unwrap();
    page.key("End", false).await.unwrap();
    shows(&page, FRAMES - 1).await;
    drop(browser);
}

#[tokio::test]
async fn an_empty_bucket_a_broken_video_and_a_broken_frame_have_looks_of_their_own() {
    let viewer = Viewer::of(tempfile::tempdir().unwrap(), "").await;
    let page = &viewer.page;
    page.until("document.getElementById('stage').dataset.state === 'empty'")
        .await
        .unwrap();
    assert_eq!(viewer.text("#notice-title").await, "The bucket is empty");
    // A video comes, and is found.
    let clip = footage::clip("closed_gop").unwrap().path;
    let path = viewer.folder.path().join("new.mp4");
    fs::copy(&clip, &path).unwrap();
    page.click("#notice-action").await.unwrap();
    page.until("document.querySelector('a[data-video=\"new.mp4\"]') !== null")
        .await
        .unwrap();
    assert_eq!(viewer.state().await, "welcome");

    // No video at all.
    fs::write(viewer.folder.path().join("noise.mp4"), [0x5a; 5000]).unwrap();
    page.go(&viewer.server.http("/#video=noise.mp4&frame=3"))
        .await
        .unwrap();
    page.until("document.getElementById('stage').dataset.state === 'broken'")
        .await
        .unwrap();
    assert_eq!(viewer.text("#notice-title").await, "This cannot be shown");
    assert!(
        viewer
            .text("#notice-text")
            .await
            .contains("not an H.265 video")
    );
    page.go(&viewer.server.http("/#video=nowhere.mp4&frame=3"))
        .await
        .unwrap();
    page.until("document.getElementById('notice-title').textContent === 'There is no such video'")
        .await
        .unwrap();

    // One sample is a hole. Frames of other GOPs are shown.
    let packets = testkit::reference::packets(&clip, Default::default()).unwrap();
    let mut shown: Vec<_> = packets.iter().collect();
    shown.sort_by_key(|packet| packet.pts);
    let last_key = shown.iter().rposition(|packet| packet.key).unwrap();
    let hole = shown[last_key];
    let mut bytes = fs::read(&clip).unwrap();
    let from = hole.position as usize;
    bytes[from + 4..from + hole.size as usize].fill(0);
    fs::write(viewer.folder.path().join("hole.mp4"), bytes).unwrap();
    let at = format!("/#video=hole.mp4&frame={last_key}");
    page.go(&viewer.server.http(&at)).await.unwrap();
    page.until("document.getElementById('stage').dataset.state === 'broken-frame'")
        .await
        .unwrap();
    let title = viewer.text("#notice-title").await;
    assert_eq!(title, format!("Frame {last_key} cannot be shown"));
    page.key("Home", false).await.unwrap();
    viewer.shows(0).await;
    assert_eq!(viewer.state().await, "shown");
}

#[tokio::test]
async fn the_wheel_zooms_and_a_double_click_resets() {
    // A window so low that fewer rows are asked for until somebody looks closer.
    let viewer = Viewer::sized(videos(), "#video=yard.mp4&frame=5", 900, 290).await;
    let page = &viewer.page;
    viewer.shows(5).await;
    assert_eq!(
        page.value("document.getElementById('picture').height")
            .await
            .unwrap(),
        120
    );
    let (x, y) = page.middle("#stage").await.unwrap();
    let scale = "new DOMMatrix(getComputedStyle(document.getElementById('picture')).transform).a";
    let before = page.place("#picture").await.unwrap();
    for _ in 0..4 {
        page.wheel(x, y + 15.0, -120.0).await.unwrap();
    }
    page.until(&format!("{scale} > 3")).await.unwrap();
    // All rows now, of the same frame.
    page.until("document.getElementById('picture').height === 180")
        .await
        .unwrap();
    viewer.shows(5).await;
    let after = page.place("#picture").await.unwrap();
    assert!(after.2 > 3.0 * before.2, "{before:?} {after:?}");
    // What is under the pointer stays there.
    let part = |(_, top, _, height): (f64, f64, f64, f64)| (y + 15.0 - top) / height;
    assert!(
        (part(before) - part(after)).abs() < 0.01,
        "{before:?} {after:?}"
    );
    for count in [1, 2] {
        for kind in ["mousePressed", "mouseReleased"] {
            let params =
                json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": count });
            page.call("Input.dispatchMouseEvent", params).await.unwrap();
        }
    }
    page.until(&format!("{scale} === 1")).await.unwrap();
    viewer.is_content();
}

#[tokio::test]
async fn on_a_phone_a_finger_scrubs_and_the_list_slides_in() {
    let folder = videos();
    let server = serve(&folder);
    let browser = Browser::start().await.unwrap();
    let page = browser.page(390, 844).await.unwrap();
    page.resize(390, 844, 2.0, true).await.unwrap();
    page.go(&server.http("/#video=yard.mp4&frame=0"))
        .await
        .unwrap();
    let viewer = Viewer {
        folder,
        server,
        browser,
        page,
    };
    let page = &viewer.page;
    page.until("innerWidth === 390").await.unwrap();
    viewer.shows(0).await;
    let (left, top, width, height) = page.place("#timeline").await.unwrap();
    let point = |frame: f64| {
        (
            left + (frame + 0.5) / f64::from(FRAMES) * width,
            top + height / 3.0,
        )
    };
    page.touch("touchStart", &[point(3.0)]).await.unwrap();
    for step in 1..=20 {
        page.touch("touchMove", &[point(3.0 + f64::from(step) * 2.0)])
            .await
            .unwrap();
    }
    page.touch("touchEnd", &[]).await.unwrap();
    viewer.shows(43).await;
    // Two fingers zoom.
    let (x, y) = page.middle("#stage").await.unwrap();
    page.touch("touchStart", &[(x - 30.0, y), (x + 30.0, y)])
        .await
        .unwrap();
    for by in [40.0, 60.0, 90.0] {
        page.touch("touchMove", &[(x - by, y), (x + by, y)])
            .await
            .unwrap();
    }
    page.touch("touchEnd", &[]).await.unwrap();
    page.until("document.getElementById('stage').classList.contains('zoomed')")
        .await
        .unwrap();
    page.click("#fit").await.unwrap();
    page.until("!document.getElementById('stage').classList.contains('zoomed')")
        .await
        .unwrap();
    // The list.
    let hidden = "getComputedStyle(document.getElementById('shelf')).visibility === 'hidden'";
    page.until(hidden).await.unwrap();
    page.click("#shelf-toggle").await.unwrap();
    page.until(&format!("!({hidden})")).await.unwrap();
    page.until("document.getElementById('shelf').contains(document.activeElement)")
        .await
        .unwrap();
    page.key("Escape", false).await.unwrap();
    page.until(hidden).await.unwrap();
    // Nothing sticks out of the screen.
    let out = "[...document.querySelectorAll('.bar, .controls *, .time-area *, .meter *')] \
        .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.id)";
    assert_eq!(page.value(out).await.unwrap(), json!([]));
    viewer.is_content();
}

#[tokio::test]
async fn nothing_hinders_those_who_hear_the_page_or_use_no_mouse() {
    let axe = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/axe-core/axe.min.js");
    let axe = fs::read_to_string(axe).unwrap();
    let viewer = Viewer::open("").await;
    let page = &viewer.page;
    for (hash, state) in [
        ("", "welcome"),
        ("#video=yard.mp4&frame=5", "shown"),
        ("#video=flights/noise.mp4&frame=0", "broken"),
    ] {
        page.go(&viewer.server.http(&format!("/{hash}")))
            .await
            .unwrap();
        page.until(&format!(
            "document.getElementById('stage').dataset.state === '{state}'"
        ))
        .await
        .unwrap();
        page.until("document.getElementById('entries').getAttribute('aria-busy') === 'false'")
            .await
            .unwrap();
        for (scheme, width, phone) in [
            ("light", 1280, false),
            ("dark", 1280, false),
            ("dark", 390, true),
        ] {
            page.prefer(scheme).await.unwrap();
            page.resize(width, 800, 1.0, phone).await.unwrap();
            page.until(&format!("innerWidth === {width}"))
                .await
                .unwrap();
            page.until(&format!(
                "matchMedia('(prefers-color-scheme: {scheme})').matches"
            ))
            .await
            .unwrap();
            // What fades in has faded in.
            page.until(
                "document.getAnimations().every(a => a.playState === 'finished' || \
                a.effect.getTiming().iterations === Infinity)",
            )
            .await
            .unwrap();
            // The page's policy knows no script from elsewhere; the debugger may bring one.
            page.value(&axe).await.unwrap();
            let found = page
                .value("axe.run().then(r => r.violations)")
                .await
                .unwrap();
            assert_eq!(found, json!([]), "{state}, {scheme}, {width}");
        }
    }
    // The dialog, too.
    page.resize(1280, 800, 1.0, false).await.unwrap();
    page.click("#help").await.unwrap();
    let found = page
        .value("axe.run().then(r => r.violations)")
        .await
        .unwrap();
    assert_eq!(found, json!([]));
}

#[tokio::test]
async fn the_first_picture_costs_less_than_200_kilobytes() {
    let folder = videos();
    let server = serve(&folder);
    let browser = Browser::start().await.unwrap();
    let page = browser.page(1280, 800).await.unwrap();
    page.count_bytes().await.unwrap();
    page.go(&server.http("/#video=yard.mp4&frame=20"))
        .await
        .unwrap();
    shows(&page, 20).await;
    // More than what came before the picture: what is loaded after it has begun by now.
    let bytes = page.transferred();
    assert!(bytes < 200_000, "{bytes}");
    // All of it from this server.
    let asked = page.events("Network.requestWillBeSent");
    for request in &asked {
        let url = request["request"]["url"].as_str().unwrap();
        assert!(
            url.starts_with(&server.http("/"))
                || url.starts_with("data:")
                || url.starts_with("blob:"),
            "{url}"
        );
    }
    let of_page = |e: &&Value| {
        let url = e["response"]["url"].as_str().unwrap_or_default();
        url.ends_with(".js") || url.ends_with(".css") || url.ends_with(&server.http("/"))
    };
    let received = page.events("Network.responseReceived");
    assert!(received.iter().filter(of_page).count() > 10);
    for response in received.iter().filter(of_page) {
        let headers = &response["response"]["headers"];
        assert_eq!(headers["content-encoding"], "gzip", "{response}");
        let policy = headers["content-security-policy"].as_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    }
}

#[tokio::test]
async fn where_the_browser_cannot_decode_the_switch_says_why() {
    let viewer = Viewer::open("#video=yard.mp4&frame=20").await;
    let page = &viewer.page;
    viewer.shows(20).await;
    page.until("document.getElementById('local-why').textContent.includes('H.265')")
        .await
        .unwrap();
    let able = "VideoDecoder.isConfigSupported({ codec: 'hev1.1.6.L120.90' }) \
        .then(s => s.supported)";
    let able = page.value(able).await.unwrap();
    let off = page
        .value("document.getElementById('local').disabled")
        .await
        .unwrap();
    assert_eq!(off, able != true);

    // What a decoder would be given: ffmpeg is, and shows the frame.
    let units = page
        .value(
            "import('/viewer/local.js').then(async ({ parse }) => { \
               const body = await (await fetch('/v1/videos/yard.mp4/gop?frame=45')).arrayBuffer(); \
               const { header, chunks } = parse(body); \
               return { wanted: header.timestamp, codec: header.codec, \
                        types: chunks.map(c => c.type), times: chunks.map(c => c.timestamp), \
                        bytes: chunks.flatMap(c => Array.from(c.data)) } })",
        )
        .await
        .unwrap();
    let times: Vec<i64> = serde_json::from_value(units["times"].clone()).unwrap();
    let wanted = units["wanted"].as_i64().unwrap();
    assert_eq!(wanted, 45 * 1_000_000 / i64::from(RATE));
    assert!(units["codec"].as_str().unwrap().starts_with("hev1."));
    let types: Vec<&str> = units["types"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    assert_eq!(types[0], "key");
    assert!(types[1..].iter().all(|t| *t == "delta"));
    let bytes: Vec<u8> = serde_json::from_value(units["bytes"].clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closure.h265");
    fs::write(&path, bytes).unwrap();
    let place = times.iter().filter(|time| **time < wanted).count();
    let picture = Run::ffmpeg()
        .args(["-f", "hevc", "-i"])
        .arg(&path)
        .args([
            "-vf",
            &format!("select=eq(n\\,{place})"),
            "-fps_mode",
            "passthrough",
        ])
        .args(["-q:v", "1", "-f", "mjpeg", "pipe:1"])
        .output()
        .unwrap();
    assert_eq!(jpeg::frame_number(&picture).unwrap(), 45);
    viewer.is_content();
}

/// A browser that decodes H.265, as far as a page sees: pictures come by their times from elsewhere.
/// Where `broken` is set, it fails as decoders do.
const DECODER: &str = "
    window.broken = false;
    window.VideoDecoder = class {
        static async isConfigSupported(config) { return { supported: true, config } }
        constructor({ output, error }) {
            [this.output, this.error, this.chunks] = [output, error, []];
            this.state = 'unconfigured';
        }
        configure() { this.state = 'configured' }
        decode(chunk) { this.chunks.push(chunk.timestamp) }
        async flush() {
            if (broken) {
                const error = new DOMException('Decoding error.', 'EncodingError');
                this.state = 'closed';
                this.error(error);
                throw error;
            }
            for (const timestamp of this.chunks.sort((a, b) => a - b)) {
                const frame = Math.round(timestamp * 24 / 1e6);
                const reply = await fetch(`/v1/videos/yard.mp4/frame.jpg?frame=${frame}`);
                const image = await createImageBitmap(await reply.blob());
                this.output(new VideoFrame(image, { timestamp }));
            }
        }
        close() { this.state = 'closed' }
    }";

#[tokio::test]
async fn where_the_browser_decodes_it_may_and_goes_back_to_the_server_when_it_fails() {
    let folder = videos();
    let server = serve(&folder);
    let browser = Browser::start().await.unwrap();
    let page = browser.page(1280, 800).await.unwrap();
    let script = json!({ "source": DECODER });
    page.call("Page.addScriptToEvaluateOnNewDocument", script)
        .await
        .unwrap();
    page.go(&server.http("/#video=yard.mp4&frame=20"))
        .await
        .unwrap();
    shows(&page, 20).await;
    page.until("!document.getElementById('local').disabled")
        .await
        .unwrap();
    page.click("#local").await.unwrap();
    let by = "document.getElementById('m-picture').textContent";
    page.until(&format!("{by} === '320 × 180, decoded here'"))
        .await
        .unwrap();
    shows(&page, 20).await;
    page.key("ArrowRight", true).await.unwrap();
    shows(&page, 30).await;
    page.until(&format!("{by}.endsWith('decoded here')"))
        .await
        .unwrap();
    page.value("broken = true").await.unwrap();
    page.key("ArrowRight", false).await.unwrap();
    shows(&page, 31).await;
    page.until(&format!("{by}.includes('JPEG')")).await.unwrap();
    let on = page
        .value("document.getElementById('local').checked")
        .await
        .unwrap();
    assert_eq!(on, false);
    assert_eq!(page.complaints(), Vec::<String>::new());
}
