//! How a client gets in: whom it trusts, and the headers of its requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// How a client gets in. The default trusts the system's certificates and adds no headers.
#[derive(Clone, Debug, Default)]
pub struct Access {
    headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
}

/// Which servers are trusted with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate that the system trusts.
    #[default]
    System,
    /// Those with a certificate of this file (PEM), or signed by one.
    File(PathBuf),
    /// All.
    Anybody,
}

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file with trusted certificates cannot be read.
    #[error("{}: {source}", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate that can be trusted.
    #[error("{}: no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// Not a header.
    #[error("`{0}` is not a header: use NAME: VALUE")]
    Header(String),
    /// A token that no header can carry.
    #[error("the token has characters that a header cannot carry")]
    Token,
    /// No protocol version in common with the crypto library.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

impl Access {
    /// Decides which servers are trusted.
    ///
    /// # Errors
    /// A file that is not readable or has no certificate.
    pub fn trusting(self, trust: &Trust) -> Result<Self, AccessError> {
        Ok(Self {
            tls: Some(Arc::new(config(trust)?)),
            ..self
        })
    }

    /// Adds `NAME: VALUE` to every request.
    ///
    /// # Errors
    /// Not a header.
    pub fn with_header(mut self, line: &str) -> Result<Self, AccessError> {
        let header = || {
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        };
        let (name, value) = header().ok_or_else(|| AccessError::Header(line.to_owned()))?;
        self.headers.append(name, value);
        Ok(self)
    }

    /// Shows a bearer token in every request (RFC 6750, section 2.1).
    ///
    /// # Errors
    /// A token that no header can carry.
    pub fn with_token(mut self, token: &str) -> Result<Self, AccessError> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| AccessError::Token)?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    /// The headers of every request.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What TLS connections are made with.
    ///
    /// # Errors
    /// The crypto library has no protocol version in common with us.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, AccessError> {
        match &self.tls {
            Some(tls) => Ok(Arc::clone(tls)),
            None => Ok(Arc::new(config(&Trust::System)?)),
        }
    }
}

fn config(trust: &Trust) -> Result<ClientConfig, AccessError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnybody(provider))),
        Trust::System => {
            let mut roots = RootCertStore::empty();
            // What cannot be read or parsed is not trusted, as everywhere.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots)
        }
        Trust::File(path) => builder.with_root_certificates(roots_of(path)?),
    };
    Ok(config.with_no_client_auth())
}

fn roots_of(path: &Path) -> Result<RootCertStore, AccessError> {
    let unreadable = |source| AccessError::Certificates {
        path: path.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(AccessError::NoCertificate(path.to_owned())),
        _ => Ok(roots),
    }
}

/// Accepts every certificate. Signatures are still checked, so the connection is one to whoever holds its key.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked() {
        let access = Access::default().with_header("X-Stage: canary").unwrap();
        assert_eq!(access.headers()["x-stage"], "canary");
        for line in ["no colon", ": value", "na me: value", "name: va\nlue"] {
            assert!(Access::default().with_header(line).is_err(), "{line:?}");
        }
        let access = access.with_token("a.b.c").unwrap();
        assert_eq!(access.headers()[AUTHORIZATION], "Bearer a.b.c");
        assert!(Access::default().with_token("a\nb").is_err());
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let path = std::env::temp_dir().join(format!("danmaku-ca-{}", std::process::id()));
        std::fs::write(&path, "nothing").unwrap();
        let error = |trust| Access::default().trusting(&trust).unwrap_err();
        let said = error(Trust::File(path.clone())).to_string();
        assert!(said.ends_with("no certificate in PEM"), "{said}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            error(Trust::File(path)),
            AccessError::Certificates { .. }
        ));
    }
}
