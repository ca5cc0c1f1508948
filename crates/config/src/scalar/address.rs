//! Where to listen and where providers are.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::TextSetting;
use crate::findings::Wrong;

/// The address of a provider's API, in the parts that a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// With or without TLS.
    pub scheme: Scheme,
    /// A name in lower case, or an IP address; an IPv6 one without brackets.
    pub host: String,
    /// Filled in by the scheme if the URL has none.
    pub port: u16,
    /// Empty, or with a slash before it and none after it.
    pub path: String,
}

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// With TLS.
    Https,
}

/// The path of a request, below a base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlPath(pub(crate) String);

/// Where a page of a browser comes from: scheme, host and port, or `*` for anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebOrigin(pub(crate) String);

impl BaseUrl {
    /// The value of a `Host` header: without the port if that is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let v6 = self.host.contains(':');
        let host = if v6 {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.default_port() {
            return host;
        }
        format!("{host}:{}", self.port)
    }

    /// Whether requests stay on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let address: Option<IpAddr> = self.host.parse().ok();
        self.host == "localhost" || address.is_some_and(|address| address.is_loopback())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.name(),
            self.authority(),
            self.path
        )
    }
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl TextSetting for BaseUrl {
    const FORMAT: &'static str = "http-url";
    const EXAMPLES: &'static [&'static str] = &["https://api.openai.com/v1"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let url = Url::parse(text).map_err(|_| no_url())?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(no_url()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Wrong::new(
                "has a user or password in it",
                "use api_key or headers",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Wrong::new(
                "has a `?` or `#` in it",
                "end the URL before it",
            ));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(no_url()),
        };
        let port = url.port().unwrap_or(scheme.default_port());
        let path = url.path().trim_end_matches('/').to_owned();
        if host.is_empty() || port == 0 {
            return Err(no_url());
        }
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }
}

impl TextSetting for SocketAddr {
    const FORMAT: &'static str = "socket-address";
    const EXAMPLES: &'static [&'static str] = &["0.0.0.0:8000", "127.0.0.1:8001", "[::]:8000"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| {
            Wrong::new(
                "is not an address to listen on",
                "write an IP address and a port: 0.0.0.0:8000, 127.0.0.1:8000 or [::]:8000",
            )
        })
    }
}

impl TextSetting for UrlPath {
    const FORMAT: &'static str = "url-path";
    const EXAMPLES: &'static [&'static str] = &["/models", "/health"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if text.starts_with('/') && plain {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(
            "is not a path",
            "begin it with `/`, below the base_url: /models",
        ))
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TextSetting for WebOrigin {
    const FORMAT: &'static str = "web-origin";
    const EXAMPLES: &'static [&'static str] = &["https://dashboard.example.com", "*"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let is_origin = || {
            let url = BaseUrl::parse(text).ok()?;
            let slashes = text.matches('/').count();
            (url.path.is_empty() && slashes == 2).then_some(())
        };
        if text == "*" || is_origin().is_some() {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Wrong::new(
            "is not an origin",
            "write scheme and host without a path: https://dashboard.example.com",
        ))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn no_url() -> Wrong {
    Wrong::new(
        "is not an http or https URL",
        "write it out: https://api.example.com/v1",
    )
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn base_urls() {
        assert_texts::<BaseUrl>(
            &[
                ("https://api.openai.com/v1", |url| {
                    url.port == 443 && url.path == "/v1"
                }),
                ("https://api.openai.com/v1/", |url| url.path == "/v1"),
                ("HTTP://Example.COM", |url| {
                    url.host == "example.com" && url.path.is_empty()
                }),
                ("http://[::1]:9000/a", |url| {
                    url.host == "::1" && url.is_loopback()
                }),
                ("http://127.0.0.2:1", |url| url.is_loopback()),
                ("https://localhost", |url| url.is_loopback()),
                ("https://10.0.0.1", |url| !url.is_loopback()),
            ],
            &[
                ("", "http or https URL"),
                ("api.openai.com/v1", "http or https URL"),
                ("ftp://a.b", "http or https URL"),
                ("https://", "http or https URL"),
                ("https://a b.c", "http or https URL"),
                ("https://a.b:99999", "http or https URL"),
                ("https://u:p@a.b", "user or password"),
                ("https://a.b/v1?x=1", "`?`"),
                ("https://a.b/v1#x", "`#`"),
            ],
        );
        for text in ["http://[::1]:9000/a", "https://a.b/v1", "https://a.b:80"] {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn addresses_and_paths() {
        assert_texts::<SocketAddr>(
            &[
                ("0.0.0.0:8000", |a| a.port() == 8000),
                ("[::]:0", |a| a.is_ipv6()),
            ],
            &[
                ("8000", "0.0.0.0:8000"),
                ("localhost:8000", "IP"),
                (":8000", "IP"),
                ("1.2.3.4", "IP"),
            ],
        );
        assert_texts::<WebOrigin>(
            &[
                ("*", |_| true),
                ("https://Ours.test", |origin| {
                    origin.0 == "https://ours.test"
                }),
                ("http://localhost:3000", |_| true),
            ],
            &[
                ("ours.test", "origin"),
                ("https://ours.test/", "origin"),
                ("https://ours.test/x", "origin"),
            ],
        );
        assert_texts::<UrlPath>(
            &[("/models", |_| true), ("/health?deep=1", |_| true)],
            &[
                ("models", "begin"),
                ("", "begin"),
                ("/a b", "path"),
                ("/a#b", "path"),
            ],
        );
    }
}
