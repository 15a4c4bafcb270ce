//! A WebSocket session's caller: let in at the start, and looked at again with each request.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::response::Response;

use super::{Access, Caller, Presented, Refused, origin};
use crate::http::refusal;

/// The protocol's name, for clients that must name one to say something else, too.
const PROTOCOL: &str = "bucket-streamer.v1";

/// A request to open a session that may be granted.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) guest: Guest,
    /// What a client may choose among.
    pub(crate) protocols: [&'static str; 1],
}

impl<S: Sync> FromRequestParts<S> for Visit
where
    Access: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(request: &mut Parts, state: &S) -> Result<Self, Response> {
        let access = Access::from_ref(state);
        let guest = Guest::let_in(access, request).map_err(refusal)?;
        Ok(Self {
            guest,
            protocols: [PROTOCOL],
        })
    }
}

/// The token of a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended;

impl Ended {
    /// A sentence for people.
    pub(crate) const MESSAGE: &str =
        "The token of this connection has ended: connect again with another one";
}

/// Who has a session.
#[derive(Debug)]
pub(crate) struct Guest {
    access: Access,
    token: Option<Presented>,
    caller: Caller,
    /// Of the files, when the caller was looked at last.
    generation: u64,
}

impl Guest {
    fn let_in(access: Access, request: &Parts) -> Result<Self, Refused> {
        if !origin::is_let_in(request, &access.0.origins) {
            return Err(Refused::Origin);
        }
        let token = match access.is_open() {
            true => None,
            false => Presented::of_websocket(&request.headers)?,
        };
        let generation = access.generation();
        let caller = access.admit(token.as_ref())?;
        Ok(Self {
            access,
            token,
            caller,
            generation,
        })
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// As it was looked at last.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Looks whether the token is still good; what it may see may be something else by now.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn look_again(&mut self) -> Result<(), Ended> {
        let generation = self.access.generation();
        if generation == self.generation && !self.caller.has_ended() {
            return Ok(());
        }
        self.caller = self.access.admit(self.token.as_ref()).map_err(|_| Ended)?;
        self.generation = generation;
        Ok(())
    }
}
