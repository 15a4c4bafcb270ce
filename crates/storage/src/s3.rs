//! Buckets of S3, or of a server that speaks its protocol.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use url::Url;

use crate::bucket::Bucket;
use crate::counters::CounterCells;
use crate::credentials::{Credentials, Surroundings, choose};
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::guard::GuardedConnector;
use crate::name::Scheme;
use crate::profile;
use crate::reads::ReadSettings;
use crate::remote::{Client, RemoteStore, Service, connections};

const SERVICE: Service = Service {
    name: "S3",
    scheme: Scheme::S3,
    has_suffix_ranges: true,
};

/// Which buckets, and how to reach them. What is `None` comes from the environment, as with other
/// tools for S3.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct S3Config {
    /// The buckets that may be read; the first is that of plain names. At least one.
    pub buckets: Vec<Bucket>,
    /// The region, for signatures; else `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, or
    /// `us-east-1`.
    pub region: Option<String>,
    /// The server's address for anything but AWS, as in `http://localhost:3900`; else
    /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// Where the bucket's name goes.
    pub addressing: Addressing,
    /// Requests are not signed: for buckets that everybody may read.
    pub anonymous: bool,
    /// The access key; with `None` in both: the environment, the AWS profile, a web identity or
    /// container credentials; then `minioadmin` with an `endpoint`, else the instance's role.
    pub access_key: Option<String>,
    /// The secret key.
    pub secret_key: Option<String>,
}

/// Where requests have the bucket's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Addressing {
    /// In the path where there is an endpoint, else in the host's name as AWS wants it, unless the
    /// bucket's name has a dot, which certificates do not cover.
    #[default]
    Auto,
    /// `https://host/bucket/key`.
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("buckets", &self.buckets)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint.as_deref().map(without_password))
            .field("addressing", &self.addressing)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

/// An address as it may be shown.
fn without_password(endpoint: &str) -> String {
    match Url::parse(endpoint) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // Neither fails for an address with a host, and no other has them.
            url.set_username("").ok();
            url.set_password(None).ok();
            url.to_string()
        }
        _ => endpoint.to_owned(),
    }
}

pub(crate) fn open(
    config: &S3Config,
    settings: ReadSettings,
    counters: &Arc<CounterCells>,
) -> Result<RemoteStore, StorageError> {
    let variable = |name: &str| std::env::var(name).ok();
    let read = |path: &PathBuf| std::fs::read_to_string(path).ok();
    let around = Surroundings {
        variable: &variable,
        read: &read,
    };
    open_in(config, &around, settings, counters)
}

fn open_in(
    config: &S3Config,
    around: &Surroundings<'_>,
    settings: ReadSettings,
    counters: &Arc<CounterCells>,
) -> Result<RemoteStore, StorageError> {
    // What is wrong with the buckets is told before what is wrong with the credentials.
    Bucket::check_all(SERVICE.name, &config.buckets)?;
    let endpoint = endpoint(config, around)?;
    let region = (config.region.clone())
        .or_else(|| around.set("AWS_REGION"))
        .or_else(|| around.set("AWS_DEFAULT_REGION"))
        .or_else(|| profile::region(around))
        .unwrap_or_else(|| "us-east-1".into());
    let credentials = if config.anonymous {
        if config.access_key.is_some() || config.secret_key.is_some() {
            return Err(misconfigured(
                "anonymous requests to S3 have no keys, but some are given".into(),
            ));
        }
        None
    } else {
        let keys = (config.access_key.as_deref(), config.secret_key.as_deref());
        Some(choose(keys.0, keys.1, config.endpoint.is_some(), around)?)
    };
    RemoteStore::new(SERVICE, &config.buckets, settings, counters, |bucket| {
        let (options, retry) = connections();
        let http = endpoint.as_ref().is_some_and(|e| e.scheme() == "http");
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&region)
            .with_http_connector(GuardedConnector::default())
            .with_client_options(options.with_allow_http(http))
            .with_retry(retry);
        let (address, virtual_hosted) =
            address(endpoint.as_ref(), config.addressing, &bucket.name)?;
        builder = builder.with_virtual_hosted_style_request(virtual_hosted);
        if let Some(address) = address {
            builder = builder.with_endpoint(address);
        }
        match &credentials {
            None => builder = builder.with_skip_signature(true),
            Some(Credentials::Keys(pair)) => {
                builder = builder
                    .with_access_key_id(&pair.access_key)
                    .with_secret_access_key(&pair.secret_key);
                if let Some(token) = &pair.token {
                    builder = builder.with_token(token);
                }
            }
            Some(Credentials::Ambient) => {
                for (name, key) in AMBIENT_KEYS {
                    if let Some(value) = around.set(name) {
                        builder = builder.with_config(key, value);
                    }
                }
            }
        }
        let client = builder.build().map_err(|e| {
            misconfigured(format!(
                "the S3 settings cannot work: {}",
                e.to_string().lines().next().unwrap_or_default()
            ))
        })?;
        Ok(Client::of(client))
    })
}

