//! Ports: free, or taken by the very gateway that this config is for.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use super::report::Report;
use crate::cli::net;
use crate::config::{BaseUrl, Settings};

/// The longest wait for an answer of whoever listens already.
const ANSWER_MOST: Duration = Duration::from_secs(2);

/// Looks at both listeners. True when a Loopers gateway answers on them.
pub async fn examine(report: &mut Report, settings: &Settings) -> bool {
    let data = (settings.listen, "listen", settings.tls.is_some());
    let admin = (settings.admin.listen, "admin.listen", false);
    let mut running = false;
    let mut free = Vec::new();
    for (address, field, tls) in [admin, data] {
        match TcpListener::bind(address) {
            Ok(_) => free.push(address.to_string()),
            // Behind TLS nobody can be asked; the admin listener has answered for it.
            Err(error) if error.kind() == ErrorKind::AddrInUse && (tls && running || is_gateway(address).await) => {
                running = true;
            }
            Err(error) => taken(report, field, address, &error),
        }
    }
    if running {
        report.ok("running", format!("a gateway answers on {}", settings.listen));
    } else if free.len() == 2 {
        report.ok("ports", format!("ports are free: {}", free.join(", ")));
    }
    running
}

fn taken(report: &mut Report, field: &str, address: SocketAddr, error: &std::io::Error) {
    let other =
        SocketAddr::new(address.ip(), if address.port() < 1024 { 8080 } else { address.port().wrapping_add(10) });
    let fix = match field {
        "listen" => format!("listen: {other}    (or stop what listens there: ss -ltnp 'sport = :{}')", address.port()),
        _ => format!(
            "admin: {{ listen: {other} }}    (or stop what listens there: ss -ltnp 'sport = :{}')",
            address.port()
        ),
    };
    match error.kind() {
        ErrorKind::AddrInUse => report.error("port_taken", field, format!("another program listens on {address}"), fix),
        ErrorKind::PermissionDenied => {
            report.error("port_forbidden", field, format!("this user may not listen on {address}"), fix);
        }
        ErrorKind::AddrNotAvailable => {
            let message = format!("this machine has no address {}", address.ip());
            report.error("address_not_here", field, message, format!("{field}: 0.0.0.0:{}", address.port()));
        }
        _ => report.error("port_unusable", field, format!("cannot listen on {address}: {error}"), fix),
    }
}

/// True when a gateway, or its admin listener, says that it is alive.
async fn is_gateway(address: SocketAddr) -> bool {
    let url = local_url(address, false);
    let Ok(wire) = net::connect(&url, None, ANSWER_MOST).await else { return false };
    let Ok(answer) = wire.get(&url, "/healthz", &[], ANSWER_MOST).await else { return false };
    answer.status == 200 && (answer.body.contains("\"alive\"") || answer.body == "ok\n")
}

/// Where a listener is reached from this machine.
pub fn local_url(address: SocketAddr, tls: bool) -> BaseUrl {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    BaseUrl { tls, host: host.to_string(), port: address.port(), path: String::new() }
}
