//! Rules of the repository, as tests.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;

use testkit::directories::workspace;

/// Names of the direct dependencies of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
            if let Some(end @ 1..) = end {
                names.insert(line[..end].to_owned());
            }
        }
    }
    names
}

#[test]
fn every_direct_dependency_is_explained_and_nothing_else_is() {
    let root = workspace();
    let crates: Vec<_> = fs::read_dir(root.join("crates"))
        .unwrap()
        .flatten()
        .collect();
    let mut used = BTreeSet::new();
    let mut members = BTreeSet::new();
    let folders = crates.iter().map(|krate| krate.path());
    for folder in folders.chain([root.join("fuzz")]) {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        used.extend(dependencies(&manifest));
        let name = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        members.insert(name.unwrap().trim_matches('"').to_owned());
    }
    let used: BTreeSet<_> = used.difference(&members).cloned().collect();
    let page = fs::read_to_string(root.join("docs/dependencies.md")).unwrap();
    let (_, crates) = page.split_once("## Crates of the product").unwrap();
    let (crates, _) = crates.split_once("## Test programs").unwrap();
    let explained: BTreeSet<String> = crates
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split('|').next())
        .flat_map(|cell| cell.split('`'))
        .map(|name| name.trim_matches([',', ' ']).to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        used, explained,
        "manifests on the left, docs/dependencies.md on the right"
    );
}

#[test]
fn manifests_are_read_as_meant() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n# no = 1\n\
                    b-c = { version = \"1\" }\n[dev-dependencies]\nd_e = \"2\"\n[lints]\nf = 1\n";
    let expected = ["a", "b-c", "d_e"].map(str::to_owned);
    assert_eq!(dependencies(manifest), BTreeSet::from(expected));
}
