//! Network endpoints of providers: resolves their addresses in the background and makes peers of
//! them. It does not decide which provider is tried.

pub(crate) mod health_check;
pub(crate) mod live;
pub(crate) mod otlp;
pub(crate) mod probe;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use llm_router_config::{Http2, Timeouts, is_link_local};
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::selection::RoundRobin;
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::protocols::ALPN;
use pingora::protocols::l4::ext::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::tls::x509::X509;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::snapshot::Origin;

/// Interval at which names are resolved again. Answers are kept while resolving fails.
pub(crate) const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// Timeout of resolving a name, after which the last answer is kept.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which a provider that refused the usage option isn't asked again: its server may have
/// been updated then.
const USAGE_OPTION_REST: Duration = Duration::from_secs(3_600);

/// A provider's endpoint on the network.
pub(crate) struct Upstream {
    origin: Origin,
    addresses: LoadBalancer<RoundRobin>,
    ca: Option<Arc<CaType>>,
    /// Keeps connections apart that differ in what they trust or speak.
    pool_key: u64,
    /// Until then it is not asked for usage chunks, because it has refused that. Held for a look.
    no_usage_option: Mutex<Option<Instant>>,
}

impl Upstream {
    /// An upstream whose addresses are not known yet.
    ///
    /// # Errors
    /// When the extra CA file can't be read or holds no certificate.
    pub(crate) fn new(origin: &Origin) -> io::Result<Self> {
        let discovery = Resolver {
            host: origin.host.clone(),
            port: origin.port,
            allow_link_local: origin.allow_link_local,
        };
        Ok(Self {
            pool_key: pool_key(origin),
            addresses: LoadBalancer::from_backends(Backends::new(Box::new(discovery))),
            ca: origin.ca_file.as_deref().map(read_ca).transpose()?,
            no_usage_option: Mutex::default(),
            origin: origin.clone(),
        })
    }

    /// Resolves the name now; on failure the last good answer stays.
    pub(crate) async fn resolve(&self) {
        let update = tokio::time::timeout(RESOLVE_TIMEOUT, self.addresses.update());
        let problem = match update.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let host = &self.origin.host;
        tracing::warn!(%host, problem, "DNS resolution failed; keeping the known addresses");
    }

    /// Returns whether the origin's CA file is unchanged.
    pub(crate) fn is_current(&self) -> bool {
        self.origin.ca_file.is_none() || self.pool_key == pool_key(&self.origin)
    }

    /// The addresses that the host is known to have.
    pub(crate) fn addresses(&self) -> Vec<Backend> {
        self.addresses
            .backends()
            .get_backend()
            .iter()
            .cloned()
            .collect()
    }

    /// Returns the number of the host's known addresses.
    pub(crate) fn address_count(&self) -> usize {
        self.addresses.backends().get_backend().len()
    }

    /// Returns whether any address is known.
    pub(crate) fn is_resolved(&self) -> bool {
        self.address_count() > 0
    }

    /// Returns whether it is known to refuse requests that ask for a usage chunk.
    pub(crate) fn refuses_usage_option(&self, now: Instant) -> bool {
        self.usage_option().is_some_and(|until| now < until)
    }

    /// Notes that it has refused a request because of what asks for a usage chunk.
    pub(crate) fn note_usage_option_refused(&self, now: Instant) {
        *self.usage_option() = now.checked_add(USAGE_OPTION_REST);
    }

    fn usage_option(&self) -> MutexGuard<'_, Option<Instant>> {
        let lock = self.no_usage_option.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer at the next address.
    ///
    /// # Errors
    /// When no address is known yet.
    pub(crate) async fn peer(&self, timeouts: &Timeouts) -> Result<Box<HttpPeer>> {
        if !self.is_resolved() {
            self.resolve().await;
        }
        let Some(backend) = self.addresses.select(b"", ADDRESS_TRIES) else {
            let context = format!("no address is known for {}", self.origin.host);
            return Error::e_explain(ErrorType::ConnectNoRoute, context).map_err(Error::into_up);
        };
        let sni = if self.origin.tls {
            self.origin.host.clone()
        } else {
            String::new()
        };
        let mut peer = Box::new(HttpPeer::new(backend, self.origin.tls, sni));
        peer.group_key = self.pool_key;
        self.set_options(&mut peer, timeouts);
        Ok(peer)
    }

    fn set_options(&self, peer: &mut HttpPeer, timeouts: &Timeouts) {
        let options = &mut peer.options;
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        options.write_timeout = Some(timeouts.first_byte);
        options.idle_timeout = Some(IDLE_CONNECTION);
        options.tcp_keepalive = Some(KEEPALIVE);
        options.ca.clone_from(&self.ca);
        options.alpn = match self.origin.http2 {
            Http2::Never => ALPN::H1,
            Http2::Auto => ALPN::H2H1,
            Http2::Always => ALPN::H2,
        };
        options.max_h2_streams = H2_STREAMS;
    }
}

/// Pingora's pool tells peers apart by address and name, not by the certificates they trust.
fn pool_key(origin: &Origin) -> u64 {
    let mut hasher = DefaultHasher::new();
    origin.hash(&mut hasher);
    let ca = origin
        .ca_file
        .as_deref()
        .and_then(|path| std::fs::read(path).ok());
    ca.hash(&mut hasher);
    hasher.finish()
}

const ADDRESS_TRIES: usize = 16;

/// Most requests that share one HTTP/2 connection.
const H2_STREAMS: usize = 100;

/// Idle time after which a pooled connection is closed; below the minute after which common servers close.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// Finds dead connections under streams that stay silent for long.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 3,
    user_timeout: Duration::ZERO,
};

fn read_ca(path: &std::path::Path) -> io::Result<Arc<CaType>> {
    let pem = std::fs::read(path)?;
    let certificates = X509::stack_from_pem(&pem).map_err(io::Error::other)?;
    if certificates.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no certificate in the file",
        ));
    }
    Ok(Arc::from(certificates.into_boxed_slice()))
}

/// Resolves one name with the system's resolver.
struct Resolver {
    host: String,
    port: u16,
    allow_link_local: bool,
}

#[async_trait]
impl ServiceDiscovery for Resolver {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut addresses = match self.host.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, self.port).into()],
            Err(_) => self.look_up().await?,
        };
        // A name may come to mean another address at any time.
        addresses.retain(|address| self.allow_link_local || !is_link_local(address.ip()));
        if addresses.is_empty() {
            let problem = format!(
                "{} has link-local addresses only, which are refused",
                self.host
            );
            return Err(Error::explain(ErrorType::ConnectNoRoute, problem));
        }
        let backends = addresses.into_iter().map(|address| Backend {
            addr: pingora::protocols::l4::socket::SocketAddr::Inet(address),
            weight: 1,
            ext: Default::default(),
        });
        Ok((backends.collect(), HashMap::new()))
    }
}

impl Resolver {
    async fn look_up(&self) -> Result<Vec<std::net::SocketAddr>> {
        let query = (self.host.clone(), self.port);
        let found = tokio::task::spawn_blocking(move || query.to_socket_addrs()).await;
        let explain = |error: String| Error::explain(ErrorType::ConnectNoRoute, error);
        let addresses: Vec<_> = found
            .map_err(|error| explain(error.to_string()))?
            .map_err(|error| explain(error.to_string()))?
            .collect();
        if addresses.is_empty() {
            return Err(explain(format!("{} has no address", self.host)));
        }
        Ok(addresses)
    }
}
