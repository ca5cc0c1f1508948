//! Networks and addresses of clients: whose address a request has, and how much of it is shown. It must
//! not open sockets.

use std::net::{IpAddr, Ipv6Addr};

pub use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

/// The proxies whose word about the client's address is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts the addresses of these networks.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns the address of the client: that of the connection, unless it is a trusted proxy's. Then it
    /// is the rightmost hop of `x-forwarded-for` that isn't trusted, because everything left of it may
    /// be made up. `forwarded` are the header's lines in their order. Where a hop can't be read, the
    /// last address that could be is returned.
    #[must_use]
    pub fn client<'a>(
        &self,
        connection: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = connection.to_canonical();
        let hops = forwarded.rev().flat_map(|line| line.rsplit(','));
        for hop in hops {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = parse_hop(hop.trim()) else {
                break;
            };
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Parses a hop: an address, which may have a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    let parsed = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|one| one.ip())
    };
    parsed
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

/// The part of a client's address that logs, requests and the audit log show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAddressDetail {
    /// The address.
    Full,
    /// Its network: of IPv4 the /24, of IPv6 the /48.
    #[default]
    Prefix,
    /// Nothing.
    Off,
}

impl ClientAddressDetail {
    /// Returns what is shown of an address.
    #[must_use]
    pub fn show(self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 24 } else { 48 };
        match self {
            Self::Full => Some(address.to_string()),
            Self::Prefix => {
                let network = IpNet::new(address, length).ok()?;
                Some(network.trunc().to_string())
            }
            Self::Off => None,
        }
    }
}

/// Returns the address that represents all addresses of one client: of IPv6 that of its /64, since
/// a client with one address of it has all of them (RFC 4291, section 2.5.4). An IPv4 address
/// represents itself, also where it is mapped into IPv6.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_client_are_one() {
        for (address, network) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::"),
            ("2001:db8::ffff:0:0:1", "2001:db8::"),
            ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ] {
            let found = client_network(address.parse().unwrap());
            assert_eq!(found, network.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    fn networks(texts: &[&str]) -> TrustedProxies {
        TrustedProxies::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_is_not_trusted() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"];
        for (proxies, connection, forwarded, client) in [
            // Nobody is trusted: the header may say what it likes.
            (&[][..], "10.0.0.1", &["1.1.1.1"][..], "10.0.0.1"),
            (&trusted, "9.9.9.9", &["1.1.1.1"], "9.9.9.9"),
            (&trusted, "10.0.0.1", &[], "10.0.0.1"),
            (&trusted, "10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            // The client put the first one there itself.
            (&trusted, "10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            (&trusted, "10.0.0.1", &["1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            (
                &trusted,
                "10.0.0.1",
                &["1.1.1.1", "10.0.0.2,10.0.0.3"],
                "1.1.1.1",
            ),
            (&trusted, "::ffff:10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1"),
            (&trusted, "2001:db8::1", &["[2a00::1]:443"], "2a00::1"),
            (&trusted, "10.0.0.1", &["1.1.1.1:55"], "1.1.1.1"),
            (&trusted, "10.0.0.1", &["10.0.0.9"], "10.0.0.9"),
            (&trusted, "10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1"),
            (
                &trusted,
                "10.0.0.1",
                &["1.1.1.1, unknown, 10.0.0.4"],
                "10.0.0.4",
            ),
            (&trusted, "10.0.0.1", &[""], "10.0.0.1"),
            (&trusted, "10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
        ] {
            let found = networks(proxies);
            let found = found.client(connection.parse().unwrap(), forwarded.iter().copied());
            let wanted: IpAddr = client.parse().unwrap();
            assert_eq!(found, wanted, "{connection} {forwarded:?}");
        }
    }

    #[test]
    fn addresses_are_shown_in_full_by_network_or_not_at_all() {
        for (address, full, prefix) in [
            ("203.0.113.77", "203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ] {
            let address = address.parse().unwrap();
            let show = |detail: ClientAddressDetail| detail.show(address);
            assert_eq!(show(ClientAddressDetail::Full).as_deref(), Some(full));
            assert_eq!(show(ClientAddressDetail::Prefix).as_deref(), Some(prefix));
            assert_eq!(show(ClientAddressDetail::Off), None);
        }
    }
}
