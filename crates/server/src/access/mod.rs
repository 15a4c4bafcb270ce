//! Who may see what: the one place where that is decided, for HTTP and WebSocket.
//!
//! A request shows a token (`token`), or its URL is signed (`keys`). That makes a [`Caller`], who has
//! a [`Sight`]: everything, or what lies below some places. What lies elsewhere does not exist for the
//! caller: [`sight`] looks for something that cannot be there in its place, so that the store is asked
//! in the same way, and the answer is the same at the same time. Files are looked at again while the
//! server runs ([`watched`]).
//!
//! **Invariant:** no secret is in the log, in an error, or in a `Debug`.

mod caller;
mod config;
mod guest;
mod jwt;
mod origin;
mod sight;
mod token;
mod watched;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use axum::http::Uri;
use keys::{Signed, UrlKeys};
use storage::{Place, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use self::caller::Caller;
pub(crate) use self::config::{AccessConfig, JwtConfig};
pub(crate) use self::guest::{Ended, Guest, Visit};
pub(crate) use self::sight::{Seen, Sight, told_of};
pub(crate) use self::token::Presented;
use self::watched::Watched;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Why a request is not served at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// It shows nothing.
    Nobody,
    /// It shows a token, or a signature, that is none, or has ended.
    Bad,
    /// The time of its URL is over.
    UrlExpired,
    /// It comes from a page of an origin that is not let in.
    Origin,
}

/// Access of all requests. Cloning is cheap and shares everything.
#[derive(Clone, Debug)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    origins: Vec<String>,
    tokens: Option<Watched<Vec<Token>>>,
    jwt: Option<Watched<jwt::Keys>>,
    urls: Option<Watched<UrlKeys>>,
    /// Counts what was read anew.
    generation: AtomicU64,
    /// What is in the names of what is never there.
    absent: String,
}

/// A static token.
#[derive(Debug)]
struct Token {
    name: Arc<str>,
    digest: keys::Digest,
    sight: Sight,
}

