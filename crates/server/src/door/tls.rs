//! TLS: a certificate and its key out of files, which may be replaced while the server runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};

/// How often it is looked whether the files are others.
const LOOK: Duration = Duration::from_secs(2);

/// Where the certificate is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsFiles {
    /// The certificate, and those that lead from it to an authority.
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What new connections are shown. Those that there are keep what they were shown.
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

// By hand: a key is not to be printed.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish()
    }
}

/// By which it is seen that a file is another, or was written.
type Mark = Option<(SystemTime, u64, u64)>;

impl Tls {
    /// # Errors
    /// A file that cannot be read, or holds not what it should.
    pub(crate) fn open(files: &TlsFiles) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            current: RwLock::new(Arc::new(read(files)?)),
            files: files.clone(),
        }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current).into()
    }

    /// Takes new files for new connections, on SIGHUP and when they change; for ever. Files that
    /// cannot be used change nothing.
    pub(crate) async fn keep_fresh(self: Arc<Self>) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let mut known = self.marks().await;
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let marks = self.marks().await;
            if asked || marks != known {
                known = marks;
                self.reload().await;
            }
        }
    }

    async fn reload(&self) {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || read(&files)).await;
        match read.context("a defect").and_then(|read| read) {
            Ok(config) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(config);
                tracing::info!(cert = %self.files.cert.display(), "a new certificate is used");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the certificate that was used before is kept");
            }
        }
    }

    async fn marks(&self) -> [Mark; 2] {
        use std::os::unix::fs::MetadataExt as _;
        let mark = async |path: &Path| {
            let metadata = tokio::fs::metadata(path).await.ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        [mark(&self.files.cert).await, mark(&self.files.key).await]
    }
}

fn read(files: &TlsFiles) -> anyhow::Result<ServerConfig> {
    let TlsFiles { cert, key } = files;
    let certs = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refusal("--tls-cert", cert, &error))?;
    if certs.is_empty() {
        bail!(
            "--tls-cert {}: it holds no certificate (PEM is wanted)",
            cert.display()
        );
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| refusal("--tls-key", key, &error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, secret);
    let mut config = match config {
        Ok(config) => config,
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => bail!(
            "--tls-key {} is not the key of the certificate in --tls-cert {}",
            key.display(),
            cert.display()
        ),
        Err(error @ Error::InvalidCertificate(_)) => {
            bail!("--tls-cert {}: {error}", cert.display())
        }
        Err(error) => bail!(
            "--tls-cert {} and --tls-key {} cannot be used: {error}",
            cert.display(),
            key.display()
        ),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What is wrong with a file. Nothing of what it holds is told.
fn refusal(flag: &str, path: &Path, error: &pem::Error) -> anyhow::Error {
    let why = match error {
        pem::Error::Io(error) => format!("it cannot be read: {error}"),
        pem::Error::NoItemsFound => match flag {
            "--tls-key" => "it holds no private key (PEM is wanted: PKCS#8, PKCS#1 or SEC1)".into(),
            _ => "it holds no certificate (PEM is wanted)".into(),
        },
        _ => "it is no well-formed PEM".to_owned(),
    };
    anyhow::anyhow!("{flag} {}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_wrong_with_the_files_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let pair = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
            fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
            let key = made.signing_key.serialize_pem();
            fs::write(at(&format!("{name}.key")), key).unwrap();
        };
        pair("a");
        pair("b");
        fs::write(at("empty"), "").unwrap();
        fs::write(at("bad"), "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
        let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(at("no.pem"), der).unwrap();
        let try_pair = |cert: &str, key: &str| {
            let (cert, key) = (at(cert), at(key));
            Tls::open(&TlsFiles { cert, key }).map_err(|e| format!("{e:#}"))
        };
        assert!(try_pair("a.pem", "a.key").is_ok());
        for (cert, key, says) in [
            ("none", "a.key", "none: it cannot be read: No such file"),
            ("a.pem", "none", "none: it cannot be read: No such file"),
            ("empty", "a.key", "empty: it holds no certificate"),
            ("a.key", "a.key", "a.key: it holds no certificate"),
            ("a.pem", "a.pem", "a.pem: it holds no private key"),
            ("a.pem", "empty", "empty: it holds no private key"),
            ("bad", "a.key", "bad: it is no well-formed PEM"),
            ("no.pem", "a.key", "no.pem"),
            ("a.pem", "b.key", "b.key is not the key of the certificate"),
        ] {
            let refused = try_pair(cert, key).unwrap_err();
            assert!(refused.contains(says), "{cert} {key}: {refused}");
            assert!(refused.contains("--tls-"), "{refused}");
        }
    }
}
