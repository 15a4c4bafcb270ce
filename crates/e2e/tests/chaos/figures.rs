//! What happened.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use testkit::proxy::Proxy;

#[derive(Default)]
pub(crate) struct Figures(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    kinds: BTreeMap<&'static str, u64>,
    /// By what they count.
    of: BTreeMap<&'static str, u64>,
    codes: BTreeMap<String, u64>,
}

/// What a frame, a video or a request may be refused with in a storm. Nothing is damaged here, so
/// `decode_failed` is the end of a process that decoded, and may be there only where one was killed.
const CODES: [&str; 6] = [
    "storage_failed",
    "video_changed",
    "cancelled",
    "not_found",
    "decode_failed",
    "too_many_frames",
];

impl Figures {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kind(&self, kind: &'static str) {
        *self.lock().kinds.entry(kind).or_default() += 1;
    }

    pub(crate) fn add(&self, what: &'static str, count: u64) {
        *self.lock().of.entry(what).or_default() += count;
    }

    pub(crate) fn get(&self, what: &str) -> u64 {
        self.lock().of.get(what).copied().unwrap_or(0)
    }

    /// Something was refused with this code.
    pub(crate) fn code(&self, code: &str, what: &str) {
        assert!(CODES.contains(&code), "{what} is refused: {code}");
        let killed = self.get("processes killed") + self.get("processes stopped");
        let sound = code != "decode_failed" || killed > 0;
        assert!(sound, "{what}: nothing is damaged, and nothing was killed");
        *self.lock().codes.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn report(&self, proxy: &Proxy, peak: f64) -> String {
        let counts = self.lock();
        let list = |counts: &mut dyn Iterator<Item = (String, u64)>| {
            let lines = counts.map(|(name, count)| format!("  {name:32} {count:8}\n"));
            lines.collect::<String>()
        };
        let own = |map: &BTreeMap<&'static str, u64>| {
            list(&mut map.iter().map(|(name, count)| ((*name).to_owned(), *count)))
        };
        let codes = list(&mut counts.codes.iter().map(|(n, c)| (n.clone(), *c)));
        let faults = list(&mut faults(proxy).into_iter());
        format!(
            "clients\n{}what happened\n{}refused\n{codes}faults that requests to the store met, of {} \
             requests\n{faults}at most {peak:.1} MiB",
            own(&counts.kinds),
            own(&counts.of),
            proxy.mark(),
        )
    }

    pub(crate) fn check_that_it_was_a_storm(&self, proxy: &Proxy) {
        for what in [
            "frames",
            "pictures over HTTP",
            "objects replaced",
            "clients vanished",
        ] {
            assert!(self.get(what) > 0, "no {what}");
        }
        assert!(faults(proxy).values().sum::<u64>() > 0, "no faults");
    }
}

fn faults(proxy: &Proxy) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    for seen in proxy.since(0) {
        if let Some(fault) = seen.fault {
            let is_late = fault.ends_with(" late");
            let fault = if is_late { "late".into() } else { fault };
            *faults.entry(fault).or_default() += 1;
        }
    }
    faults
}
