//! `--health`: asks a server that runs on this machine how it is. A container's health check that
//! needs no other program in its image.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// A server that says nothing for so long is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// The status line, and no more than that is looked at.
const GOOD: &[u8] = b"HTTP/1.1 200 ";

/// Asks the server that listens on this address.
pub(crate) fn ask(listen_addr: &str) -> anyhow::Result<()> {
    let mut addresses = listen_addr
        .to_socket_addrs()
        .with_context(|| format!("{listen_addr} is no address"))?;
    let address = addresses.next().context("no address")?;
    let address = reachable(address);
    let answer = first_bytes(address).with_context(|| format!("no server answers on {address}"))?;
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

fn first_bytes(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(GOOD.len() as u64).read_to_end(&mut answer)?;
    Ok(answer)
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
