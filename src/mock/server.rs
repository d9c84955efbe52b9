//! HTTP plumbing: listener, connections, control routes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Incoming as HyperBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::dialect;
use super::error::ApiError;
use super::flow::{App, Incoming, Reply, error_reply, handle, json_reply};
use super::openai::OpenAi;

/// Largest request body.
const MAX_BODY: usize = 64 << 20;
const BACKLOG: u32 = 8192;

/// Binds with a long backlog.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop` becomes true.
pub async fn accept(listener: TcpListener, app: Arc<App>, stop: watch::Receiver<bool>) {
    let mut stopped = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stopped) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, app.clone(), stop.clone()));
            }
            // Out of file descriptors, most likely: others may close some.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Ready when told to stop; never, if nobody is left who could tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn connection(stream: TcpStream, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let app = app.clone();
        async move { answer(&app, request).await }
    });
    // HTTP/1.1, or HTTP/2 if the first bytes are its preface: AWS's JavaScript client speaks nothing else.
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        () = told(&mut stop) => {}
    }
}

async fn answer(app: &App, request: Request<HyperBody>) -> io::Result<Reply> {
    let (parts, body) = request.into_parts();
    if let Some(reply) = control(app, parts.method.as_str(), parts.uri.path()) {
        return Ok(reply);
    }
    let (dialect, path) = dialect::select(parts.uri.path());
    let path = path.to_owned();
    let Some(body) = read(body).await? else {
        let message = "The request body is larger than 64 MiB.";
        return Ok(error_reply(app, dialect, &ApiError::bad("", None, message).with_status(413)));
    };
    app.books.request(parts.method == hyper::Method::POST);
    let info = app.log.add(&parts, &body);
    handle(app, Incoming { parts, path, body, info, dialect }).await
}

/// The whole body, or `None` if it is too large.
async fn read(mut body: HyperBody) -> io::Result<Option<Bytes>> {
    let expected = body.size_hint().lower() as usize;
    if expected > MAX_BODY {
        return Ok(None);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
            continue;
        };
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(expected.max(first.len() + data.len()));
            all.extend_from_slice(&first);
        }
        if all.len() + data.len() > MAX_BODY {
            return Ok(None);
        }
        all.extend_from_slice(&data);
    }
    Ok(Some(if all.is_empty() { first } else { all.freeze() }))
}

fn control(app: &App, method: &str, path: &str) -> Option<Reply> {
    let value = match (method, path) {
        ("GET", "/invoice") => serde_json::to_value(app.books.snapshot()).unwrap_or_default(),
        ("GET", "/log") => app.log.to_json(),
        ("POST", "/reset") => {
            app.reset();
            serde_json::json!({ "ok": true })
        }
        _ => return None,
    };
    Some(json_reply(app, &OpenAi, 200, &value))
}
