//! Who asks: requests from one address are one client of the engine, so that many of them weigh as
//! much as one WebSocket session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use engine::{Client, Engine};

#[derive(Debug)]
pub(super) struct Clients {
    engine: Engine,
    /// Those that wait for something, and some that did.
    known: Mutex<HashMap<IpAddr, Weak<Client>>>,
}

impl Clients {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            known: Mutex::default(),
        }
    }

    /// The client at this address, as long as it waits for something.
    pub(super) fn of(&self, address: IpAddr) -> Arc<Client> {
        /// Entries before those without a client are cleared away.
        const MANY: usize = 1024;
        // Pointers: whole, whatever a panicking thread was doing.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(&address).and_then(Weak::upgrade) {
            return client;
        }
        if known.len() >= MANY {
            known.retain(|_, client| client.strong_count() > 0);
        }
        let client = Arc::new(self.engine.client());
        known.insert(address, Arc::downgrade(&client));
        client
    }
}