impl Access {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// One that cannot be read, or has a bad line; options that need another one.
    pub(crate) fn open(config: &AccessConfig, store: &Store) -> anyhow::Result<Self> {
        config.check()?;
        let tokens = config.token_file.as_deref().map(|path| {
            let store = store.clone();
            Watched::open("--auth-token-file", path, move |text| tokens(text, &store))
        });
        let jwt = config.jwt_file().map(|(flag, path, is_set)| {
            let wanted = config.jwt.clone();
            Watched::open(flag, path, move |text| match is_set {
                true => jwt::Keys::of_set(text, &wanted),
                false => jwt::Keys::of_file(text, &wanted),
            })
        });
        let urls = config.url_key_file.as_deref().map(|path| {
            Watched::open("--url-key-file", path, |text| {
                let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
                UrlKeys::read(text).map_err(|e| e.to_string())
            })
        });
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            origins: config.origins.clone(),
            tokens: tokens.transpose()?,
            jwt: jwt.transpose()?,
            urls: urls.transpose()?,
            generation: AtomicU64::new(0),
            absent: keys::make_token().ok().context("no randomness")?,
        })))
    }

    /// Everybody may see everything.
    pub(crate) fn is_open(&self) -> bool {
        let Inner {
            tokens, jwt, urls, ..
        } = &*self.0;
        tokens.is_none() && jwt.is_none() && urls.is_none()
    }

    /// Says, or refuses, that everybody who reaches this address sees everything.
    ///
    /// # Errors
    /// It is `required` that not everybody does.
    pub(crate) fn check_start(&self, required: bool, address: SocketAddr) -> anyhow::Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        ensure!(
            !required,
            "--require-auth is set, but nothing says who may come in: set --auth-token-file, \
             --jwt-key-file, --jwt-jwks-file or --url-key-file"
        );
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "everybody who reaches this address sees every video: set --auth-token-file (or \
                 another of docs/access.md), or listen on 127.0.0.1"
            );
        }
        Ok(())
    }

    /// Looks at the files again from now on, when one changes and on SIGHUP.
    ///
    /// # Errors
    /// The signal cannot be waited for.
    pub(crate) fn keep_up(&self) -> anyhow::Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        tokio::spawn(self.clone().look_again(hangup));
        Ok(())
    }

    async fn look_again(self, mut hangup: Signal) {
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                _ = clock.tick() => false,
                told = hangup.recv() => match told {
                    Some(()) => true,
                    None => return,
                },
            };
            let own = self.clone();
            // Fails only when the runtime ends.
            tokio::task::spawn_blocking(move || own.look(at_once))
                .await
                .ok();
        }
    }

    fn look(&self, at_once: bool) {
        let Inner {
            tokens, jwt, urls, ..
        } = &*self.0;
        let mut other = tokens.as_ref().is_some_and(|file| file.look(at_once));
        other |= jwt.as_ref().is_some_and(|file| file.look(at_once));
        other |= urls.as_ref().is_some_and(|file| file.look(at_once));
        if other {
            self.0.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// Nobody.
    pub(crate) fn admit(&self, token: Option<&Presented>) -> Result<Caller, Refused> {
        if self.is_open() {
            return Ok(Caller::anybody());
        }
        let token = token.ok_or(Refused::Nobody)?;
        if let Some(tokens) = &self.0.tokens {
            let digest = keys::digest(token.secret());
            // All are compared: which one it is, or that it is none, takes the same time.
            let tokens = tokens.get();
            let found = tokens.iter().fold(None, |found, token| {
                if token.digest.is(&digest) {
                    Some(token)
                } else {
                    found
                }
            });
            if let Some(Token { name, sight, .. }) = found {
                return Ok(Caller::of_token(Arc::clone(name), sight.clone()));
            }
        }
        let Some(jwt) = &self.0.jwt else {
            tracing::debug!("a token is not known");
            return Err(Refused::Bad);
        };
        let claims = jwt.get().check(token.secret()).map_err(|why| {
            tracing::debug!(%why, "a token is refused");
            Refused::Bad
        })?;
        let sight = match &claims.prefixes {
            None => Sight::All,
            // A bucket that is not served is none.
            Some(prefixes) => {
                Sight::below(prefixes.iter().filter_map(|p| self.0.store.place(p).ok()))
            }
        };
        Ok(Caller::of_jwt(&claims.subject, sight, claims.ends))
    }

    /// Who shows the signature of a URL; `None` where it has none, or none would do.
    ///
    /// # Errors
    /// It is not that of this URL, or its time is over.
    pub(crate) fn admit_url(&self, uri: &Uri) -> Option<Result<Caller, Refused>> {
        let urls = self.0.urls.as_ref()?;
        let query = uri.query().filter(|q| q.contains("signature"))?;
        let path = keys::signable_path(uri.path()).filter(|p| *p == uri.path())?;
        let checked = urls.get().check(path, query, SystemTime::now());
        Some(match checked {
            Ok(Signed { key, expires }) => Ok(Caller::of_url(&key, expires)),
            Err(keys::UrlRefusal::Expired) => Err(Refused::UrlExpired),
            Err(keys::UrlRefusal::Signature) => Err(Refused::Bad),
        })
    }
}

/// Reads a file of tokens, and where their prefixes lie.
fn tokens(text: &[u8], store: &Store) -> Result<Vec<Token>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    let place = |name: &str, prefix: &String| -> Result<Place, String> {
        let place = store.place(prefix);
        place.map_err(|why| format!("the prefix \"{prefix}\" of {name} {why}"))
    };
    let entries = keys::read_tokens(text).map_err(|e| e.to_string())?;
    let lines = text.lines().zip(1..);
    let token = |entry: keys::TokenEntry| {
        let keys::TokenEntry {
            name,
            digest,
            prefixes,
        } = entry;
        let places = prefixes.iter().map(|prefix| place(&name, prefix));
        let places = places.collect::<Result<Vec<_>, _>>().map_err(|why| {
            let start = format!("{name}:");
            let mut lines = lines.clone();
            let line = lines.find(|(line, _)| line.trim().starts_with(&start));
            format!("line {}: {why}", line.map_or(0, |(_, number)| number))
        })?;
        let sight = match prefixes.is_empty() {
            true => Sight::All,
            false => Sight::below(places.into_iter()),
        };
        let name = name.into();
        Ok(Token {
            name,
            digest,
            sight,
        })
    };
    entries.into_iter().map(token).collect()
}

/// Refuses an option without the one that it is of.
fn needs(given: bool, flag: &str, other: &str) -> anyhow::Result<()> {
    if given {
        bail!("--{flag} needs {other}");
    }
    Ok(())
}

/// Of a file that is read whole: more is not taken for one of these.
const MOST_BYTES: u64 = 4 << 20;

/// Reads a file, up to a size that no such file has.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(bytes)
}
