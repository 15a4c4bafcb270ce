//! A person with a timeline: drags that start and stop gently, clicks, pauses, single steps back and
//! forth. Each event asks for one frame with `preview` and replaces what was asked for before, as a
//! viewer does. Two times count: until something is seen (a preview, or the exact frame, of this
//! event or of a later one that took its place), and until the exact frame is there.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Answer, Client, Options};
use crate::clips::{Clip, Structure};
use crate::limit::{Cores, Frame};
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, paired, quantile};
use crate::work::{Bench, any_frame, ms, shows};

/// At this moment of the trace this frame is pointed at.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Event {
    seconds: f64,
    number: u32,
}

/// Events as one person makes them, some seconds long, the same for the same seed.
fn trace(seed: u64, frames: u32, seconds: f64) -> Vec<Event> {
    /// Events of a pointer that moves.
    const POINTER: f64 = 1.0 / 60.0;
    let mut random = StdRng::seed_from_u64(seed);
    let last = frames.saturating_sub(1);
    let mut events: Vec<Event> = Vec::new();
    let mut at = random.random_range(0..=last);
    let mut now = 0.0;
    let mut point = |seconds: f64, number: u32| {
        if events.last().is_none_or(|e| e.number != number) {
            events.push(Event { seconds, number });
        }
    };
    point(now, at);
    while now < seconds {
        now += random.random_range(0.3..1.2);
        match random.random_range(0..10) {
            0..6 => {
                let to = random.random_range(0..=last);
                let time: f64 = random.random_range(0.4..1.5);
                for step in 1..=(time / POINTER) as u32 {
                    let part = (f64::from(step) * POINTER / time).min(1.0);
                    let eased = part * part * (3.0 - 2.0 * part);
                    let place = f64::from(at) + (f64::from(to) - f64::from(at)) * eased;
                    point(now + f64::from(step) * POINTER, place.round() as u32);
                }
                now += time;
                at = to;
            }
            6..9 => {
                let mut forward = random.random_bool(0.5);
                for _ in 0..random.random_range(3..10) {
                    if random.random_bool(0.25) {
                        forward = !forward;
                    }
                    at = if forward {
                        (at + 1).min(last)
                    } else {
                        at.saturating_sub(1)
                    };
                    now += random.random_range(0.12..0.25);
                    point(now, at);
                }
            }
            _ => {
                at = random.random_range(0..=last);
                point(now, at);
            }
        }
    }
    events
}

/// How a trace went.
#[derive(Default)]
struct Felt {
    /// Milliseconds until something was seen, for each event.
    first: Vec<f64>,
    /// Milliseconds until the exact frame was there, for those events that were not replaced.
    exact: Vec<f64>,
    previews: usize,
    replaced: usize,
    wrong: usize,
}

impl Felt {
    fn note(&self) -> String {
        format!(
            "{} events, {} previews, {} replaced, {} wrong",
            self.first.len(),
            self.previews,
            self.replaced,
            self.wrong
        )
    }
}

const AS_A_VIEWER: Options = Options {
    replace: Some(true),
    preview: Some(true),
    quality: None,
};

/// Plays the events and takes every answer.
async fn play(client: &mut Client, clip: &Clip, events: &[Event]) -> Result<Felt> {
    let begin = Instant::now();
    let mut sent: Vec<std::time::Instant> = Vec::new();
    let mut answers: Vec<Answer> = Vec::new();
    let mut left = events.len();
    while left > 0 {
        let next = events.get(sent.len());
        let due = begin + Duration::from_secs_f64(next.map_or(0.0, |e| e.seconds));
        tokio::select! {
            biased;
            () = sleep_until(due), if next.is_some() => {
                let Some(event) = next else { continue };
                let frame = clip.source.frames().get(event.number as usize);
                let frame: Frame = *frame.context("an event outside the clip")?;
                let tagged = [(frame, i64::try_from(sent.len())?)];
                sent.push(client.ask_tagged(tagged, &AS_A_VIEWER).await?);
            }
            answer = client.answer() => {
                let answer = answer?;
                left -= usize::from(!answer.preview);
                answers.push(answer);
            }
        }
    }
    felt(events, &sent, &answers)
}

