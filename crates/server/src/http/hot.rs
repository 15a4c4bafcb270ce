//! The shortest way to a picture that was sent before: by its URL as it was sent, with nothing taken
//! apart. Only URLs that name a format are here: but for `If-None-Match`, no header matters to them.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::access::Granted;
use super::caching::{Tag, put_lifetime};
use super::videos::{Opened, Videos};
use crate::access::Caller;

/// An answer that was given.
#[derive(Debug)]
pub(super) struct Hot {
    /// It keeps no index in memory: where the video is not held any more, neither does this hold.
    pub(super) opened: Weak<Opened>,
    /// The URL names the version.
    pub(super) pinned: bool,
    pub(super) tag: Tag,
    pub(super) headers: HeaderMap,
    pub(super) image: Bytes,
}

#[derive(Clone, Debug)]
struct ByImage;

impl Weighter<String, Arc<Hot>> for ByImage {
    fn weight(&self, url: &String, hot: &Arc<Hot>) -> u64 {
        const HEADERS: usize = 2048;
        (HEADERS + url.len() + hot.image.len()) as u64
    }
}

/// Answers by URL.
#[derive(Debug)]
pub(super) struct Answers(Cache<String, Arc<Hot>, ByImage>);

impl Answers {
    /// Those that take so many bytes. The engine's cache holds most of these, too.
    pub(super) fn of(most: u64) -> Self {
        Self(Cache::with_weighter(1024, most, ByImage))
    }
}

/// The URL, where answers to it may be here: without a signature, which says who asks and not for what.
fn url(request: &Parts) -> Option<Cow<'_, str>> {
    let url = request.uri.path_and_query()?.as_str();
    if request.method != Method::GET {
        return None;
    }
    let Some((path, query)) = url.split_once('?').filter(|(_, q)| q.contains("signature")) else {
        return Some(url.into());
    };
    let is_of_signature = |pair: &str| {
        let name = url::form_urlencoded::parse(pair.as_bytes()).next();
        name.is_some_and(|(name, _)| keys::PARAMETERS.contains(&&*name))
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !is_of_signature(pair))
        .collect();
    Some(format!("{path}?{}", kept.join("&")).into())
}

impl Answers {
    pub(super) fn keep(&self, request: &Parts, hot: Hot) {
        if let Some(url) = url(request) {
            self.0.insert(url.into_owned(), Arc::new(hot));
        }
    }

    /// The answer for a caller who sees what the URL names, if it is here and still holds.
    pub(super) fn find(
        &self,
        videos: &Videos,
        caller: &Caller,
        request: &Parts,
    ) -> Option<Response> {
        let hot = self.0.get(&*url(request)?)?;
        let fresh = videos.fresh(&*hot.opened.upgrade()?, hot.pinned)?;
        let granted = Granted::to(caller);
        let known = hot.tag.is_known_to(&request.headers);
        let mut response = match known {
            true => Response::new(Body::empty()),
            false => Response::new(Body::from(hot.image.clone())),
        };
        *response.headers_mut() = hot.headers.clone();
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
                .headers_mut()
                .remove(axum::http::header::CONTENT_TYPE);
        }
        put_lifetime(response.headers_mut(), granted, fresh, hot.pinned);
        Some(response)
    }
}
