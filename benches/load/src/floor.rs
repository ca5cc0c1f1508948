//! The floor: a plain Pingora pass-through that only names its upstream, the least a Pingora
//! proxy can cost. It must not learn anything that the router does.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use async_trait::async_trait;
use clap::Args;
use pingora::Result;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

/// Options of `floor`.
#[derive(Args, Debug)]
pub(crate) struct FloorOptions {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    /// Address of the upstream
    #[arg(long, default_value = "127.0.0.1:9000")]
    upstream: SocketAddr,
    /// Worker threads; by default as many as there are CPUs to run on
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

/// Serves until a signal ends the process.
pub(crate) fn run(options: &FloorOptions) -> ! {
    let mut server = Server::new_with_opt_and_conf(None, configuration(options.threads));
    server.bootstrap();
    let mut service = http_proxy_service(
        &server.configuration,
        Floor {
            upstream: options.upstream,
        },
    );
    service.add_tcp(&options.listen.to_string());
    server.add_service(service);
    server.run_forever()
}

fn configuration(threads: Option<NonZeroUsize>) -> ServerConf {
    let threads = threads
        .or_else(|| available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    ServerConf {
        threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

struct Floor {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}
