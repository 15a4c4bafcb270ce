//! How much memory this process may use.
//!
//! The crates that tell a machine's memory read a control group's limit from the top of
//! `/sys/fs/cgroup` alone. That is right in most containers and wrong under a service manager,
//! where the group that has the limit is further down, or in a container with groups inside. So
//! the process's own group is looked up, and every group around it is asked.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// What is assumed where the system does not tell: a small machine.
const UNKNOWN: u64 = 2 << 30;

/// Bytes of memory that this process may use: what the machine has, or less where a control group
/// around this process says so (Linux, cgroup v1 and v2, nested too: the least of all counts).
/// 2 GiB where the system does not tell.
///
/// Limits that kill count (`memory.max`, `memory.limit_in_bytes`), those that slow down
/// (`memory.high`) do not. What others use now is not looked at.
pub fn usable_memory() -> u64 {
    usable_memory_under(Path::new("/"))
}

/// The same, where `root` holds `proc` and what is mounted.
fn usable_memory_under(root: &Path) -> u64 {
    let read = |name: &str| fs::read(root.join("proc").join(name)).unwrap_or_default();
    let machine = machine_memory(&read("meminfo"));
    let groups = String::from_utf8_lossy(&read("self/cgroup")).into_owned();
    let limits = hierarchies(&read("self/mountinfo"))
        .into_iter()
        .filter_map(|hierarchy| hierarchy.limit(root, &groups));
    machine.into_iter().chain(limits).min().unwrap_or(UNKNOWN)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn machine_memory(meminfo: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(meminfo);
    let rest = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A mounted hierarchy of control groups that may limit memory.
#[derive(Debug)]
struct Hierarchy {
    version: Version,
    /// The group that is to be seen at the mount point.
    top: PathBuf,
    mount_point: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V1,
    V2,
}

/// Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn hierarchies(mountinfo: &[u8]) -> Vec<Hierarchy> {
    let mounts = mountinfo.split(|b| *b == b'\n');
    mounts.filter_map(hierarchy).collect()
}

/// One line: `id parent major:minor root mount-point options [tags] - type source options`.
fn hierarchy(line: &[u8]) -> Option<Hierarchy> {
    let mut fields = line.split(|b| *b == b' ');
    let top = path(fields.nth(3)?);
    let mount_point = path(fields.next()?);
    let mut fields = fields.skip_while(|f| *f != b"-").skip(1);
    let kind = fields.next()?;
    let mut options = fields.nth(1)?.split(|b| *b == b',');
    let version = match kind {
        b"cgroup2" => Version::V2,
        b"cgroup" if options.any(|o| o == b"memory") => Version::V1,
        _ => return None,
    };
    Some(Hierarchy {
        version,
        top,
        mount_point,
    })
}

/// A path in which blanks and the like are written as `\ooo`.
fn path(escaped: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = match octal {
            Some(_) => behind.get(3..).unwrap_or_default(),
            None => behind,
        };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

impl Hierarchy {
    /// The least limit of this process's group and of all groups around it that can be seen.
    fn limit(&self, root: &Path, groups: &str) -> Option<u64> {
        let below = groups.lines().find_map(|line| self.own_group(line));
        let below = below.unwrap_or_default();
        let file = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let seen = self.mount_point.strip_prefix("/").ok()?;
        let top = root.join(seen);
        // From the process's own group up to the mount point; `below` ends with the empty path.
        below
            .ancestors()
            .filter_map(|group| fs::read_to_string(top.join(group).join(file)).ok())
            // `max` in v2 is no number, and none is a huge one in v1.
            .filter_map(|limit| limit.trim().parse().ok())
            .min()
    }

    /// Where below the mount point this line of `/proc/self/cgroup` puts the process
    /// (`id:controllers:path`, cgroups(7)). `None`: another hierarchy's line.
    fn own_group(&self, line: &str) -> Option<PathBuf> {
        let mut fields = line.splitn(3, ':');
        let id = fields.next()?;
        let controllers = fields.next()?;
        let group = Path::new(fields.next()?);
        let ours = match self.version {
            Version::V1 => controllers.split(',').any(|c| c == "memory"),
            Version::V2 => id == "0" && controllers.is_empty(),
        };
        if !ours {
            return None;
        }
        // A group outside of what is mounted here (another namespace) shows its top only.
        let below = group.strip_prefix(&self.top).unwrap_or(Path::new(""));
        let inside = below
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        Some(if inside { below.into() } else { PathBuf::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MEMINFO: &str = "MemTotal:       16777216 kB\nMemFree:         123 kB\n";
    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";

    /// A machine of 16 GiB with these files.
    fn machine(files: &[(&str, &str)]) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("proc/meminfo", MEMINFO)].iter().chain(files) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        usable_memory_under(folder.path())
    }

    fn mounted(mounts: &str, groups: &str, files: &[(&str, &str)]) -> u64 {
        let mut all = vec![
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", groups),
        ];
        all.extend(files);
        machine(&all)
    }

    #[test]
    fn a_machine_without_control_groups_has_what_it_has() {
        assert_eq!(machine(&[]), 16 * GIB);
    }

    #[test]
    fn a_system_that_does_not_tell_is_taken_for_a_small_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(usable_memory_under(folder.path()), UNKNOWN);
    }

    #[test]
    fn this_machine_tells() {
        let usable = usable_memory();
        assert!(usable > 64 << 20, "{usable}");
        if let Some(all) = machine_memory(&fs::read("/proc/meminfo").unwrap_or_default()) {
            assert!(usable <= all, "{usable} of {all}");
        }
    }

    #[test]
    fn no_limit_is_no_limit() {
        let files = [("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(mounted(V2, "0::/a\n", &files), 16 * GIB);
        let files = [(
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "9223372036854771712\n",
        )];
        assert_eq!(mounted(V1, "4:memory:/a\n", &files), 16 * GIB);
    }

    #[test]
    fn a_container_sees_its_limit_at_the_top() {
        let files = [("sys/fs/cgroup/memory.max", "536870912\n")];
        assert_eq!(mounted(V2, "0::/\n", &files), 512 << 20);
    }

    #[test]
    fn a_service_has_its_limit_further_down() {
        let files = [
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            (
                "sys/fs/cgroup/system.slice/x.service/memory.max",
                "1073741824\n",
            ),
            ("sys/fs/cgroup/other/memory.max", "1\n"),
        ];
        let group = "0::/system.slice/x.service\n";
        assert_eq!(mounted(V2, group, &files), GIB);
    }

    #[test]
    fn the_least_limit_of_nested_groups_counts_wherever_it_is() {
        for least in ["a", "a/b", "a/b/c"] {
            let mut files = Vec::new();
            let names = ["a", "a/b", "a/b/c"].map(|g| (g, format!("sys/fs/cgroup/{g}/memory.max")));
            for (group, name) in &names {
                let limit = if *group == least {
                    "1073741824"
                } else {
                    "4294967296"
                };
                files.push((name.as_str(), limit));
            }
            assert_eq!(mounted(V2, "0::/a/b/c\n", &files), GIB, "{least}");
        }
    }

    #[test]
    fn version_1_knows_its_own_line_and_mount() {
        let mounts = format!("1 2 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n{V1}\n");
        let groups = "9:name=systemd:/x\n3:cpu,cpuacct:/y\n4:memory:/process/1\n0::/\n";
        let files = [
            ("sys/fs/cgroup/cpu/y/memory.limit_in_bytes", "1\n"),
            (
                "sys/fs/cgroup/memory/process/memory.limit_in_bytes",
                "2147483648\n",
            ),
            (
                "sys/fs/cgroup/memory/process/1/memory.limit_in_bytes",
                "3221225472\n",
            ),
        ];
        assert_eq!(mounted(&mounts, groups, &files), 2 * GIB);
    }

    #[test]
    fn both_versions_mounted_at_once_count_both() {
        let mounts = format!("{V1}\n1 2 0:9 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let groups = "4:memory:/a\n0::/b\n";
        let first = "sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        let second = "sys/fs/cgroup/unified/b/memory.max";
        let (low, high) = ("1073741824\n", "2147483648\n");
        assert_eq!(
            mounted(&mounts, groups, &[(first, low), (second, high)]),
            GIB
        );
        assert_eq!(
            mounted(&mounts, groups, &[(first, high), (second, low)]),
            GIB
        );
        assert_eq!(mounted(&mounts, groups, &[(first, low)]), GIB);
    }

    #[test]
    fn a_container_without_its_own_namespace_is_mounted_further_down() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let files = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n")];
        assert_eq!(mounted(mounts, "4:memory:/docker/abc\n", &files), GIB);
        // A group inside.
        let nested = [
            files[0],
            (
                "sys/fs/cgroup/memory/in/memory.limit_in_bytes",
                "536870912\n",
            ),
        ];
        assert_eq!(
            mounted(mounts, "4:memory:/docker/abc/in\n", &nested),
            GIB / 2
        );
        // Another namespace's name for the group: what is seen at the top still holds.
        assert_eq!(mounted(mounts, "4:memory:/../x\n", &files), GIB);
        assert_eq!(
            mounted(V2, "0::/../../x\n", &[("sys/fs/cgroup/memory.max", "1024")]),
            1024
        );
    }

    #[test]
    fn mount_points_with_blanks_are_found() {
        let mounts = r"1 2 0:1 / /my\040groups rw - cgroup2 none rw";
        assert_eq!(
            mounted(mounts, "0::/\n", &[("my groups/memory.max", "4096")]),
            4096
        );
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mounts = "\n1 2\n - - - -\n\\0\\07 \\777 cgroup2\n1 2 3 4 5 6 - cgroup2\n";
        let groups = "::\n0\nmemory\n\u{fffd}:memory\n";
        assert_eq!(mounted(mounts, groups, &[]), 16 * GIB);
        assert_eq!(machine_memory(b"MemTotal: 99999999999999999999 kB"), None);
        assert_eq!(machine_memory(b"MemTotal: 18446744073709551615 kB"), None);
        assert_eq!(machine_memory(b"MemTotal:"), None);
        let files = [("sys/fs/cgroup/memory.max", "-1\n")];
        assert_eq!(mounted(V2, "0::/\n", &files), 16 * GIB);
    }
}
