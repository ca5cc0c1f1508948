//! TLS to PostgreSQL as libpq has it: `sslmode` and `sslrootcert` of the address. It must not know
//! what is sent over a connection.

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::SslMode;

use crate::error::StoreError;

/// TLS mode of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TlsMode {
    Disable,
    /// TLS where the server has it; the server may be anybody.
    Prefer,
    /// TLS, and with root certificates given a server that they vouch for.
    Require,
    /// TLS with a server that the root certificates vouch for, whatever its name.
    VerifyCa,
    /// TLS with a server that the root certificates vouch for under the name it was called by.
    VerifyFull,
}

impl TlsMode {
    const ALL: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Prefer),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

/// An address without what it says of TLS, and that.
pub(super) struct ServerAddress {
    /// The address for a client that knows nothing of certificates.
    pub(super) url: String,
    mode: TlsMode,
    roots: Option<String>,
}

impl ServerAddress {
    /// Takes an address apart.
    ///
    /// # Errors
    /// Returns an error if its `sslmode` is none of libpq's.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let mut address = Self {
            url: url.to_owned(),
            mode: TlsMode::Prefer,
            roots: None,
        };
        let Some((before, query)) = url.split_once('?') else {
            return Ok(address);
        };
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", name)) => address.mode = mode(name)?,
                Some(("sslrootcert", path)) => address.roots = Some(percent_decode(path)),
                _ => rest.push(parameter),
            }
        }
        address.url = if rest.is_empty() {
            before.to_owned()
        } else {
            format!("{before}?{}", rest.join("&"))
        };
        Ok(address)
    }

    pub(super) const fn ssl_mode(&self) -> SslMode {
        match self.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        }
    }

    /// Creates the TLS connector.
    ///
    /// # Errors
    /// Returns an error if the root certificates can't be read.
    pub(super) fn connector(&self) -> Result<MakeTlsConnector, StoreError> {
        let wrong = |error: openssl::error::ErrorStack| {
            let of = self.roots.as_deref().unwrap_or("the system's certificates");
            StoreError::Address(format!("TLS with {of}: {error}"))
        };
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(wrong)?;
        if let Some(roots) = self.roots.as_deref().filter(|roots| *roots != "system") {
            builder.set_ca_file(roots).map_err(wrong)?;
        }
        if !self.verifies() {
            builder.set_verify(SslVerifyMode::NONE);
        }
        let mut connector = MakeTlsConnector::new(builder.build());
        if self.mode != TlsMode::VerifyFull {
            connector.set_callback(|config, _| {
                config.set_verify_hostname(false);
                Ok(())
            });
        }
        Ok(connector)
    }

    const fn verifies(&self) -> bool {
        match self.mode {
            TlsMode::Disable | TlsMode::Prefer => false,
            TlsMode::Require => self.roots.is_some(),
            TlsMode::VerifyCa | TlsMode::VerifyFull => true,
        }
    }
}

fn mode(name: &str) -> Result<TlsMode, StoreError> {
    let found = TlsMode::ALL.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, mode)| mode).ok_or_else(|| {
        StoreError::Address(format!(
            "sslmode={name} is unknown: write disable, prefer, require, verify-ca or verify-full"
        ))
    })
}

/// A parameter's value without its percent signs (RFC 3986, section 2.1).
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (query, mode, roots, rest) in [
            ("", TlsMode::Prefer, None, ""),
            ("?sslmode=disable", TlsMode::Disable, None, ""),
            (
                "?a=b&sslmode=require&c=d",
                TlsMode::Require,
                None,
                "?a=b&c=d",
            ),
            (
                "?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-full",
                TlsMode::VerifyFull,
                Some("/etc/ca.pem"),
                "",
            ),
            ("?sslrootcert=a%zzb%", TlsMode::Prefer, Some("a%zzb%"), ""),
        ] {
            let address = ServerAddress::parse(&format!("postgresql://h/d{query}")).unwrap();
            assert_eq!(address.url, format!("postgresql://h/d{rest}"), "{query}");
            assert_eq!((address.mode, address.roots.as_deref()), (mode, roots));
        }
        assert!(ServerAddress::parse("postgresql://h/d?sslmode=yes").is_err());
        let missing = ServerAddress::parse("postgresql://h/d?sslrootcert=/none.pem").unwrap();
        assert!(missing.connector().is_err());
    }

    #[test]
    fn certificates_are_checked_where_that_is_asked_for() {
        for (query, verifies) in [
            ("", false),
            ("?sslmode=require", false),
            ("?sslmode=require&sslrootcert=x", true),
            ("?sslmode=verify-ca", true),
            ("?sslmode=verify-full", true),
        ] {
            let address = ServerAddress::parse(&format!("postgresql://h/d{query}")).unwrap();
            assert_eq!(address.verifies(), verifies, "{query}");
        }
    }
}
