//! The status page: HTML that refreshes itself by server-sent events, JSON, and Prometheus' text.

use std::fmt::Write as _;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::Pool;
use crate::exit::{Failure, Result};

const PAGE: &str = include_str!("page.html");

/// How many may look at the same time.
const VIEWERS: usize = 32;
const HEAD_MAX: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_secs(1);

/// Before the pool changes its user.
pub(crate) fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).map_err(|error| {
        Failure::system(format!(
            "cannot serve the status page on {address}: {error}"
        ))
    })?;
    Ok(Some(listener))
}

pub(crate) fn serve(pool: Rc<Pool>, listener: TcpListener) -> Result<impl Future<Output = ()>> {
    let failed = |error| Failure::system(format!("cannot serve the status page: {error}"));
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let viewers = std::sync::Arc::new(Semaphore::new(VIEWERS));
    Ok(async move {
        loop {
            let Ok(place) = std::sync::Arc::clone(&viewers).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let pool = Rc::clone(&pool);
                    spawn_local(async move {
                        // Whoever leaves early is no trouble of ours.
                        let _ = answer(&pool, stream).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    })
}

async fn answer(pool: &Pool, mut stream: TcpStream) -> std::io::Result<()> {
    let head = timeout(PATIENCE, head(&mut stream))
        .await
        .unwrap_or_default();
    let mut words = head.split_ascii_whitespace();
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    if method != Some("GET") {
        return respond(
            &mut stream,
            "405 Method Not Allowed",
            "text/plain",
            "only GET\n",
        )
        .await;
    }
    match path {
        "/" => respond(&mut stream, "200 OK", "text/html; charset=utf-8", PAGE).await,
        "/status.json" => {
            let body = pool.status().to_string() + "\n";
            respond(&mut stream, "200 OK", "application/json", &body).await
        }
        "/metrics" => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            respond(&mut stream, "200 OK", kind, &pool.metrics()).await
        }
        "/events" => events(pool, &mut stream).await,
        _ => respond(&mut stream, "404 Not Found", "text/plain", "not here\n").await,
    }
}

/// The head of a request; empty if it never comes.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while head.len() < HEAD_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return String::new(),
            Ok(length) => head.extend_from_slice(&part[..length]),
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn respond(
    stream: &mut TcpStream,
    status: &str,
    kind: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

async fn events(pool: &Pool, stream: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    loop {
        let event = format!("data: {}\n\n", pool.status());
        // A viewer that reads nothing is let go.
        match timeout(PATIENCE, stream.write_all(event.as_bytes())).await {
            Ok(Ok(())) => sleep(REFRESH).await,
            _ => return Ok(()),
        }
    }
}

impl Pool {
    pub(crate) fn status(&self) -> Value {
        let workers = self.slots.iter().map(|slot| {
            let times = slot.times.borrow();
            json!({
                "name": slot.name,
                "pid": slot.pid.get(),
                "path": slot.path.get(),
                "state": slot.state.get().as_str(),
                "handed": slot.handed.get(),
                "queued_bytes": slot.queued(),
                "returned": slot.returned.get(),
                "full": slot.full.get(),
                "median_us": times.quantile(0.5),
                "p99_us": times.quantile(0.99),
                "restarts": slot.restarts.get(),
                "reloads": slot.reloads.get(),
            })
        });
        json!({
            "pid": std::process::id(),
            "uptime_s": self.started.elapsed().as_secs(),
            "policy": self.config.policy.as_str(),
            "draining": *self.draining.borrow(),
            "listeners": self.listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>(),
            "accepted": self.accepted.get(),
            "waiting": self.waiting.borrow().len(),
            "lost": self.lost.get(),
            "unfinished": self.unfinished.get(),
            "workers": workers.collect::<Vec<_>>(),
        })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: Vec<(String, f64)>| {
            let _ = writeln!(
                text,
                "# HELP sendfd_pool_{name} {help}\n# TYPE sendfd_pool_{name} {kind}"
            );
            for (labels, value) in values {
                let _ = writeln!(text, "sendfd_pool_{name}{labels} {value}");
            }
        };
        let alone = |value: f64| vec![(String::new(), value)];
        metric(
            "accepted_total",
            "counter",
            "Connections accepted.",
            alone(self.accepted.get() as f64),
        );
        metric(
            "waiting",
            "gauge",
            "Connections that wait for a worker.",
            alone(self.waiting.borrow().len() as f64),
        );
        metric(
            "lost_total",
            "counter",
            "Connections that no worker could be given.",
            alone(self.lost.get() as f64),
        );
        metric(
            "unfinished_total",
            "counter",
            "Connections open in workers that were killed after their time to drain.",
            alone(self.unfinished.get() as f64),
        );
        let each = |value: &dyn Fn(&super::Slot) -> f64| {
            let labelled = |slot: &super::Slot| {
                let name = slot.name.replace('\\', "\\\\").replace('"', "\\\"");
                (format!("{{worker=\"{name}\"}}"), value(slot))
            };
            self.slots.iter().map(labelled).collect::<Vec<_>>()
        };
        metric(
            "handed_total",
            "counter",
            "Connections handed over.",
            each(&|slot| slot.handed.get() as f64),
        );
        metric(
            "returned_total",
            "counter",
            "Connections that the worker had not taken when it ended, and others got.",
            each(&|slot| slot.returned.get() as f64),
        );
        metric(
            "queued_bytes",
            "gauge",
            "Bytes in the worker's queue, by the kernel's count.",
            each(&|slot| slot.queued() as f64),
        );
        metric(
            "full_total",
            "counter",
            "Times that the worker was found full.",
            each(&|slot| slot.full.get() as f64),
        );
        metric(
            "restarts_total",
            "counter",
            "Times that the worker died and was started again.",
            each(&|slot| slot.restarts.get() as f64),
        );
        metric(
            "up",
            "gauge",
            "Whether the worker takes connections.",
            each(&|slot| if slot.is_ready() { 1.0 } else { 0.0 }),
        );
        let mut quantiles = Vec::new();
        for slot in &self.slots {
            for share in [0.5, 0.99] {
                let seconds = slot.times.borrow().quantile(share) / 1e6;
                quantiles.push((
                    format!("{{worker=\"{}\",quantile=\"{share}\"}}", slot.name),
                    seconds,
                ));
            }
        }
        metric(
            "handoff_seconds",
            "gauge",
            "How long a hand-off takes.",
            quantiles,
        );
        text
    }
}
