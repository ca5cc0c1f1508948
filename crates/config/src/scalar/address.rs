//! Addresses: of sockets, providers' APIs, paths below them, and origins of web pages.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use llm_router_domain::network::IpNet;
use llm_router_yaml::ValueError;
use url::{Host, Url};

use super::TextSetting;

/// The base URL of an API, split into the parts that a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// HTTP or HTTPS.
    pub scheme: Scheme,
    /// A name in lower case, or an IP address; IPv6 without brackets.
    pub host: String,
    /// The port; that of the scheme if the URL has none.
    pub port: u16,
    /// Empty, or begins with a slash and does not end with one.
    pub path: String,
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// The path of a request, below a base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlPath(pub(crate) String);

/// The origin of a web page (scheme, host and port), or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebOrigin(pub(crate) String);

impl BaseUrl {
    /// Returns the value of a `Host` header: without the port if that is the scheme's own.
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

    /// Returns true if requests stay on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let address: Option<IpAddr> = self.host.parse().ok();
        self.host == "localhost" || address.is_some_and(|address| address.is_loopback())
    }
}

/// Returns true for link-local addresses (RFC 3927, RFC 4291 section 2.5.6) and for clouds' metadata
/// services at other addresses. Both hand out secrets of the machine. An IPv4 address that an IPv6
/// one stands for counts as well: mapped (RFC 4291, section 2.5.5.2), translated (RFC 6052, section
/// 2.1), or tunnelled (RFC 3056, section 2).
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    /// Addresses of AWS and Google Cloud.
    const METADATA_V6: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    /// Addresses of Alibaba Cloud, Azure (its platform services) and Oracle Cloud.
    const METADATA_V4: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    match address {
        IpAddr::V4(address) => address.is_link_local() || METADATA_V4.contains(&address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_link_local(embedded.into()),
            None => address.is_unicast_link_local() || METADATA_V6.contains(&address),
        },
    }
}

/// Returns the IPv4 address that an IPv6 address stands for.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x64, 0xff9b, 1, ..] => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address.to_ipv4(),
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
    /// The name in a URL.
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

    fn parse(text: &str) -> Result<Self, ValueError> {
        let url = Url::parse(text).map_err(|_| not_a_url())?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(not_a_url()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ValueError::new(
                "contains a user name or password",
                "use api_key or headers instead",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ValueError::new(
                "contains a `?` or `#`",
                "remove it and everything after it",
            ));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(not_a_url()),
        };
        let port = url.port().unwrap_or(scheme.default_port());
        let path = url.path().trim_end_matches('/').to_owned();
        if host.is_empty() || port == 0 {
            return Err(not_a_url());
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

    fn parse(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|_| {
            ValueError::new(
                "is not a listen address",
                "write an IP address and a port: 0.0.0.0:8000, 127.0.0.1:8000 or [::]:8000",
            )
        })
    }
}

impl TextSetting for IpNet {
    const FORMAT: &'static str = "network";
    const EXAMPLES: &'static [&'static str] = &["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let network = text.parse().ok();
        let address = || text.parse::<IpAddr>().ok().map(Self::from);
        network.or_else(address).ok_or_else(|| {
            ValueError::new(
                "is not a network",
                "write an address, or one with the length of its prefix, for example 10.0.0.0/8",
            )
        })
    }
}

impl TextSetting for UrlPath {
    const FORMAT: &'static str = "url-path";
    const EXAMPLES: &'static [&'static str] = &["/models", "/health"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if text.starts_with('/') && plain {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new(
            "is not a URL path",
            "begin it with `/`, relative to base_url, for example /models",
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

    fn parse(text: &str) -> Result<Self, ValueError> {
        let is_origin = || {
            let url = BaseUrl::parse(text).ok()?;
            let slashes = text.matches('/').count();
            (url.path.is_empty() && slashes == 2).then_some(())
        };
        if text == "*" || is_origin().is_some() {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(ValueError::new(
            "is not an origin",
            "write scheme and host without a path, for example https://dashboard.example.com",
        ))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn not_a_url() -> ValueError {
    ValueError::new(
        "is not an http or https URL",
        "write it in full, for example https://api.example.com/v1",
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
                ("https://u:p@a.b", "user name or password"),
                ("https://a.b/v1?x=1", "`?`"),
                ("https://a.b/v1#x", "`#`"),
            ],
        );
        for text in ["http://[::1]:9000/a", "https://a.b/v1", "https://a.b:80"] {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn link_local_addresses_are_detected_in_every_form() {
        for (address, expected) in [
            ("169.254.169.254", true),
            ("169.254.0.1", true),
            ("100.100.100.200", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("::ffff:169.254.169.254", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("fd00::1", false),
            ("168.63.129.16", true),
            ("192.0.0.192", true),
            ("fd20:ce::254", true),
            ("::ffff:168.63.129.16", true),
            ("64:ff9b::169.254.169.254", true),
            ("64:ff9b:1::169.254.169.254", true),
            ("64:ff9b::8.8.8.8", false),
            ("2002:a9fe:a9fe::1", true),
            ("2002:0808:0808::1", false),
            ("fd20:ce::253", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(
                is_link_local(address.parse().unwrap()),
                expected,
                "{address}"
            );
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
