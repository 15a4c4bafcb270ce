//! Holds the examples of docs/protocol.md against the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use protocol::{ClientMessage, FrameErrorCode, ServerMessage};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The fenced blocks of the document: info string, and lines (one message each).
fn blocks() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            blocks.push((info, lines.by_ref().take_while(|l| *l != "```").collect()));
        }
    }
    blocks
}

fn examples(info: &str) -> Vec<&'static str> {
    blocks()
        .into_iter()
        .filter(|b| b.0 == info)
        .flat_map(|b| b.1)
        .collect()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_block_is_tagged_with_its_direction() {
    for (info, lines) in blocks() {
        assert!(
            ["json client", "json server", "json client refused"].contains(&info),
            "{info}"
        );
        assert!(!lines.is_empty());
    }
}

#[test]
fn every_request_of_the_document_is_read_and_written_as_it_stands() {
    let requests = examples("json client");
    for example in &requests {
        let message = ClientMessage::parse(example).unwrap_or_else(|e| panic!("{example}: {e}"));
        assert_eq!(value(&message.to_json()), value(example));
    }
    for name in [
        "SetVideo",
        "RequestFrames",
        "Cancel",
        "GetIndex",
        "GetStats",
    ] {
        assert!(
            requests.iter().any(|r| value(r)["type"] == name),
            "no example of {name}"
        );
    }
}

#[test]
fn every_reply_of_the_document_is_read_and_written_as_it_stands() {
    let replies = examples("json server");
    for example in &replies {
        let message = ServerMessage::parse(example).unwrap_or_else(|e| panic!("{example}: {e}"));
        // Byte for byte: the order of the fields is documented too.
        assert_eq!(message.to_json(), *example);
    }
    for name in ["VideoSet", "Frame", "FrameError", "Index", "Stats", "Error"] {
        assert!(
            replies.iter().any(|r| value(r)["type"] == name),
            "no example of {name}"
        );
    }
}

#[test]
fn refused_messages_are_refused_in_the_words_of_the_document() {
    let blocks = blocks();
    let refused = blocks
        .iter()
        .position(|b| b.0 == "json client refused")
        .unwrap();
    let (requests, replies) = (&blocks[refused].1, &blocks[refused + 1].1);
    assert_eq!(requests.len(), replies.len());
    for (request, reply) in requests.iter().zip(replies) {
        let message = ClientMessage::parse(request).unwrap_err().to_string();
        let error = None;
        let answer = ServerMessage::Error { message, error };
        assert_eq!(answer.to_json(), *reply);
    }
}

#[test]
fn the_document_lists_exactly_the_codes_that_exist() {
    let table = DOCUMENT.split("| code | |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|l| l.starts_with('|'));
    let listed: Vec<&str> = rows.map(|l| l.split('`').nth(1).unwrap()).collect();
    let existing: Vec<&str> = FrameErrorCode::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(listed, existing);
}