fn felt(events: &[Event], sent: &[std::time::Instant], answers: &[Answer]) -> Result<Felt> {
    let mut felt = Felt::default();
    // The earliest picture of each event.
    let mut seen: BTreeMap<usize, std::time::Instant> = BTreeMap::new();
    for answer in answers {
        let at = usize::try_from(answer.index)?;
        let (event, asked) = events
            .get(at)
            .zip(sent.get(at))
            .context("a foreign answer")?;
        let image = match &answer.image {
            Ok(image) => image,
            Err(_) if answer.is_cancelled() => {
                felt.replaced += 1;
                continue;
            }
            Err(words) => anyhow::bail!("frame {}: {words}", event.number),
        };
        let earliest = seen.entry(at).or_insert(answer.at);
        *earliest = answer.at.min(*earliest);
        if answer.preview {
            felt.previews += 1;
        } else {
            felt.exact.push(ms(answer.at - *asked));
            // Looking at a picture costs more than making it: some.
            if at % 16 == 0 {
                felt.wrong += usize::from(!shows(image, event.number));
            }
        }
    }
    for (at, asked) in sent.iter().enumerate() {
        let own_or_later = seen.range(at..).map(|(_, when)| *when).min();
        felt.first
            .extend(own_or_later.map(|when| ms(when - *asked)));
    }
    Ok(felt)
}

