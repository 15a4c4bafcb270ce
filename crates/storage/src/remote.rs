//! Objects of one or more buckets of a service that is reached over HTTP.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetRange, ObjectMeta, ObjectStore, RetryConfig};

use crate::bucket::{Below, Bucket};
use crate::counters::CounterCells;
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::list::{Entry, Listing, Page};
use crate::name::{Location, Scheme};
use crate::object::{Object, ObjectSettings, Opened, Source, Version};
use crate::place::{Beginning, Meaning, Place, is_beginning, plain};
use crate::reads::{Ask, Gate, Part, ReadSettings, Reads};

/// Requests in flight at the same time, to one host.
const CONCURRENT_REQUESTS: usize = 64;
/// The longest key of the services (S3: "Naming Amazon S3 objects").
const KEY_BYTES: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As long as servers and what stands before them keep idle connections, about.
const KEEP_IDLE: Duration = Duration::from_secs(90);

/// A bucket's client, by both of its sides.
pub(crate) struct Client {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) pages: Arc<dyn PaginatedListStore>,
}

impl Client {
    pub(crate) fn of<C: ObjectStore + PaginatedListStore>(client: C) -> Self {
        let client = Arc::new(client);
        Self {
            objects: Arc::clone(&client) as Arc<dyn ObjectStore>,
            pages: client,
        }
    }
}

/// What differs between the services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// As errors name it.
    pub(crate) name: &'static str,
    /// Of names with a bucket.
    pub(crate) scheme: Scheme,
    /// Whether the last bytes of an object can be asked for without knowing its size.
    pub(crate) has_suffix_ranges: bool,
}

pub(crate) struct RemoteStore {
    service: Service,
    /// The first is that of plain names.
    buckets: Vec<Arc<OpenBucket>>,
}

struct OpenBucket {
    bucket: Bucket,
    service: Service,
    reads: Reads,
}

/// One object of a bucket.
#[derive(Clone)]
pub(crate) struct RemoteObject {
    bucket: Arc<OpenBucket>,
    path: Path,
}

// By hand, because clients would print their credentials.
impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.buckets.iter().map(|b| &b.bucket);
        f.debug_list().entries(buckets).finish()
    }
}

impl fmt::Debug for RemoteObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteObject")
            .field("bucket", &self.bucket.bucket)
            .field("path", &self.path)
            .finish()
    }
}

/// How the client library's connections are kept. It is to try nothing again by itself: that is
/// counted and bounded here.
pub(crate) fn connections() -> (ClientOptions, RetryConfig) {
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        // A long body takes as long as it takes; that it stalls is noticed.
        .with_timeout_disabled()
        .with_pool_idle_timeout(KEEP_IDLE)
        .with_pool_max_idle_per_host(CONCURRENT_REQUESTS);
    let never = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::ZERO,
    };
    (options, never)
}

