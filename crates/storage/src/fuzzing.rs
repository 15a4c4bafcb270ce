//! What fuzzing calls (`crates/fuzz`): settings that come as files, and what a server says of
//! itself in its answers.

use std::path::PathBuf;

use crate::credentials::{Surroundings, choose};
use crate::profile;

/// Looks for the keys and the region of a profile in files of this text.
pub fn profile(text: &str, name: &str) {
    let variable = |variable: &str| match variable {
        "AWS_PROFILE" => Some(name.to_owned()),
        "HOME" => Some("/home/u".to_owned()),
        _ => None,
    };
    let read = |_: &PathBuf| Some(text.to_owned());
    let around = Surroundings {
        variable: &variable,
        read: &read,
    };
    profile::region(&around);
    for own_endpoint in [false, true] {
        // No keys: that is an answer, too.
        choose(None, None, own_endpoint, &around).ok();
    }
}
