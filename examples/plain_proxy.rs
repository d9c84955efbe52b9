//! A plain Pingora proxy: the floor that `make bench` measures Loopers against.
//!
//! The same crates, allocator, thread count, listener and connection options as the gateway (`src/gateway/`), and nothing
//! else: no key, no ledger, no body read, no metering. It forwards every request as it is to one upstream.
//!
//! ```text
//! cargo run --release --example plain_proxy -- 127.0.0.1:8081 127.0.0.1:9999 [THREADS]
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use pingora::Result;
use pingora::apps::HttpServerOptions;
use pingora::protocols::ALPN;
use pingora::proxy::{ProxyHttp, ProxyServiceBuilder, Session};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::upstreams::peer::HttpPeer;

#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Plain {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        peer.options.alpn = ALPN::H1;
        peer.options.connection_timeout = Some(Duration::from_secs(3));
        peer.options.total_connection_timeout = Some(Duration::from_secs(6));
        peer.options.read_timeout = Some(Duration::from_secs(300));
        peer.options.write_timeout = Some(Duration::from_secs(30));
        peer.options.idle_timeout = Some(Duration::from_secs(30));
        Ok(Box::new(peer))
    }
}

fn main() -> anyhow::Result<()> {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: plain_proxy LISTEN UPSTREAM [THREADS]");
    };
    let threads = match rest.first() {
        Some(number) => number.parse()?,
        None => std::thread::available_parallelism()?.get(),
    };
    let conf = ServerConf { threads, max_retries: 1, upstream_keepalive_pool_size: 512, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(Duration::from_secs(60));
    let plain = Plain { upstream: upstream.parse()? };
    let mut proxy =
        ProxyServiceBuilder::new(&server.configuration, plain).name("plain").server_options(options).build();
    proxy.add_tcp(listen);
    server.add_service(proxy);
    server.run(RunArgs::default());
    Ok(())
}