impl RemoteStore {
    /// `client` makes the client of each bucket.
    pub(crate) fn new(
        service: Service,
        buckets: &[Bucket],
        settings: ReadSettings,
        counters: &Arc<CounterCells>,
        client: impl Fn(&Bucket) -> Result<Client, StorageError>,
    ) -> Result<Self, StorageError> {
        Bucket::check_all(service.name, buckets)?;
        let gate = Gate::new(CONCURRENT_REQUESTS);
        let open = |bucket: &Bucket| {
            let client = client(bucket)?;
            Ok(Arc::new(OpenBucket {
                bucket: bucket.clone(),
                service,
                reads: Reads::new(client, service.name, &gate, settings, counters),
            }))
        };
        let buckets = buckets.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { service, buckets })
    }

    pub(crate) async fn open(
        &self,
        name: &str,
        location: Location<'_>,
        head: u64,
        tail: u64,
        settings: &ObjectSettings,
    ) -> Result<Opened, StorageError> {
        let object = self.object(name, location)?;
        let opened = object.ends(name, head, tail).await;
        let (meta, head, tail) = match opened {
            // Replaced between the two reads: once more.
            Err(e) if e.kind() == StorageErrorKind::Changed => {
                object.ends(name, head, tail).await?
            }
            other => other?,
        };
        let version = version_of(&meta);
        let source = Source::Remote(object);
        let object = Object::new(name, meta.size, version, source, settings.clone());
        Ok(Opened { object, head, tail })
    }

    /// A page of what lies below a prefix.
    pub(crate) async fn list(&self, page: Page<'_>) -> Result<Listing, StorageError> {
        /// Pages of the service that are looked through for one of ours.
        const MOST_REQUESTS: usize = 8;
        let outside = || StorageError::outside(page.prefix);
        let own_scheme = self.service.scheme.prefix();
        let (bucket, place) = self.looked_at(page.prefix).ok_or_else(outside)?;
        let full = page.prefix.starts_with(own_scheme);
        let name = |key: &str| {
            if full {
                format!("{own_scheme}{}/{key}", bucket.bucket.name)
            } else {
                bucket.bucket.plain_of_key(key).to_owned()
            }
        };
        let prefix = match place {
            Below::Keys(prefix) => prefix,
            Below::OnTheWay(folder) => {
                return Ok(Listing {
                    folders: vec![name(&folder)],
                    ..Listing::default()
                });
            }
            Below::Nothing => return Err(outside()),
        };
        let mut listing = Listing {
            cursor: page.cursor.map(str::to_owned),
            ..Listing::default()
        };
        if page.prefix.is_empty() && page.cursor.is_none() {
            let others = self.buckets.iter().skip(1);
            listing
                .folders
                .extend(others.map(|b| format!("{own_scheme}{}/", b.bucket.name)));
        }
        for _ in 0..MOST_REQUESTS {
            let left = page
                .limit()
                .saturating_sub(listing.folders.len() + listing.objects.len());
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                max_keys: Some(left.max(1)),
                page_token: listing.cursor.take(),
                ..PaginatedListOptions::default()
            };
            let found = bucket.reads.list(page.prefix, &prefix, options).await?;
            let below = |key: &str| key.starts_with(&prefix) && bucket.bucket.allows(key);
            for folder in found.result.common_prefixes {
                let key = format!("{folder}/");
                if below(&key) {
                    listing.folders.push(name(&key));
                }
            }
            for meta in found.result.objects {
                let key = meta.location.as_ref();
                let name = name(key);
                if below(key) && key.len() <= KEY_BYTES && (page.wanted)(&name) {
                    let modified = Some(meta.last_modified.into());
                    let version = version_of(&meta);
                    listing
                        .objects
                        .push(Entry::new(name, meta.size, modified, version));
                }
            }
            listing.cursor = found.page_token;
            let count = listing.folders.len() + listing.objects.len();
            if listing.cursor.is_none() || count >= page.limit() {
                break;
            }
        }
        Ok(listing)
    }

    /// In which bucket a listing looks, and where.
    fn looked_at(&self, prefix: &str) -> Option<(&Arc<OpenBucket>, Below)> {
        if let Some((bucket, keys)) = self.own_bucket(prefix) {
            return Some((bucket?, bucket?.bucket.full_prefix(keys)));
        }
        if prefix.contains("://") {
            return None;
        }
        let bucket = self.buckets.first()?;
        Some((bucket, bucket.bucket.plain_prefix(prefix)))
    }

    /// The bucket that a prefix names, if it is one of these, and the keys in it; `None` where it
    /// names none.
    fn own_bucket<'a>(&self, prefix: &'a str) -> Option<(Option<&Arc<OpenBucket>>, &'a str)> {
        let rest = prefix.strip_prefix(self.service.scheme.prefix())?;
        let (name, keys) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = self.buckets.iter().find(|b| b.bucket.name == name);
        Some((bucket, keys))
    }

    pub(crate) fn meaning(&self, name: &str, location: Location<'_>) -> Option<Meaning> {
        let object = self.object(name, location).ok()?;
        let place = Place {
            bucket: Some(object.bucket.bucket.name.clone()),
            path: plain(object.path.as_ref())?.to_owned(),
        };
        let name = name.to_owned();
        Some(Meaning { place, name })
    }

    pub(crate) fn place(&self, prefix: &str) -> Result<Place, &'static str> {
        const NO_NAME: &str = "has a part that is no name";
        let (bucket, path) = match self.own_bucket(prefix) {
            Some((bucket, keys)) => {
                let bucket = bucket.ok_or("names a bucket that is not served")?;
                (bucket, plain(keys).ok_or(NO_NAME)?.to_owned())
            }
            None if prefix.contains("://") => return Err("names another kind of store"),
            None => {
                let bucket = self.buckets.first().ok_or("there is no bucket")?;
                let path = plain(prefix).ok_or(NO_NAME)?;
                let folder = if path.is_empty() { "" } else { "/" };
                let below = bucket.bucket.plain_prefix(&format!("{path}{folder}"));
                let Below::Keys(keys) = below else {
                    return Err("is not served");
                };
                (bucket, plain(&keys).ok_or(NO_NAME)?.to_owned())
            }
        };
        let place = |path| Place {
            bucket: Some(bucket.bucket.name.clone()),
            path,
        };
        let (named, served) = (place(path), place(bucket.bucket.folder().to_owned()));
        if served.is_within(&named) {
            return Ok(served);
        }
        if named.is_within(&served) {
            return Ok(named);
        }
        Err("lies outside what is served of its bucket")
    }

    pub(crate) fn beginning(&self, prefix: &str) -> Option<Beginning> {
        let (bucket, below) = self.looked_at(prefix)?;
        let named = self.own_bucket(prefix);
        let text = match (named, below) {
            (Some((_, keys)), _) => keys.to_owned(),
            (None, Below::Keys(keys)) => keys,
            (None, _) => return None,
        };
        Some(Beginning {
            bucket: Some(bucket.bucket.name.clone()),
            text,
            full: named.is_some(),
        })
        .filter(|from| is_beginning(&from.text))
    }

    pub(crate) fn listed_name(&self, from: &Beginning, place: &Place) -> String {
        let first = self.buckets.first();
        let first = first.filter(|b| !from.full && Some(&b.bucket.name) == place.bucket.as_ref());
        match first {
            Some(bucket) => bucket.bucket.plain_of_key(&place.path).to_owned(),
            None => self.full_name(place),
        }
    }

    pub(crate) fn full_name(&self, place: &Place) -> String {
        let bucket = place.bucket.as_deref().unwrap_or_default();
        let name = format!("{}{bucket}/{}", self.service.scheme.prefix(), place.path);
        name.trim_end_matches('/').to_owned()
    }

    pub(crate) fn bucket_folder(&self, place: &Place) -> Option<String> {
        let mut others = self.buckets.iter().skip(1);
        let bucket = others.find(|b| Some(&b.bucket.name) == place.bucket.as_ref())?;
        let scheme = self.service.scheme.prefix();
        Some(format!("{scheme}{}/", bucket.bucket.name))
    }

    /// The key, as it is. Keys that the client library would change on the way (a slash at an
    /// end, empty parts, `.` and `..`, control characters) are refused.
    fn object(&self, name: &str, location: Location<'_>) -> Result<RemoteObject, StorageError> {
        let outside = || StorageError::outside(name);
        let (bucket, key) = match location {
            Location::Plain(path) => {
                let bucket = self.buckets.first().ok_or_else(outside)?;
                (bucket, bucket.bucket.key_of_plain(path))
            }
            Location::Bucket {
                scheme,
                bucket,
                key,
            } if scheme == self.service.scheme => {
                let mut buckets = self.buckets.iter();
                let bucket = buckets.find(|b| b.bucket.name == bucket);
                let bucket = bucket.ok_or_else(outside)?;
                (bucket, key.into())
            }
            Location::Bucket { .. } | Location::Absolute(_) => return Err(outside()),
        };
        let path = Path::parse(&key)
            .ok()
            .filter(|path| path.as_ref() == key && key.len() <= KEY_BYTES)
            .ok_or_else(|| {
                StorageError::new(
                    StorageErrorKind::InvalidName,
                    format!("{} is not a key that can be served", shown(name)),
                )
            })?;
        if !bucket.bucket.allows(&key) {
            return Err(outside());
        }
        Ok(RemoteObject {
            bucket: Arc::clone(bucket),
            path,
        })
    }
}

