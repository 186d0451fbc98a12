//! How the harness gets to the server and in: its address, TLS, headers and tokens.

use std::sync::Arc;

use danmaku_client::{Access, AddressError, Connect, HttpClient, ServerAddress, Trust};
use danmaku_wire::RoomId;
use rustls::pki_types::ServerName;

use crate::error::HarnessError;
use crate::pusher::App;
use crate::spec::Spec;
use crate::swarm::Secure;
use crate::tokens::Tokens;

/// How the harness gets in.
pub struct Entrance {
    /// The server.
    pub address: ServerAddress,
    /// TLS, and the headers of every request.
    pub access: Access,
    /// Who viewers and posters say they are.
    pub tokens: Tokens,
    /// The application, on a server that speaks the Pusher protocol.
    pub pusher: Option<App>,
    /// TLS of viewers.
    pub secure: Option<Secure>,
    /// The headers as viewers write them.
    headers: String,
}

impl Entrance {
    /// What a specification says.
    ///
    /// # Errors
    /// An address, a certificate, a header or a token that cannot be used.
    pub fn of(spec: &Spec) -> Result<Arc<Self>, HarnessError> {
        let address = address(&spec.url)?;
        let trust = match &spec.ca {
            Some(path) => Trust::File(path.clone()),
            None if spec.insecure => Trust::Anybody,
            None => Trust::System,
        };
        let mut access = Access::default();
        let mut headers = String::new();
        for line in &spec.header {
            access = access.with_header(line)?;
        }
        for (name, value) in access.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers.push_str(&format!("{name}: {value}\r\n"));
        }
        let secure = if address.is_tls() {
            access = access.trusting(&trust)?;
            let name =
                ServerName::try_from(address.host().to_owned()).map_err(|_| HarnessError::Url {
                    url: spec.url.clone(),
                    source: AddressError::NotAnAddress(address.host().to_owned()),
                })?;
            Some(Secure::new(&*access.tls()?, name))
        } else {
            None
        };
        Ok(Arc::new(Self {
            address,
            access,
            tokens: Tokens::of(spec)?,
            pusher: App::of(spec),
            secure,
            headers,
        }))
    }

    /// A client of the HTTP API.
    #[must_use]
    pub fn http(&self) -> HttpClient {
        HttpClient::new(self.address.clone()).with_access(self.access.clone())
    }

    /// How the connection with this number gets in to post, and whom its token names.
    ///
    /// # Panics
    /// Never: tokens are checked when they are read or minted.
    #[must_use]
    pub fn poster(&self, number: u32) -> (Access, Option<String>) {
        let access = self.access.clone();
        match self.tokens.poster(number) {
            Some(token) => {
                let access = access.with_token(&token.text);
                let access = access.expect("invariant: a token is visible ASCII");
                (access, token.user)
            }
            None => (access, None),
        }
    }

    /// A connection to a room, as the poster with this number.
    #[must_use]
    pub fn connect(&self, room: RoomId, number: u32) -> Connect {
        Connect {
            access: self.poster(number).0,
            ..Connect::new(self.address.clone(), room)
        }
    }

    /// The headers of a viewer's request.
    pub fn write_headers(&self, viewer: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.headers.as_bytes());
        if let Some(token) = self.tokens.viewer(viewer) {
            out.extend_from_slice(format!("Authorization: Bearer {}\r\n", token.text).as_bytes());
        }
    }
}

/// Reads a URL.
///
/// # Errors
/// It is none.
pub fn address(url: &str) -> Result<ServerAddress, HarnessError> {
    url.parse().map_err(|source| HarnessError::Url {
        url: url.to_owned(),
        source,
    })
}
