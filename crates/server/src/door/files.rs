//! How many files and connections the system lets this process have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all that the system allows: the usual soft limit is that of programs from before 1990.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::debug!(%error, "the limit of open files stays what it is");
    }
}

/// So many of `wanted` connections can be held open, with room for the files and connections to the
/// store that serving them takes.
pub(super) fn fitting(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let fitting = beside(limit, wanted);
    if fitting < wanted {
        tracing::warn!(
            open_files = limit,
            wanted,
            connections = fitting,
            "the limit of open files leaves fewer connections than --max-connections"
        );
    }
    fitting
}

fn beside(limit: usize, wanted: usize) -> usize {
    let reserve = (limit / 4).clamp(48, 512);
    wanted.min(limit.saturating_sub(reserve).max(1))
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn connections_leave_room_for_files() {
        for (limit, wanted, fitting) in [
            (usize::MAX, 4096, 4096),
            (1_048_576, 4096, 4096),
            (4608, 4096, 4096),
            (1024, 4096, 768),
            (64, 4096, 16),
            (64, 8, 8),
            (10, 4096, 1),
        ] {
            assert_eq!(beside(limit, wanted), fitting, "{limit}");
        }
    }
}