fn misconfigured(message: String) -> StorageError {
    StorageError::new(StorageErrorKind::Misconfigured, message)
}

/// The server's address, if it is not AWS.
fn endpoint(config: &S3Config, around: &Surroundings<'_>) -> Result<Option<Url>, StorageError> {
    let own = config.endpoint.clone();
    let given = own
        .or_else(|| around.set("AWS_ENDPOINT_URL_S3"))
        .or_else(|| around.set("AWS_ENDPOINT_URL"));
    let Some(given) = given else { return Ok(None) };
    let url = Url::parse(&given).ok().filter(Url::has_host);
    let Some(url) = url.filter(|u| matches!(u.scheme(), "http" | "https")) else {
        return Err(misconfigured(format!(
            "the S3 endpoint must be an http:// or https:// address, but is \"{}\"",
            shown(&without_password(&given))
        )));
    };
    let forbidden = (around.set("AWS_ALLOW_HTTP")).is_some_and(|v| {
        matches!(
            v.to_ascii_lowercase().as_str(),
            "false" | "0" | "no" | "off"
        )
    });
    // Whoever gives the flag has allowed it.
    if config.endpoint.is_none() && url.scheme() == "http" && forbidden {
        return Err(misconfigured(format!(
            "the S3 endpoint {} of the environment is http://, which AWS_ALLOW_HTTP forbids",
            shown(&without_password(&given))
        )));
    }
    Ok(Some(url))
}

/// The address for one bucket as the client library wants it, and whether it has the bucket's name
/// in the host's.
fn address(
    endpoint: Option<&Url>,
    addressing: Addressing,
    bucket: &str,
) -> Result<(Option<String>, bool), StorageError> {
    let virtual_hosted = match addressing {
        Addressing::Auto => endpoint.is_none() && !bucket.contains('.'),
        Addressing::Path => false,
        Addressing::Virtual => true,
    };
    let Some(endpoint) = endpoint else {
        return Ok((None, virtual_hosted));
    };
    let mut url = endpoint.clone();
    if virtual_hosted {
        let host = url.host_str().unwrap_or_default();
        let host = format!("{bucket}.{host}");
        let named = !matches!(
            url.host(),
            Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | None
        );
        if !named || url.set_host(Some(&host)).is_err() {
            return Err(misconfigured(format!(
                "the S3 endpoint {} cannot have the bucket's name in its host's name: use \
                 path-style addressing",
                shown(&without_password(endpoint.as_str()))
            )));
        }
    }
    Ok((
        Some(url.as_str().trim_end_matches('/').to_owned()),
        virtual_hosted,
    ))
}

