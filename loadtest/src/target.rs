//! The server under test: found, reached, and asked for its counters.

use std::net::SocketAddr;

use danmaku_client::{ClientError, HttpClient, ServerAddress};

use crate::counters::Counters;
use crate::error::HarnessError;

/// A server that answers.
pub struct Target {
    /// As the operator wrote it.
    pub address: ServerAddress,
    /// Where viewers connect to.
    pub socket: SocketAddr,
    http: HttpClient,
}

impl Target {
    /// Resolves the address and makes sure that somebody answers HTTP there.
    ///
    /// # Errors
    /// The name does not resolve, or nobody answers.
    pub async fn reach(address: &ServerAddress) -> Result<Self, HarnessError> {
        let unresolved = || HarnessError::Unresolved {
            address: address.to_string(),
        };
        let socket = tokio::net::lookup_host((address.host(), address.port()))
            .await
            .map_err(|_| unresolved())?
            .next()
            .ok_or_else(unresolved)?;
        let mut target = Self {
            address: address.clone(),
            socket,
            http: HttpClient::new(address.clone()),
        };
        target.counters().await?;
        Ok(target)
    }

    /// The server's counters; `None` when it keeps none, as another server would.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn counters(&mut self) -> Result<Option<Counters>, HarnessError> {
        match self.http.get_json("/v1/stats").await {
            Ok(document) => Ok(Some(Counters::of(&document))),
            Err(ClientError::Refused(_) | ClientError::NotTheProtocol(_)) => Ok(None),
            Err(source) => Err(HarnessError::Server {
                address: self.address.to_string(),
                source,
            }),
        }
    }
}
