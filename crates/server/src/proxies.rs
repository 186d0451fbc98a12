//! Owns a request's client address: its peer, or the client that a trusted proxy names in `X-Forwarded-For` or
//! `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::header::HeaderMap;
use ipnet::IpNet;

/// The proxies trusted to name their clients.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Box<[Network]>);

/// One value of `--trusted-proxies`: an address, or a block of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is not a block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a proxy must be an address such as 10.0.0.7, or a block such as 10.0.0.0/8 or 2001:db8::/32"
)]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse()
            .or_else(|_| one())
            .map(Self)
            .map_err(|_| NetworkError)
    }
}

impl TrustedProxies {
    /// The checked flag.
    #[must_use]
    pub fn new(networks: &[Network]) -> Self {
        Self(networks.into())
    }

    /// Whether `peer` is one of them.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.0.contains(&peer))
    }

    /// The client of a request. `peer` is the other end of the connection, a trusted proxy.
    ///
    /// Each proxy appends the address it was reached from on the right, and anything left of the first address that is not
    /// ours may be forged. So the client is the rightmost address that is not a proxy's. If a header cannot be parsed up to
    /// there, or the two headers disagree, there is no client: a proxy that writes one of them passes the other on as its
    /// client wrote it. A request without a client counts as the proxy's own.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let x_forwarded_for = joined(headers, "x-forwarded-for");
        let forwarded = joined(headers, "forwarded");
        let x_forwarded_for = x_forwarded_for
            .as_deref()
            .map(|list| self.rightmost(list.split(',').map(node)));
        let forwarded = forwarded
            .as_deref()
            .map(|list| self.rightmost(unquoted_split(list, ',').into_iter().map(element)));
        match (x_forwarded_for, forwarded) {
            (Some(one), Some(other)) if one != other => None,
            (Some(client), _) | (None, Some(client)) => client,
            (None, None) => None,
        }
        .unwrap_or(peer)
    }

    /// The last address that is not a proxy's, or the first one if all are. `None` if an entry that has to be read is not
    /// an address.
    fn rightmost(&self, nodes: impl DoubleEndedIterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut client = None;
        for node in nodes.rev() {
            let address = node?;
            client = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

/// All lines of a list header as one list (RFC 9110, 5.3). A line that is not text becomes an entry that is not an address.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// The address of a `Forwarded` element's `for` (RFC 7239, 6).
fn element(element: &str) -> Option<IpAddr> {
    let pairs = unquoted_split(element, ';').into_iter();
    let mut named = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    });
    let value = named.next().filter(|_| named.next().is_none())?.trim();
    let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    node(quoted.unwrap_or(value))
}

/// An address with or without a port; IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    let address = address.or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// Splits at every `separator` outside quoted strings.
fn unquoted_split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    fn proxies() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "2001:db8:a::/48", "192.0.2.7"];
        TrustedProxies::new(&networks.map(|text| text.parse().unwrap()))
    }

    #[track_caller]
    fn check(lines: &[(&'static str, &str)], expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let client = proxies().client(PEER.parse().unwrap(), &headers);
        assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{lines:?}");
    }

    #[test]
    fn the_client_is_the_rightmost_untrusted_address() {
        let x = "x-forwarded-for";
        check(&[(x, "198.51.100.3")], "198.51.100.3");
        check(&[(x, "1.1.1.1, 198.51.100.3,10.2.3.4")], "198.51.100.3");
        check(
            &[(x, "1.1.1.1"), (x, "198.51.100.3, 192.0.2.7")],
            "198.51.100.3",
        );
        check(&[(x, "made up, 198.51.100.3:4711")], "198.51.100.3");
        check(&[(x, "[2001:db8::5]:4711")], "2001:db8::5");
        check(&[(x, "2001:db8::5")], "2001:db8::5");
        check(&[(x, "::ffff:198.51.100.3")], "198.51.100.3");
        check(&[(x, "10.9.9.9, 10.2.3.4")], "10.9.9.9");
        let forwarded = "forwarded";
        check(
            &[(
                forwarded,
                r#"for=1.1.1.1, For="[2001:db8::5]:4711";proto=https;by=10.0.0.1"#,
            )],
            "2001:db8::5",
        );
        check(
            &[(forwarded, r#"host="a,b;for=1.1.1.1";for=198.51.100.3"#)],
            "198.51.100.3",
        );
        check(
            &[(x, "198.51.100.3"), (forwarded, "for=198.51.100.3")],
            "198.51.100.3",
        );
    }

    #[test]
    fn a_request_without_a_client_is_the_proxys_own() {
        let (x, forwarded) = ("x-forwarded-for", "forwarded");
        check(&[], PEER);
        for garbage in [
            "",
            "unknown",
            "1.1.1.1,",
            "198.51.100.3, ?, 10.2.3.4",
            "1.2.3",
            "é",
        ] {
            check(&[(x, garbage)], PEER);
        }
        for garbage in [
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=1.1.1.1;for=2.2.2.2",
            "\"",
        ] {
            check(&[(forwarded, garbage)], PEER);
        }
        // The client forged one of the two.
        check(&[(x, "198.51.100.3"), (forwarded, "for=1.1.1.1")], PEER);
        check(&[(x, "198.51.100.3"), (forwarded, "for=unknown")], PEER);
    }

    #[test]
    fn networks_are_addresses_and_blocks() {
        let proxies = proxies();
        for (address, expected) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:a:1::1", true),
            ("2001:db8:b::1", false),
        ] {
            assert_eq!(
                proxies.trusts(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
        for bad in ["", "10.0.0.0/33", "localhost", "10.0.0"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError), "{bad}");
        }
    }
}
