//! The run: all connections at once, then the report.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Settings;
use crate::client::{Client, Errors, Measured, Server, Sinks};
use crate::report::Tally;
use crate::{save, tls};

/// Runs the benchmark and prints its results.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let (saver, save) = match &settings.output {
        Some(folder) => {
            let (sender, saver) = save::start(folder)?;
            (Some(saver), Some(sender))
        }
        None => (None, None),
    };
    let server = Server {
        url: settings.url,
        token: settings.token,
        tls: tls::connector(settings.ca.as_deref())?,
    };
    let opening =
        (0..settings.clients).map(|_| Client::open(&server, &settings.video, settings.timeout));
    let mut clients = try_join_all(opening).await?;
    let frames = match (&settings.frames, clients.first_mut()) {
        (Some(frames), _) => frames.clone(),
        (None, Some(client)) => client.index().await?,
        (None, None) => Vec::new(),
    };
    let frames = Arc::new(frames);
    let sequences: Vec<_> = (0..settings.clients as u64)
        .map(|n| {
            let seed = settings.seed.wrapping_add(n);
            settings
                .pattern
                .sequence(frames.len(), settings.limit, seed)
        })
        .collect();
    let sinks = Sinks {
        bar: bar(sequences.iter().map(|s| s.len() as u64).sum()),
        save,
    };
    let start = Instant::now();
    let running = clients
        .into_iter()
        .zip(sequences)
        .map(|(client, sequence)| {
            let (frames, sinks) = (Arc::clone(&frames), sinks.clone());
            let batch = settings.batch;
            let task =
                tokio::spawn(async move { client.run(&frames, &sequence, batch, &sinks).await });
            // The first connection that fails ends the run.
            async move { task.await.context("a connection's task failed")? }
        });
    let measured = try_join_all(running).await?;
    let total = start.elapsed();
    sinks.bar.finish_and_clear();
    drop(sinks);
    if let Some(saver) = saver {
        saver.await.context("saving failed")??;
    }
    let (tally, errors) = sum(&measured)?;
    write!(std::io::stderr(), "{}", error_lines(&errors))?;
    let results = tally.results(total);
    let text = if settings.json {
        results.json()?
    } else {
        results.text(settings.output.as_deref())
    };
    std::io::stdout().write_all(text.as_bytes())?;
    ensure!(tally.received > 0, "no frame came as a picture");
    Ok(ExitCode::SUCCESS)
}

fn sum(measured: &[Measured]) -> anyhow::Result<(Tally, Errors)> {
    let mut tally = Tally::new()?;
    let mut errors = Errors::new();
    for m in measured {
        tally.add(&m.tally)?;
        for (code, (count, message)) in &m.errors {
            errors.entry(code).or_insert((0, message.clone())).0 += count;
        }
    }
    Ok((tally, errors))
}

fn error_lines(errors: &Errors) -> String {
    let line = |(code, (count, message)): (&&str, &(u64, String))| {
        let first = if message.is_empty() {
            String::new()
        } else {
            format!(" (first: {message})")
        };
        format!("{count} frames errored with {code}{first}\n")
    };
    errors.iter().map(line).collect()
}

/// A bar with ETA, on a terminal only.
fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("[{bar:40}] {pos}/{len} frames, ETA {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code() {
        let errors = Errors::from([
            ("decode_failed", (2, "broken slice".to_owned())),
            ("unknown_offset", (1, String::new())),
        ]);
        assert_eq!(
            error_lines(&errors),
            "2 frames errored with decode_failed (first: broken slice)\n\
             1 frames errored with unknown_offset\n"
        );
    }
}
