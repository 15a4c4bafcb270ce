//! One worker, as the server sees it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, send, sendmsg, socketpair,
};

use super::launcher::{Confinement, LauncherConfig};
use super::memory::{Lease, Released, Shared, Side};
use super::wire::{Answer, Greeting, LONGEST, Order, PictureAt, Ready, Slot, Work};

/// A process, and what it shares with this one. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    socket: OwnedFd,
    memory: Arc<Shared>,
    released: Arc<Released>,
    timeout: Duration,
    buffer: Vec<u8>,
    /// It was told to open a decoder of this kind.
    pub(super) kind: Option<(crate::Threading, u64)>,
    /// How it confined itself.
    pub(super) confinement: Confinement,
}

/// A worker that is of no use any more, and how that came; a sentence's end.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

impl Process {
    /// Starts a worker, and waits until it is ready.
    ///
    /// # Errors
    /// The program cannot be started, the memory not be shared, or the worker does not confine itself.
    pub(super) fn start(config: &LauncherConfig) -> io::Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let (input, pictures) = config.shared_bytes();
        let whole = input.saturating_add(pictures);
        let file = Shared::create(whole)?;
        let memory = Shared::map(file.as_fd(), Side::Server, input, whole)?;
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // The search path of libraries is all of the environment that it may need.
        let libraries = std::env::var_os("LD_LIBRARY_PATH").map(|v| ("LD_LIBRARY_PATH", v));
        let child = Command::new(&config.program)
            .args(&config.arguments)
            .env_clear()
            .envs(libraries)
            .envs(config.environment.iter().map(|(k, v)| (k, v)))
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from a terminal is for the server, which may have work to end.
            .process_group(0)
            .spawn()?;
        let mut process = Self {
            child,
            socket,
            memory: Arc::new(memory),
            released: Arc::default(),
            timeout: config.timeout,
            buffer: vec![0; LONGEST],
            kind: None,
            confinement: Confinement::default(),
        };
        let greeting = Greeting {
            input,
            whole,
            own: config.own_bytes(),
        };
        process.wait_at_most(PATIENCE)?;
        let greeted = process.greet(greeting, &file).and_then(|()| process.hear());
        let ready: Ready =
            greeted.map_err(|Lost(why)| io::Error::other(format!("the process {why}")))?;
        process.confinement = ready.map_err(io::Error::other)?;
        process.wait_at_most(process.timeout)?;
        Ok(process)
    }

    fn greet(&mut self, greeting: Greeting, file: &OwnedFd) -> Result<(), Lost> {
        let packet = postcard::to_allocvec(&greeting);
        let packet = packet.map_err(|e| Lost(format!("cannot be told what to do: {e}")))?;
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        along.push(SendAncillaryMessage::ScmRights(&files));
        let packet = [IoSlice::new(&packet)];
        match sendmsg(&self.socket, &packet, &mut along, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(patience))?;
        set_socket_timeout(&self.socket, Timeout::Send, Some(patience))?;
        Ok(())
    }

    /// Puts an access unit into a slot that it does not work on; false if it does not fit.
    pub(super) fn put(&self, slot: Slot, access_unit: &[u8]) -> bool {
        /// What a slot may keep of the machine's memory.
        const KEPT: usize = 2 << 20;
        if access_unit.len() > KEPT {
            self.memory.trim(slot);
        }
        self.memory.put(slot, access_unit)
    }

    /// Gives it an order.
    pub(super) fn tell(&mut self, work: Work) -> Result<(), Lost> {
        /// Numbers of at most five bytes each.
        const MOST_RELEASED: usize = 4096;
        let order = Order {
            work,
            released: self.released.take(MOST_RELEASED),
        };
        let packet = postcard::to_allocvec(&order);
        let packet = packet.map_err(|e| Lost(format!("cannot be told what to do: {e}")))?;
        match send(&self.socket, &packet, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Its next word.
    pub(super) fn answer(&mut self) -> Result<Answer, Lost> {
        self.hear()
    }

    fn hear<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Lost> {
        let began = Instant::now();
        let length = loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((_, length)) => break length,
                Err(rustix::io::Errno::INTR) if began.elapsed() < self.timeout => {}
                Err(error) => return Err(self.lost(error)),
            }
        };
        if length == 0 {
            return Err(Lost(self.end()));
        }
        let packet = self.buffer.get(..length).unwrap_or_default();
        postcard::from_bytes(packet).map_err(|_| Lost("spoke out of turn".into()))
    }

    /// Why nothing can be sent or received.
    fn lost(&mut self, error: rustix::io::Errno) -> Lost {
        use rustix::io::Errno;
        Lost(match error {
            Errno::AGAIN => {
                let seconds = self.timeout.as_secs_f64();
                format!("gave no answer for {seconds} s and was ended")
            }
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => self.end(),
            error => format!("cannot be spoken to: {error}"),
        })
    }

    /// How it ended.
    fn end(&mut self) -> String {
        // It has closed its socket: it has ended, or is about to.
        let began = Instant::now();
        let ended = loop {
            match self.child.try_wait() {
                Ok(None) if began.elapsed() < Duration::from_millis(100) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ended => break ended.ok().flatten(),
            }
        };
        match ended {
            Some(status) => how(status),
            None => "closed its socket".into(),
        }
    }

    /// The picture that it says it has made.
    ///
    /// # Errors
    /// It cannot lie where it is said to.
    pub(super) fn picture(&self, at: &PictureAt) -> Result<crate::Picture, Lost> {
        let lease = Lease::new(
            Arc::clone(&self.memory),
            at.number,
            Arc::clone(&self.released),
        );
        crate::Picture::shared(at, lease).ok_or_else(|| Lost("described no picture".into()))
    }
}

fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".into(),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing that would have to be put in order.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
