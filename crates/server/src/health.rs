//! `--health`: asks a server that runs on this machine how it is. A container's health check that
//! needs no other program in its image.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

/// A server that says nothing for so long is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// The status line, and no more than that is looked at.
const GOOD: &[u8] = b"HTTP/1.1 200 ";

/// Asks the server that listens on this address, by TLS or in clear.
pub(crate) fn ask(listen_addr: &str, tls: bool) -> anyhow::Result<()> {
    let mut addresses = listen_addr
        .to_socket_addrs()
        .with_context(|| format!("{listen_addr} is no address"))?;
    let address = addresses.next().context("no address")?;
    let address = reachable(address);
    let answer =
        first_bytes(address, tls).with_context(|| format!("no server answers on {address}"))?;
    ensure!(
        answer == GOOD,
        "the server on {address} is not healthy: {}",
        answer.escape_ascii()
    );
    Ok(())
}

/// Who listens on all addresses is reached on the machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn first_bytes(address: SocketAddr, tls: bool) -> anyhow::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    if tls {
        let name = ServerName::IpAddress(address.ip().into());
        let client = ClientConnection::new(Arc::new(by_tls()?), name)?;
        exchange(StreamOwned::new(client, stream), address)
    } else {
        exchange(stream, address)
    }
}

fn exchange(mut stream: impl Read + Write, address: SocketAddr) -> anyhow::Result<Vec<u8>> {
    write!(
        stream,
        "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.take(GOOD.len() as u64).read_to_end(&mut answer)?;
    Ok(answer)
}

fn by_tls() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Takes every certificate: it is for the name that clients know, not for this machine's own
/// address, and nothing is told that not everybody may hear.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_on_the_own_one() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:3000"), "127.0.0.1:3000");
        assert_eq!(reached("[::]:3000"), "[::1]:3000");
        assert_eq!(reached("192.0.2.1:80"), "192.0.2.1:80");
    }
}
