//! Where names lead, before anything is asked: so that what may be seen can be decided of the place
//! and not of one of its names.
//!
//! A [`Place`] is a bucket and whole parts of a path; equal places are the same object, however they
//! were named. What has a part that is no name (`..`, or nothing) has no place.

/// Where something lies: a folder, a bucket, or an object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Place {
    /// None in a local store.
    pub(crate) bucket: Option<String>,
    /// Parts with a slash between two; empty: all of it.
    pub(crate) path: String,
}

/// What a name means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meaning {
    /// The place.
    pub place: Place,
    /// A name that means this place and no other.
    pub name: String,
}

/// Where the names of a listing begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beginning {
    pub(crate) bucket: Option<String>,
    /// Up to anywhere in a path.
    pub(crate) text: String,
    /// Names have their bucket in them.
    pub(crate) full: bool,
}

impl Place {
    /// Whether it is this one, or lies below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        let rest = self.path.strip_prefix(&folder.path);
        self.bucket == folder.bucket
            && rest.is_some_and(|r| folder.path.is_empty() || r.is_empty() || r.starts_with('/'))
    }
}

impl Beginning {
    /// Whether everything that begins so lies below a folder.
    pub fn is_within(&self, folder: &Place) -> bool {
        let rest = self.text.strip_prefix(&folder.path);
        self.bucket == folder.bucket
            && rest.is_some_and(|r| folder.path.is_empty() || r.starts_with('/'))
    }

    /// What stands here on the way to a place: the next folder, or the place itself. `None` where
    /// the place does not begin so.
    pub fn step_to(&self, place: &Place) -> Option<Step> {
        if self.bucket != place.bucket {
            return None;
        }
        let rest = place.path.strip_prefix(&self.text)?;
        Some(match rest.split_once('/') {
            Some((part, _)) => Step::Folder(Place {
                bucket: place.bucket.clone(),
                path: format!("{}{part}", self.text),
            }),
            None => Step::There,
        })
    }
}

/// What comes next on the way from the beginning of a listing to a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A folder in which it lies.
    Folder(Place),
    /// It is in the listing itself.
    There,
}

/// A path without slashes at its ends and with one between two parts; `None` if a part is no name.
pub(crate) fn plain(path: &str) -> Option<&str> {
    let path = path.trim_matches('/');
    let all = path.is_empty() || path.split('/').all(is_part);
    (all && !path.contains('\0')).then_some(path)
}

/// Whether the beginning of a path is one that names can have: its parts but the last are names.
pub(crate) fn is_beginning(text: &str) -> bool {
    let folders = text.rsplit_once('/').map(|(folders, _)| folders);
    folders.is_none_or(|f| f.split('/').all(is_part)) && !text.contains('\0')
}

fn is_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bucket: &str, path: &str) -> Place {
        Place {
            bucket: Some(bucket.into()),
            path: path.into(),
        }
    }

    #[test]
    fn a_place_lies_in_a_folder_by_whole_parts() {
        let folder = place("b", "flights/2026");
        for (path, within) in [
            ("flights/2026", true),
            ("flights/2026/a.mp4", true),
            ("flights/2026/x/a.mp4", true),
            ("flights/20267/a.mp4", false),
            ("flights/2026.mp4", false),
            ("flights", false),
            ("x/flights/2026/a.mp4", false),
            ("", false),
        ] {
            assert_eq!(place("b", path).is_within(&folder), within, "{path}");
            assert!(place("b", path).is_within(&place("b", "")));
            assert!(!place("c", path).is_within(&folder));
        }
    }

    #[test]
    fn a_listing_leads_to_a_place_step_by_step() {
        let from = |text: &str| Beginning {
            bucket: Some("b".into()),
            text: text.into(),
            full: false,
        };
        let to = place("b", "flights/2026/x.mp4");
        for (text, step) in [
            ("", Some(Step::Folder(place("b", "flights")))),
            ("fli", Some(Step::Folder(place("b", "flights")))),
            ("flights/", Some(Step::Folder(place("b", "flights/2026")))),
            ("flights/2026/", Some(Step::There)),
            ("flights/2026/x.mp4", Some(Step::There)),
            ("flights/2026/x.mp4/", None),
            ("flights/20267", None),
            ("other/", None),
        ] {
            assert_eq!(from(text).step_to(&to), step, "{text}");
        }
        assert_eq!(from("").step_to(&place("c", "x")), None);
        assert!(from("flights/2026/").is_within(&place("b", "flights/2026")));
        assert!(from("flights/2026/x").is_within(&place("b", "flights/2026")));
        assert!(!from("flights/2026").is_within(&place("b", "flights/2026")));
        assert!(!from("flights/20267/").is_within(&place("b", "flights/2026")));
        assert!(from("").is_within(&place("b", "")));
    }

    #[test]
    fn what_has_a_part_that_is_no_name_has_no_place() {
        for (path, expected) in [
            ("a/b", Some("a/b")),
            ("/a/b/", Some("a/b")),
            ("", Some("")),
            ("/", Some("")),
            ("..a/.b", Some("..a/.b")),
            ("a/../b", None),
            ("..", None),
            ("a//b", None),
            ("./a", None),
            ("a\0", None),
        ] {
            assert_eq!(plain(path), expected, "{path}");
        }
        for (text, good) in [
            ("", true),
            ("a", true),
            ("a/..", true),
            ("a/../", false),
            ("/", false),
            ("a//", false),
            ("./", false),
            ("a/b/.", true),
        ] {
            assert_eq!(is_beginning(text), good, "{text}");
        }
    }
}