/// What the environment may say of credentials that are not keys.
const AMBIENT_KEYS: [(&str, AmazonS3ConfigKey); 8] = [
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        AmazonS3ConfigKey::WebIdentityTokenFile,
    ),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
    ("AWS_METADATA_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::name::Location;
    use crate::object::ObjectSettings;

    fn config(endpoint: Option<&str>) -> S3Config {
        S3Config {
            buckets: vec!["videos".into()],
            endpoint: endpoint.map(str::to_owned),
            access_key: Some("AKIAEXAMPLE".into()),
            secret_key: Some("hunter2".into()),
            ..S3Config::default()
        }
    }

    fn opened(config: &S3Config, variables: &[(&str, &str)]) -> Result<RemoteStore, StorageError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|v| v.0 == name);
            found.map(|v| v.1.to_owned())
        };
        let around = Surroundings {
            variable: &variable,
            read: &|_| None,
        };
        let settings = ReadSettings {
            stall: Duration::from_secs(1),
            hedge: true,
        };
        open_in(config, &around, settings, &Arc::default())
    }

    fn refusal(config: &S3Config) -> StorageError {
        opened(config, &[]).unwrap_err()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_in_a_sentence() {
        for endpoint in ["localhost:3900", "ftp://localhost", "http://", "", "/srv"] {
            let error = refusal(&config(Some(endpoint)));
            assert_eq!(error.kind(), StorageErrorKind::Misconfigured);
            assert!(error.to_string().contains("http:// or https://"), "{error}");
        }
        for bucket in ["", "a/b"] {
            let error = refusal(&S3Config {
                buckets: vec![bucket.into()],
                ..config(None)
            });
            let text = "is not the name of an S3 bucket";
            assert!(error.to_string().contains(text), "{error}");
        }
        let error = refusal(&S3Config {
            secret_key: None,
            ..config(None)
        });
        assert!(!error.to_string().contains("AKIAEXAMPLE"), "{error}");
        let error = refusal(&S3Config {
            addressing: Addressing::Virtual,
            ..config(Some("http://me:hunter2@127.0.0.1:3900"))
        });
        assert!(error.to_string().contains("path-style"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn a_name_is_a_key_of_one_of_the_buckets_or_nothing() {
        use StorageErrorKind::{InvalidName, OutsideStore, Unavailable};
        // Nobody listens there: what is let through cannot be reached.
        let config = S3Config {
            buckets: Bucket::list("videos,lab", "lab=public").unwrap(),
            ..config(Some("http://127.0.0.1:1/"))
        };
        let store = opened(&config, &[]).unwrap();
        let settings = ObjectSettings {
            counters: Arc::default(),
            timeout: Duration::from_secs(20),
        };
        tokio::time::pause();
        let kind = async |name: &str| {
            let location = Location::parse(name).map_err(|e| e.kind())?;
            let opened = store.open(name, location, 1, 1, &settings).await;
            opened.map(|_| ()).map_err(|e| e.kind())
        };
        for inside in ["a/b.mp4", "s3://videos/a b%2fc.mp4", "s3://lab/public/a"] {
            assert_eq!(kind(inside).await, Err(Unavailable), "{inside}");
        }
        for outside in [
            "s3://other/a.mp4",
            "s3://videos.evil/a.mp4",
            "s3://lab/a",
            "s3://lab/publicity/a",
            "gs://videos/a",
            "az://videos/a",
            "fs:///etc/passwd",
        ] {
            assert_eq!(kind(outside).await, Err(OutsideStore), "{outside}");
        }
        for name in [
            "../other/a",
            "a/../../b",
            "/a",
            "a/",
            "a//b",
            "./a",
            "a\nb",
            "s3://lab/public/../a",
        ] {
            assert_eq!(kind(name).await, Err(InvalidName), "{name}");
        }
        assert_eq!(kind(&"k".repeat(1025)).await, Err(InvalidName));
    }

    #[test]
    fn the_environment_says_where_the_server_is_and_the_flag_wins() {
        let check = |config: &S3Config, variables: &[(&str, &str)], expected: Option<&str>| {
            let variable = |name: &str| {
                let found = variables.iter().find(|v| v.0 == name);
                found.map(|v| v.1.to_owned())
            };
            let around = Surroundings {
                variable: &variable,
                read: &|_| None,
            };
            let url = endpoint(config, &around).unwrap();
            assert_eq!(url.as_ref().map(Url::as_str), expected);
        };
        let general = ("AWS_ENDPOINT_URL", "http://general:1/");
        let special = ("AWS_ENDPOINT_URL_S3", "http://special:2/");
        let flag = config(Some("http://flag:3/"));
        check(&config(None), &[], None);
        check(&config(None), &[general], Some(general.1));
        check(&config(None), &[general, special], Some(special.1));
        check(
            &config(None),
            &[general, ("AWS_ENDPOINT_URL_S3", "")],
            Some(general.1),
        );
        check(&flag, &[general, special], Some("http://flag:3/"));
        let allowed = ("AWS_ALLOW_HTTP", "true");
        let forbidden = ("AWS_ALLOW_HTTP", "false");
        check(&config(None), &[general, allowed], Some(general.1));
        check(&flag, &[forbidden], Some("http://flag:3/"));
        let error = opened(&config(None), &[general, forbidden]).unwrap_err();
        assert!(error.to_string().contains("AWS_ALLOW_HTTP"), "{error}");
    }

    #[test]
    fn the_buckets_name_goes_where_it_is_wanted() {
        let check =
            |endpoint: Option<&str>, addressing, bucket: &str, expected: (Option<&str>, bool)| {
                let url = endpoint.map(|e| Url::parse(e).unwrap());
                let (address, virtual_hosted) = address(url.as_ref(), addressing, bucket).unwrap();
                assert_eq!((address.as_deref(), virtual_hosted), expected);
            };
        let own = Some("http://s3.example:3900/");
        check(None, Addressing::Auto, "b", (None, true));
        check(None, Addressing::Auto, "b.c", (None, false));
        check(None, Addressing::Path, "b", (None, false));
        check(None, Addressing::Virtual, "b.c", (None, true));
        let plain = (Some("http://s3.example:3900"), false);
        check(own, Addressing::Auto, "b", plain);
        check(own, Addressing::Path, "b", plain);
        check(
            own,
            Addressing::Virtual,
            "b",
            (Some("http://b.s3.example:3900"), true),
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = config(Some("http://me:hunter2@localhost:1"));
        let store = opened(&config, &[]).unwrap();
        let text = format!("{config:?} {store:?}");
        assert!(
            !text.contains("hunter2") && !text.contains("AKIAEXAMPLE"),
            "{text}"
        );
    }
}