impl RemoteObject {
    fn ask(&self, name: &str, range: GetRange, etag: Option<&str>) -> Ask {
        Ask {
            name: name.into(),
            path: self.path.clone(),
            range,
            etag: etag.map(str::to_owned),
        }
    }

    /// Reads the first and the last bytes at the same time.
    async fn ends(
        &self,
        name: &str,
        head: u64,
        tail: u64,
    ) -> Result<(ObjectMeta, Bytes, Bytes), StorageError> {
        let reads = &self.bucket.reads;
        // A range of no bytes cannot be asked for.
        let first = self.ask(name, GetRange::Bounded(0..head.max(1)), None);
        let last = self.ask(name, GetRange::Suffix(tail.max(1)), None);
        let (first, last) = if self.bucket.service.has_suffix_ranges {
            let (first, last) = futures::join!(reads.read(&first), reads.read(&last));
            (first, Some(last))
        } else {
            (reads.read(&first).await, None)
        };
        let first = match first {
            Ok(part) => part,
            // No range lies within an object of no bytes.
            Err(error) if error.kind() == StorageErrorKind::OutOfRange => {
                let meta = reads
                    .look(&self.ask(name, GetRange::Offset(0), None))
                    .await?;
                if meta.size == 0 {
                    return Ok((meta, Bytes::new(), Bytes::new()));
                }
                return Err(StorageError::changed(name));
            }
            Err(error) => return Err(error),
        };
        let size = first.meta.size;
        let tail_length = size.min(tail);
        let last = match last {
            Some(Ok(part)) => part,
            // The head is all of it, so it holds the tail too: servers differ on a suffix that
            // is longer than the object.
            _ if first.bytes.len() as u64 == size => first.clone(),
            Some(Err(error)) => return Err(error),
            None => {
                let range = size.saturating_sub(tail_length.max(1))..size;
                let version = version_of(&first.meta);
                self.part(name, size, &version, range).await?
            }
        };
        if version_of(&first.meta) != version_of(&last.meta) || last.meta.size != size {
            return Err(StorageError::changed(name));
        }
        let head = part_of(name, &first, 0..size.min(head))?;
        let tail = part_of(name, &last, size.saturating_sub(tail_length)..size)?;
        Ok((first.meta, head, tail))
    }

