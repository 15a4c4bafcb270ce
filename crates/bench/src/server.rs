//! The server as a program, with the options that a measurement needs.

use std::ffi::OsString;
use std::fs;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use testkit::bucket::Bucket;
use testkit::programs::{self, Server};

use crate::clips::Shelf;

/// How the server is started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Setup {
    /// `--cache-size 0 --harvest off`: nothing is kept and nothing is done ahead.
    pub(crate) cold: bool,
    /// `--workers 1`.
    pub(crate) one_worker: bool,
    /// `--cache-size` in MiB; the server's own choice where 0.
    pub(crate) cache_mib: u64,
    /// `--isolation`, where it is not the server's own choice.
    pub(crate) isolation: Option<&'static str>,
}

impl Setup {
    /// Nothing is kept and nothing is done ahead.
    pub(crate) const COLD: Self = Self {
        cold: true,
        one_worker: false,
        cache_mib: 0,
        isolation: None,
    };

    /// The options as they are typed. Those that this server does not have are left out.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut wanted = Vec::new();
        if self.cold {
            wanted.extend([
                ("--cache-size", "0".to_owned()),
                ("--harvest", "off".into()),
            ]);
        }
        if let Some(isolation) = self.isolation {
            wanted.push(("--isolation", isolation.to_owned()));
        }
        if self.one_worker {
            wanted.push(("--workers", "1".to_owned()));
        }
        if self.cache_mib > 0 {
            wanted.push(("--cache-size", format!("{}MiB", self.cache_mib)));
        }
        wanted
            .into_iter()
            .filter(|(flag, _)| is_known(flag))
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    /// Starts it over the shelf.
    pub(crate) fn start(&self, shelf: &Shelf) -> Result<Server> {
        let mut args: Vec<OsString> = vec!["--log-level".into(), "error".into()];
        args.extend(["--local-path".into(), shelf.root().into()]);
        args.extend(self.options().into_iter().map(OsString::from));
        Server::start(args)
    }

    /// Starts it over a bucket, which it reaches by this endpoint.
    pub(crate) fn start_of(&self, bucket: &Bucket, endpoint: &str) -> Result<Server> {
        let options = self.options();
        let quiet = ["--log-level", "error"].into_iter();
        let args: Vec<&str> = quiet.chain(options.iter().map(String::as_str)).collect();
        bucket.serve_by(endpoint, &args)
    }
}

/// Whether the server that was built has this option.
pub(crate) fn is_known(flag: &str) -> bool {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = HELP.get_or_init(|| {
        let output = programs::command("bucket-streamer").and_then(|mut command| {
            let output = command.arg("--help").output();
            output.context("bucket-streamer --help")
        });
        output.map_or_else(
            |_| String::new(),
            |o| String::from_utf8_lossy(&o.stdout).into_owned(),
        )
    });
    help.contains(flag)
}

/// Bytes of memory that are resident for the server.
pub(crate) fn resident(server: &Server) -> Result<u64> {
    let path = format!("/proc/{}/status", server.id());
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}
