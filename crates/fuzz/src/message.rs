//! The WebSocket protocol: what clients send, and what the server answers.

use protocol::{ClientMessage, ServerMessage};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match ClientMessage::parse(text) {
        Ok(message) => {
            // As a client writes it, it is the same message.
            let written = serde_json::to_string(&message).unwrap();
            assert_eq!(
                ClientMessage::parse(&written).unwrap(),
                message,
                "{written}"
            );
        }
        Err(error) => {
            let told = ServerMessage::Error {
                message: error.to_string(),
                error: None,
            };
            let told = told.to_json();
            assert!(
                serde_json::from_str::<ServerMessage>(&told).is_ok(),
                "{told}"
            );
        }
    }
    if let Ok(reply) = serde_json::from_str::<ServerMessage>(text) {
        let written = reply.to_json();
        if written.is_empty() {
            // With a code that is not known here: such a reply is received and never sent.
            return;
        }
        let again: ServerMessage = serde_json::from_str(&written).unwrap();
        assert_eq!(again.to_json(), written);
    }
}
