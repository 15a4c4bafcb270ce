//! For whom something is counted.

use std::net::{IpAddr, Ipv6Addr};

use xxhash_rust::xxh3::xxh3_128;

use crate::access::Caller;

/// Whoever shares a limit: a token, wherever it is used, or an address where there is none. (Of IPv6, a
/// /64 net: a machine has all of that.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Who {
    Address(IpAddr),
    /// The hash of its name.
    Token(u128),
}

impl Who {
    pub(crate) fn of(caller: &Caller, address: IpAddr) -> Self {
        match caller.token() {
            Some(name) => Self::Token(xxh3_128(name.as_bytes())),
            None => Self::at(address),
        }
    }

    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                const NET: u128 = u128::MAX << 64;
                Ipv6Addr::from_bits(address.to_bits() & NET).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Who;

    #[test]
    fn a_net_of_one_machine_is_one() {
        let who = |address: &str| Who::at(address.parse().unwrap());
        assert_eq!(who("2001:db8:1:2::7"), who("2001:db8:1:2:ffff::8"));
        assert_ne!(who("2001:db8:1:2::7"), who("2001:db8:1:3::7"));
        assert_eq!(who("::ffff:192.0.2.1"), who("192.0.2.1"));
        assert_ne!(who("192.0.2.1"), who("192.0.2.2"));
    }
}