    /// Reads a range that lies within the object, and is not empty.
    pub(crate) async fn read(
        &self,
        name: &str,
        size: u64,
        version: &Version,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        let part = self.part(name, size, version, range.clone()).await?;
        part_of(name, &part, range)
    }

    async fn part(
        &self,
        name: &str,
        size: u64,
        version: &Version,
        range: Range<u64>,
    ) -> Result<Part, StorageError> {
        // A weak ETag matches nothing under If-Match; it is compared afterwards, as all are.
        let etag = match version {
            Version::ETag(etag) if !etag.starts_with("W/") => Some(etag.as_str()),
            _ => None,
        };
        let ask = self.ask(name, GetRange::Bounded(range.clone()), etag);
        let part = self.bucket.reads.read_version(ask, range).await;
        let part = part.map_err(|e| match e.kind() {
            // It was there when it was opened, and was long enough.
            StorageErrorKind::NotFound | StorageErrorKind::OutOfRange => {
                StorageError::changed(name)
            }
            _ => e,
        })?;
        if version_of(&part.meta) != *version || part.meta.size != size {
            return Err(StorageError::changed(name));
        }
        Ok(part)
    }
}

/// The bytes of `range`, counted from the object's start.
fn part_of(name: &str, part: &Part, range: Range<u64>) -> Result<Bytes, StorageError> {
    let place = |at: u64| usize::try_from(at.checked_sub(part.start)?).ok();
    match (place(range.start), place(range.end)) {
        (Some(start), Some(end)) if start <= end && end <= part.bytes.len() => {
            Ok(part.bytes.slice(start..end))
        }
        _ => Err(StorageError::new(
            StorageErrorKind::Unavailable,
            format!("{}: the store sent other bytes than asked for", shown(name)),
        )),
    }
}

