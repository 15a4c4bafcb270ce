//! The other process: takes orders until the server is gone.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send,
};
use serde::Serialize;

use super::memory::{Shared, Side};
use super::sandbox;
use super::wire::{Answer, Greeting, LONGEST, Order, Ready, Work};
use crate::libav::FrameArena;
use crate::{CodecError, HevcDecoder, Picture, Threading};

/// How much less urgent decoding is than everything else in the server.
const NICE: i32 = 5;

/// Is a worker: serves the process that started this one, over standard input, until that is gone.
/// To be called before anything else is started, by a program that was started for it.
pub fn decode_worker() -> ExitCode {
    let socket = io::stdin();
    match serve(socket.as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is there who could be told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(socket: BorrowedFd) -> io::Result<()> {
    let (greeting, file) = greeting(socket)?;
    let Greeting { input, whole, own } = greeting;
    let memory = Shared::map(file.as_fd(), Side::Worker, input, whole)?;
    drop(file);
    // What `top` shows.
    rustix::thread::set_name(c"decode-worker")?;
    // Where all cores decode, whoever reads, sends or encodes is to come first: it takes a moment.
    rustix::process::nice(NICE).ok();
    crate::give_back_large_blocks();
    // What libavcodec does once, it does now, while files may still be read.
    HevcDecoder::new(Threading::Single).ok();
    let ready: Ready = sandbox::confine(own).map_err(|e| e.to_string());
    say(socket, &ready)?;
    if ready.is_err() {
        return Ok(());
    }
    let mut worker = Worker {
        arena: Arc::new(FrameArena::new(Arc::new(memory))),
        decoder: None,
        held: BTreeMap::new(),
        next: 0,
    };
    let mut packet = vec![0; LONGEST];
    loop {
        let (_, length) = recv(socket, &mut packet[..], RecvFlags::empty())?;
        if length == 0 {
            return Ok(());
        }
        let order = packet.get(..length).unwrap_or_default();
        let order: Order = postcard::from_bytes(order).map_err(io::Error::other)?;
        for number in order.released {
            worker.held.remove(&number);
        }
        worker.work(socket, order.work)?;
    }
}

fn say(socket: BorrowedFd, word: &impl Serialize) -> io::Result<()> {
    let packet = postcard::to_allocvec(word).map_err(io::Error::other)?;
    send(socket, &packet, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn greeting(socket: BorrowedFd) -> io::Result<(Greeting, OwnedFd)> {
    let mut packet = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut packet)];
    let got = recvmsg(socket, parts, &mut along, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = along.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = files.next().ok_or(io::ErrorKind::UnexpectedEof)?;
    let packet = packet.get(..got.bytes).unwrap_or_default();
    Ok((
        postcard::from_bytes(packet).map_err(io::Error::other)?,
        file,
    ))
}

struct Worker {
    arena: Arc<FrameArena>,
    decoder: Option<(HevcDecoder, Threading, u64)>,
    /// Pictures that the server may be looking at.
    held: BTreeMap<u32, Picture>,
    next: u32,
}

impl Worker {
    fn work(&mut self, socket: BorrowedFd, work: Work) -> io::Result<()> {
        let mut made = Vec::new();
        let mut sink = |picture| made.push(picture);
        let result = match work {
            Work::Open {
                threading,
                max_pixels,
            } => self.open(threading, max_pixels),
            Work::Flush => {
                if let Some((decoder, ..)) = &mut self.decoder {
                    decoder.flush();
                }
                return Ok(());
            }
            Work::Send { id, slot, bytes } => {
                let arena = Arc::clone(&self.arena);
                match (&mut self.decoder, arena.memory().access_unit(slot, bytes)) {
                    (Some((decoder, ..)), Some(unit)) => decoder.send(unit, id, &mut sink),
                    _ => return Err(io::ErrorKind::InvalidInput.into()),
                }
            }
            Work::Finish => match &mut self.decoder {
                Some((decoder, ..)) => decoder.finish(&mut sink),
                None => return Err(io::ErrorKind::InvalidInput.into()),
            },
        };
        let (mut result, mut pictures) = (result, Vec::new());
        for picture in made {
            match self.arena.describe(&picture, self.next) {
                Some(at) => {
                    pictures.push(at);
                    self.held.insert(self.next, picture);
                    self.next = self.next.wrapping_add(1);
                }
                None => {
                    let format = "that lies elsewhere".into();
                    result = result.and(Err(CodecError::UnsupportedFormat { format }));
                }
            }
        }
        say(socket, &Answer { pictures, result })
    }

    fn open(&mut self, threading: Threading, max_pixels: u64) -> Result<(), CodecError> {
        match &mut self.decoder {
            Some((decoder, t, m)) if (*t, *m) == (threading, max_pixels) => decoder.flush(),
            other => {
                // First the old one goes, so that never two have threads and tables.
                *other = None;
                let arena = Some(Arc::clone(&self.arena));
                let decoder = HevcDecoder::open(threading, max_pixels, arena)?;
                *other = Some((decoder, threading, max_pixels));
            }
        }
        Ok(())
    }
}
