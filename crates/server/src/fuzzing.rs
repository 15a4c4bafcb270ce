//! What fuzzing calls (`crates/fuzz`): the HTTP side without a network.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::connect_info::MockConnectInfo;
use engine::Engine;
use tokio::sync::watch;

use crate::access::{Access, AccessConfig};
use crate::http::{self, HttpConfig};
use crate::metrics::Metrics;
use crate::rates::Rates;

/// The routes below `/v1`, of a client on this machine.
pub fn router(engine: Engine) -> Router {
    let (never, stop) = watch::channel(false);
    // A sender that is gone would look like the server's end.
    std::mem::forget(never);
    let client = SocketAddr::from(([127, 0, 0, 1], 1));
    let access = Access::open(&AccessConfig::default(), engine.store());
    let router = match access {
        Ok(access) => http::router(
            engine,
            access,
            &HttpConfig::default(),
            Rates::new(None, None),
            Metrics::new(),
            stop,
        ),
        // Nothing is configured that could be wrong.
        Err(_) => Router::new(),
    };
    router.layer(MockConnectInfo(client))
}
