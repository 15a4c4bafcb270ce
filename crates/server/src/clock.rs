//! Says when the time of day jumps.
//!
//! Nothing is measured or waited for by it. But tokens and signed URLs end by it, certificates are
//! good by it, and a store refuses requests that are signed at another time than its own: who looks
//! for the reason of such refusals finds it in the log.

use std::time::{Duration, Instant, SystemTime};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What is no jump yet: clocks are set right by fractions of a second all the time.
const LEAST: Duration = Duration::from_secs(2);

/// What a clock did, beyond what passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Jump {
    Forward(Duration),
    Back(Duration),
}

/// The jump between two readings, between which so much passed.
fn jump(from: SystemTime, to: SystemTime, passed: Duration) -> Option<Jump> {
    let expected = from.checked_add(passed)?;
    let jump = match to.duration_since(expected) {
        Ok(ahead) => Jump::Forward(ahead),
        Err(behind) => Jump::Back(behind.duration()),
    };
    let (Jump::Forward(by) | Jump::Back(by)) = jump;
    (by >= LEAST).then_some(jump)
}

/// Looks at the clock for as long as it is polled.
pub(crate) async fn watch() {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut then, mut at) = (SystemTime::now(), Instant::now());
    loop {
        ticks.tick().await;
        let (now, here) = (SystemTime::now(), Instant::now());
        let jumped = jump(then, now, here.saturating_duration_since(at));
        (then, at) = (now, here);
        let (direction, by) = match jumped {
            Some(Jump::Forward(by)) => ("forward", by),
            Some(Jump::Back(by)) => ("back", by),
            None => continue,
        };
        tracing::warn!(
            seconds = by.as_secs(),
            "the clock of this machine went {direction}: tokens, signed URLs and certificates are \
             judged by the new time, and a store may refuse what is signed by it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_what_did_not_pass() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let second = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        assert_eq!(jump(start, start + second, second), None);
        // A machine that slept for long enough for nobody to notice: time passed for it, too.
        assert_eq!(jump(start, start + hour, hour), None);
        assert_eq!(
            jump(start, start + hour + second, second),
            Some(Jump::Forward(hour))
        );
        assert_eq!(
            jump(start, start - hour + second, second),
            Some(Jump::Back(hour))
        );
        assert_eq!(jump(start, start + second, Duration::ZERO), None);
        assert_eq!(jump(start, start, Duration::MAX), None);
    }
}
