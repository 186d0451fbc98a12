//! The server under test: found, reached, and asked for its counters.

use std::net::SocketAddr;
use std::sync::Arc;

use danmaku_client::{ClientError, HttpClient};

use crate::counters::Counters;
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::quoted::quoted;

/// A server that answers.
pub struct Target {
    /// How to get there.
    pub entrance: Arc<Entrance>,
    /// Where viewers connect to.
    pub socket: SocketAddr,
    /// Its version, if it reports one.
    pub version: Option<String>,
    http: HttpClient,
}

impl Target {
    /// Resolves the address and checks that something answers HTTP there.
    ///
    /// # Errors
    /// The name does not resolve, or nothing answers.
    pub async fn reach(entrance: Arc<Entrance>) -> Result<Self, HarnessError> {
        let address = &entrance.address;
        let unresolved = || HarnessError::Unresolved {
            address: address.to_string(),
        };
        let socket = tokio::net::lookup_host((address.host(), address.port()))
            .await
            .map_err(|_| unresolved())?
            .next()
            .ok_or_else(unresolved)?;
        let mut target = Self {
            socket,
            version: None,
            http: entrance.http(),
            entrance,
        };
        target.counters().await?;
        target.version = match target.http.get_text("/metrics").await {
            Ok(exposition) => version(&exposition),
            Err(_) => None,
        };
        Ok(target)
    }

    /// The server's counters; `None` when it keeps none, as another server would.
    ///
    /// # Errors
    /// No answer.
    pub async fn counters(&mut self) -> Result<Option<Counters>, HarnessError> {
        match self.http.get_json("/v1/stats").await {
            Ok(document) => Ok(Some(Counters::of(&document))),
            Err(ClientError::Refused(_) | ClientError::NotTheProtocol(_)) => Ok(None),
            Err(source) => Err(HarnessError::Server {
                address: self.entrance.address.to_string(),
                source,
            }),
        }
    }
}

/// The label of `danmaku_build_info`.
fn version(exposition: &str) -> Option<String> {
    let line = exposition
        .lines()
        .find_map(|line| line.strip_prefix("danmaku_build_info{version=\""))?;
    Some(quoted(line.split_once('"')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_build_info() {
        let exposition =
            "# TYPE danmaku_build_info gauge\ndanmaku_build_info{version=\"1.2.3\"} 1\n";
        assert_eq!(version(exposition).as_deref(), Some("1.2.3"));
        assert_eq!(version("danmaku_rooms 1\n"), None);
    }
}
