//! Whom a connection by TLS trusts.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_tungstenite::{Connector, tungstenite};

/// For addresses with `wss://`: the system's certificates are trusted and, beside them, those of a
/// file.
pub(crate) fn connector(beside: Option<&Path>) -> anyhow::Result<Connector> {
    let mut trusted = RootCertStore::empty();
    // What the system has and cannot be read is missed where it is needed, with a reason.
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = beside {
        let shown = path.display();
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot read certificates from {shown}"))?;
        ensure!(!certificates.is_empty(), "{shown} holds no certificate");
        for certificate in certificates {
            (trusted.add(certificate))
                .with_context(|| format!("{shown} holds a certificate that cannot be read"))?;
        }
    }
    let config = ClientConfig::builder()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}

/// Whether what the server showed is not trusted.
pub(crate) fn is_about_certificate(error: &tungstenite::Error) -> bool {
    let tungstenite::Error::Io(error) = error else {
        return false;
    };
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}
