//! A worker gives up what decoding does not need.
//!
//! Three fences, each of which would do alone for most of it: limits (no file is opened, none is
//! written, memory has an end), Landlock (no file, no network, no signal to others), and a filter of
//! system calls, behind which there is memory, threads, the clock, and the descriptors that are open:
//! the socket.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::launcher::Confinement;

/// Confines this process. `own`: bytes that it may take for itself.
///
/// # Errors
/// A limit or the filter cannot be set. Landlock is there since Linux 5.13; without, the two others
/// have to do.
pub(super) fn confine(own: u64) -> io::Result<Confinement> {
    // The server is gone before it could end this one: so does this one, even in the middle of work.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Nobody looks into it, and it leaves no image of itself on disk.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    // It takes a descriptor, which is not to be had any more behind the limits.
    let files = landlock();
    let none = [
        Resource::Nofile,
        Resource::Fsize,
        Resource::Core,
        Resource::Memlock,
        Resource::Msgqueue,
    ];
    for (resource, most) in none
        .map(|r| (r, 0))
        .into_iter()
        .chain([(Resource::Data, own)])
    {
        let most = Some(most);
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    seccompiler::apply_filter_all_threads(&filter()?).map_err(io::Error::other)?;
    Ok(Confinement { calls: true, files })
}

/// Whether files and network are out of reach.
fn landlock() -> bool {
    let restricted = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .restrict_self()
    };
    restricted().is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
}

/// The calls that decoding needs. All others fail as if the system did not know them: what looks for
/// a newer call first goes on with an older one.
fn filter() -> io::Result<BpfProgram> {
    let free = [
        // The socket.
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_close,
        // Memory.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // Threads.
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Signals to itself.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        // Clock and chance.
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = free.map(|call| (call, vec![])).into();
    // No memory that can be run.
    let executable = libc::PROT_EXEC as u64;
    let not_run = when(2, SeccompCmpOp::MaskedEq(executable), 0)?;
    rules.insert(libc::SYS_mmap, vec![not_run.clone()]);
    rules.insert(libc::SYS_mprotect, vec![not_run]);
    // Threads, but no processes and no namespaces. (The arguments of clone3 lie in memory, where a
    // filter does not see them; it is refused, and clone is used.)
    let thread = libc::CLONE_THREAD as u64;
    let thread = when(0, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![thread]);
    // So that it can end itself.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, own)?]);
    let name = libc::PR_SET_NAME as u64;
    rules.insert(libc::SYS_prctl, vec![when(0, SeccompCmpOp::Eq, name)?]);

    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    let machine = std::env::consts::ARCH
        .try_into()
        .map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, machine);
    let filter = filter.map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn when(argument: u8, compared: SeccompCmpOp, with: u64) -> io::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compared, with)
        .map_err(io::Error::other)?;
    SeccompRule::new(vec![condition]).map_err(io::Error::other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, unsafe_code)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process::{Command, Stdio};

    /// Started anew, this test confines itself and tries to get out.
    #[test]
    fn nothing_is_in_reach() {
        const MARK: &str = "CONFINED_TO_TRY";
        if std::env::var_os(MARK).is_some() {
            attempts();
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "apart::sandbox::tests::nothing_is_in_reach",
                "--exact",
                "--nocapture",
            ])
            .env(MARK, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let trouble = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{trouble}");
        assert!(said.contains("tried everything"), "{said}{trouble}");
    }

    fn attempts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let parent = std::os::unix::process::parent_id() as i32;
        // SAFETY: asks for the version of the interface; no memory is read.
        let landlock = unsafe {
            let none: *const libc::c_void = std::ptr::null();
            libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, 1u32) > 0
        };
        let confinement = super::confine(512 << 20).unwrap();
        assert!(confinement.calls);
        assert_eq!(confinement.files, landlock);

        // Files.
        assert!(std::fs::read("/proc/self/status").is_err());
        assert!(std::fs::read_dir("/").is_err());
        assert!(std::fs::write("/tmp/confined", "x").is_err());
        assert!(std::fs::metadata("/etc/passwd").is_err());
        // Network.
        assert!(TcpStream::connect(address).is_err());
        assert!(TcpListener::bind("127.0.0.1:0").is_err());
        assert!(listener.accept().is_err());
        assert!(UdpSocket::bind("127.0.0.1:0").is_err());
        assert!(UnixStream::connect("/run/nothing").is_err());
        assert!(UnixDatagram::pair().is_err());
        // Processes.
        assert!(Command::new("/bin/true").spawn().is_err());
        // SAFETY: refused; signal 0 would do nothing; no memory is touched.
        unsafe {
            assert_eq!(libc::fork(), -1);
            assert_eq!(libc::kill(parent, 0), -1);
            assert_eq!(libc::syscall(libc::SYS_tgkill, parent, parent, 0), -1);
            assert_eq!(
                libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, parent, 0, 0),
                -1
            );
            assert_eq!(libc::unshare(libc::CLONE_NEWUSER), -1);
            // Memory that can be run.
            let (read, run) = (libc::PROT_READ, libc::PROT_EXEC);
            let (private, none) = (
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                std::ptr::null_mut(),
            );
            assert_eq!(
                libc::mmap(none, 4096, read | run, private, -1, 0),
                libc::MAP_FAILED
            );
            let page = libc::mmap(none, 4096, read, private, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(page, 4096, read | run), -1);
            // More than its share.
            let write = read | libc::PROT_WRITE;
            assert_eq!(
                libc::mmap(none, 1 << 30, write, private, -1, 0),
                libc::MAP_FAILED
            );
            // The way back.
            let all = libc::rlimit {
                rlim_cur: 1 << 20,
                rlim_max: 1 << 20,
            };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &all), -1);
        }
        // What decoding needs.
        let thread = std::thread::spawn(|| vec![1u8; 8 << 20].len());
        assert_eq!(thread.join().unwrap(), 8 << 20);
        println!("tried everything");
    }
}
