//! The user's wish to stop: Ctrl-C, a termination request, a closed terminal.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Work was stopped by a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stopped by signal {signal}")]
pub(crate) struct Interrupted {
    /// The signal's number.
    pub(crate) signal: i32,
}

impl Interrupted {
    /// What a shell reports for a program that a signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        u8::try_from(self.signal.saturating_add(128)).unwrap_or(u8::MAX)
    }
}

/// Catches the signals from its creation on.
#[derive(Debug)]
pub(crate) struct Interrupts {
    signals: Vec<(i32, Signal)>,
}

impl Interrupts {
    /// From here on, the signals no longer end the program by themselves.
    pub(crate) fn catch() -> std::io::Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let signals = kinds
            .into_iter()
            .map(|kind| Ok((kind.as_raw_value(), signal(kind)?)))
            .collect::<std::io::Result<_>>()?;
        Ok(Self { signals })
    }

    /// Waits for the next one. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Interrupted {
        poll_fn(|context| {
            for (number, signal) in &mut self.signals {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(Interrupted { signal: *number });
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Fails if one has come.
    pub(crate) async fn check(&mut self) -> Result<(), Interrupted> {
        tokio::select! {
            biased;
            signal = self.next() => Err(signal),
            () = tokio::task::yield_now() => Ok(()),
        }
    }
}