pub(crate) fn version_of(meta: &ObjectMeta) -> Version {
    match &meta.e_tag {
        Some(etag) => Version::ETag(etag.clone()),
        None => Version::Modified {
            size: meta.size,
            millis: meta.last_modified.timestamp_millis(),
        },
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;

    /// The store in memory lists no pages; a real server's are tested with it.
    struct NoPages;

    #[async_trait::async_trait]
    impl PaginatedListStore for NoPages {
        async fn list_paginated(
            &self,
            _: Option<&str>,
            _: PaginatedListOptions,
        ) -> object_store::Result<object_store::list::PaginatedListResult> {
            Err(object_store::Error::NotImplemented {
                operation: "list".into(),
                implementer: "the test".into(),
            })
        }
    }

    /// A service of one bucket, in memory.
    struct Place {
        memory: Arc<InMemory>,
        store: RemoteStore,
        settings: ObjectSettings,
    }

    impl Place {
        fn new(scheme: Scheme, has_suffix_ranges: bool) -> Self {
            let memory = Arc::new(InMemory::new());
            let settings = ObjectSettings {
                counters: Arc::default(),
                timeout: Duration::from_secs(20),
            };
            let service = Service {
                name: "test",
                scheme,
                has_suffix_ranges,
            };
            let reads = ReadSettings {
                stall: Duration::from_secs(5),
                hedge: true,
            };
            let client = Arc::clone(&memory);
            let store = RemoteStore::new(
                service,
                &["b".into()],
                reads,
                &settings.counters,
                move |_| {
                    Ok(Client {
                        objects: Arc::clone(&client) as Arc<dyn ObjectStore>,
                        pages: Arc::new(NoPages),
                    })
                },
            );
            Self {
                memory,
                store: store.unwrap(),
                settings,
            }
        }

        async fn put(&self, content: &[u8]) {
            let payload = PutPayload::from(content.to_vec());
            self.memory.put(&Path::from("a"), payload).await.unwrap();
        }

        async fn open(&self, name: &str, head: u64, tail: u64) -> Result<Opened, StorageError> {
            let location = Location::parse(name)?;
            let store = &self.store;
            store.open(name, location, head, tail, &self.settings).await
        }

        fn requests(&self) -> u64 {
            self.settings.counters.get().requests
        }
    }

    #[tokio::test]
    async fn each_service_is_read_in_the_same_way() {
        for (scheme, prefix, has_suffix_ranges) in [
            (Scheme::S3, "s3", true),
            (Scheme::Gcs, "gs", true),
            (Scheme::Azure, "az", false),
        ] {
            let place = Place::new(scheme, has_suffix_ranges);
            place.put(b"0123456789").await;
            for name in ["a", &format!("{prefix}://b/a")] {
                for (head, tail) in [(4, 3), (10, 10), (100, 2), (3, 100), (0, 0)] {
                    let opened = place.open(name, head, tail).await.unwrap();
                    let head = usize::try_from(head.min(10)).unwrap();
                    let tail = usize::try_from(tail.min(10)).unwrap();
                    assert_eq!(opened.head[..], b"0123456789"[..head]);
                    assert_eq!(opened.tail[..], b"0123456789"[10 - tail..]);
                    let object = opened.object;
                    assert_eq!(&object.read(2..6).await.unwrap()[..], b"2345");
                }
            }
            let others = ["s3://b/a", "gs://b/a", "az://b/a", "fs:///a"];
            for other in others.into_iter().filter(|o| !o.starts_with(prefix)) {
                let error = place.open(other, 1, 1).await.unwrap_err();
                assert_eq!(error.kind(), StorageErrorKind::OutsideStore, "{other}");
            }
            let before = place.requests();
            let object = place.open("a", 4, 4).await.unwrap().object;
            assert_eq!(place.requests() - before, 2);
            place.put(b"ABCDEFGHIJ").await;
            let error = object.read(2..6).await.unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Changed);
        }
    }

    #[tokio::test]
    async fn settings_of_a_service_are_not_shown() {
        let place = Place::new(Scheme::S3, true);
        place.put(b"0123456789").await;
        let object = place.open("a", 1, 1).await.unwrap().object;
        let text = format!("{:?} {object:?}", place.store);
        assert!(
            text.contains("\"b\"") && !text.contains("InMemory"),
            "{text}"
        );
    }
}
