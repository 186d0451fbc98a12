//! Owns who is at the other end of a connection.

use std::net::IpAddr;

use hyper::header::HeaderMap;

use crate::admission::ConnectionPermit;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// Its address.
    pub(super) address: IpAddr,
    /// Its place among the connections.
    pub(super) permit: &'a ConnectionPermit,
}

impl Peer<'_> {
    /// Whether the request was made on this machine, and not passed on for somebody else by a proxy on it.
    pub(super) fn is_local(&self, headers: &HeaderMap) -> bool {
        self.address.to_canonical().is_loopback()
            && !FORWARDING_HEADERS
                .iter()
                .any(|name| headers.contains_key(*name))
    }
}

/// What proxies add to a request they pass on.
const FORWARDING_HEADERS: &[&str] = &[
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];