/// Untouched videos, then the trace on three states of the server.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("scrub", "a person with a timeline, previews on")?;
    let (points, seconds) = if bench.quick { (10, 15.0) } else { (24, 20.0) };
    let Bench {
        clips,
        shelf,
        limit,
        random,
        ..
    } = bench;
    let wanted = |c: &&Clip| c.lines == 1080 && c.structure == Structure::Default;
    let clip = clips.iter().find(wanted).context("no 1080p clip")?;
    let names = shelf.put(clip, points + 3)?;
    let irap = clip.source.closure(0)?;

    // One event each on videos that were never touched.
    let server = Setup::default().start(shelf)?;
    let (mut first, mut exact) = (Vec::new(), Vec::new());
    let (mut least_irap, mut least) = (Vec::new(), Vec::new());
    for name in names.iter().skip(3) {
        let frame = any_frame(random, clip)?;
        let closure = clip.source.closure(frame.number)?;
        let (time, _) = limit.frame(&clip.source, &closure, Cores::All)?;
        least.push(ms(time));
        least_irap.push(ms(limit.frame(&clip.source, &irap, Cores::All)?.0));
        let mut client = Client::open(&server.websocket(), name).await?;
        let event = Event {
            seconds: 0.0,
            number: frame.number,
        };
        let felt = play(&mut client, clip, &[event]).await?;
        first.extend(felt.first);
        exact.extend(felt.exact);
    }
    drop(server);
    let irap = median(&least_irap);
    let of_irap = format!("limit of one IRAP ({} ms)", number(irap));
    let slowest = quantile(&least, 0.95);
    let of_closure = format!("limit of closures, p95 ({} ms)", number(slowest));
    let p95 = |values: &[f64]| quantile(values, 0.95);
    let row = Row::new(
        "one click, untouched: first picture, p95",
        &clip.name,
        p95(&first),
        "ms",
    )
    .ratio(p95(&first) / irap, &of_irap)
    .goal(Goal::at_most(p95(&first) / irap, 1.15, "× IRAP"))
    .note(format!(
        "{} clicks, median {} ms",
        first.len(),
        number(median(&first))
    ));
    report.row(row)?;
    let row = Row::new(
        "one click, untouched: exact frame, p95",
        &clip.name,
        p95(&exact),
        "ms",
    )
    .ratio(p95(&exact) / slowest, &of_closure)
    .note(format!(
        "median of exact over limit, pairwise: {}",
        number(paired(&exact, &least))
    ));
    report.row(row)?;

    let frames = u32::try_from(clip.source.frames().len())?;
    let events = trace(11, frames, seconds);
    let mut plot = Plot::distributions(format!("Scrub trace, {}", clip.name), "ms");
    for (state, name) in ["cold", "IRAPs harvested", "after one pass"]
        .into_iter()
        .zip(&names)
    {
        let server = Setup::default().start(shelf)?;
        let mut client = Client::open(&server.websocket(), name).await?;
        match state {
            "IRAPs harvested" => {
                // A person looks before touching.
                client
                    .frame(*clip.source.frames().first().context("no frames")?)
                    .await?;
                sleep(Duration::from_secs(2)).await;
            }
            "after one pass" => {
                for some in clip.source.frames().chunks(10) {
                    client.batch(some).await?;
                }
            }
            _ => {}
        }
        let felt = play(&mut client, clip, &events).await?;
        let (first, exact) = (p95(&felt.first), p95(&felt.exact));
        let mut seen = Row::new(
            format!("trace, {state}: first picture, p95"),
            &clip.name,
            first,
            "ms",
        )
        .ratio(first / irap, &of_irap)
        .note(felt.note());
        let mut whole = Row::new(
            format!("trace, {state}: exact frame, p95"),
            &clip.name,
            exact,
            "ms",
        )
        .ratio(exact / slowest, &of_closure)
        .note(format!("median {} ms", number(median(&felt.exact))));
        match state {
            "cold" => {
                seen = seen.goal(Goal::at_most(first / irap, 1.15, "× IRAP"));
                whole = whole.goal(Goal::at_most(exact / slowest, 1.0, "× closure's p95"));
            }
            "IRAPs harvested" => {
                seen = seen.goal(Goal::at_most(first, 10.0, "ms"));
                whole = whole.goal(Goal::at_most(exact / slowest, 1.0, "× closure's p95"));
            }
            _ => whole = whole.goal(Goal::at_most(exact, 5.0, "ms")),
        }
        report.row(seen)?;
        report.row(whole)?;
        plot.distribution(format!("{state}: first picture"), &felt.first);
        plot.distribution(format!("{state}: exact frame"), &felt.exact);
    }
    report.plots.push(plot);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_the_same_for_its_seed_and_stays_inside_the_clip() {
        let events = trace(1, 500, 20.0);
        assert_eq!(events, trace(1, 500, 20.0));
        assert_ne!(events, trace(2, 500, 20.0));
        assert!(events.len() > 100, "{}", events.len());
        assert!(events.iter().all(|e| e.number < 500));
        assert!(
            events
                .windows(2)
                .all(|w| w[0].seconds <= w[1].seconds && w[0].number != w[1].number)
        );
        // Steps by one are among them, both ways.
        let steps = |by: i64| {
            let is = |w: &[Event]| i64::from(w[1].number) - i64::from(w[0].number) == by;
            events.windows(2).filter(|w| is(w)).count()
        };
        assert!(steps(1) > 3 && steps(-1) > 3);
    }

    #[test]
    fn what_is_seen_may_be_a_later_event_but_never_an_earlier_one() {
        let begin = std::time::Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let events = [5, 6, 7].map(|number| Event {
            seconds: 0.0,
            number,
        });
        let sent = [at(0), at(10), at(20)];
        let answer = |index, preview, image: Result<bytes::Bytes, String>, when| Answer {
            index,
            preview,
            image,
            at: at(when),
        };
        let cancelled = || Err("cancelled: replaced".to_owned());
        let answers = [
            answer(0, false, cancelled(), 11),
            answer(1, true, Ok(bytes::Bytes::new()), 15),
            answer(1, false, cancelled(), 21),
            answer(2, false, Ok(bytes::Bytes::new()), 90),
        ];
        let felt = felt(&events, &sent, &answers).unwrap();
        assert_eq!(felt.first, [15.0, 5.0, 70.0]);
        assert_eq!(felt.exact, [70.0]);
        assert_eq!((felt.previews, felt.replaced), (1, 2));
    }
}
