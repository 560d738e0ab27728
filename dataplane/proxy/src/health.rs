//! Active health checks: one task an endpoint, on one worker; what it finds goes to all.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{Method, Request, Version};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use model::table::{HealthCheck, Probe};
use model::tcp::TcpSettings;

use crate::engine::Engine;
use crate::observe::HealthReport;
use crate::runtime::{Runtime, Spawner};
use crate::upstream::{Cluster, Endpoint};

/// Bytes of a probe's answer that are read; a health answer is a few.
const ANSWER_BYTES: usize = 64 << 10;

/// Reports kept until they are taken; more are changes of the same endpoints, and the newest counts.
const REPORTS: usize = 4096;

/// `SERVING` in grpc.health.v1's `HealthCheckResponse`.
const GRPC_SERVING: u64 = 1;

/// Starts the checks that the table wants and that do not run yet, where this worker runs them.
pub(crate) fn start_checks<R: Runtime>(engine: &Rc<Engine<R>>) {
    let wanted: Vec<(Rc<Cluster<R>>, Option<HealthCheck>)> = {
        let snapshot = engine.snapshot();
        let Some(snapshot) = snapshot.as_ref() else { return };
        let clusters = engine.clusters();
        let table = snapshot.table();
        table
            .clusters
            .iter()
            .map(|(name, from)| (Rc::clone(&clusters[name]), from.health_check.clone()))
            .collect()
    };
    for (cluster, check) in wanted {
        let changed = *cluster.health_check.borrow() != check;
        *cluster.health_check.borrow_mut() = check.clone();
        for endpoint in cluster.endpoints().iter() {
            if changed {
                endpoint.check_life.set(endpoint.check_life.get().wrapping_add(1));
                endpoint.checking.set(false);
            }
            match &check {
                None => endpoint.set_checked(None),
                Some(check) if engine.config.checks_health && !endpoint.checking.replace(true) => {
                    let life = endpoint.check_life.get();
                    let task = Task {
                        engine: Rc::downgrade(engine),
                        cluster: Rc::downgrade(&cluster),
                        endpoint: Rc::downgrade(endpoint),
                        check: check.clone(),
                        life,
                    };
                    engine.runtime.spawn(task.run(engine.runtime.clone(), endpoint.address));
                }
                Some(_) => {}
            }
        }
    }
}

pub(crate) fn apply<R: Runtime>(engine: &Engine<R>, report: &HealthReport) {
    let clusters = engine.clusters();
    let Some(cluster) = clusters.get(&report.cluster) else { return };
    if cluster.health_check.borrow().is_none() {
        return;
    }
    let endpoints = cluster.endpoints();
    if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.address == report.endpoint) {
        endpoint.set_checked(Some(report.healthy));
    }
}

/// One endpoint's check. It ends when the endpoint leaves the table or its check changes.
struct Task<R: Runtime> {
    engine: Weak<Engine<R>>,
    cluster: Weak<Cluster<R>>,
    endpoint: Weak<Endpoint<R>>,
    check: HealthCheck,
    life: u32,
}

impl<R: Runtime> Task<R> {
    async fn run(self, runtime: R, address: SocketAddr) {
        // Spread over the first interval, so that a table with many endpoints starts no storm.
        let spread = runtime.random() % (self.check.interval.as_millis().max(1) as u64);
        runtime.sleep(Duration::from_millis(spread)).await;
        let mut streak = Streak::default();
        loop {
            let result = within(&runtime, self.check.timeout, probe(&runtime, address, &self.check)).await;
            let (Some(engine), Some(cluster), Some(endpoint)) =
                (self.engine.upgrade(), self.cluster.upgrade(), self.endpoint.upgrade())
            else {
                return;
            };
            if endpoint.check_life.get() != self.life {
                return;
            }
            if let Some(healthy) = streak.turn(result.is_ok(), &self.check) {
                endpoint.set_checked(Some(healthy));
                let mut reports = engine.reports.borrow_mut();
                if reports.len() < REPORTS {
                    let reason = result.err();
                    reports.push(HealthReport {
                        cluster: cluster.name.clone(),
                        endpoint: address,
                        healthy,
                        reason,
                    });
                }
            }
            drop((engine, cluster, endpoint));
            runtime.sleep(self.check.interval).await;
        }
    }
}

/// Consecutive results of one kind.
#[derive(Debug, Default)]
struct Streak {
    state: Option<bool>,
    passed: u32,
    failed: u32,
}

impl Streak {
    /// The new state when this result turned it.
    fn turn(&mut self, passed: bool, check: &HealthCheck) -> Option<bool> {
        if passed {
            (self.passed, self.failed) = (self.passed.saturating_add(1), 0);
        } else {
            (self.passed, self.failed) = (0, self.failed.saturating_add(1));
        }
        let turned = match passed {
            // The first result of all decides upwards at once: a fresh endpoint need not wait out its threshold.
            true => self.passed >= check.healthy_threshold || self.state.is_none(),
            false => self.failed >= check.unhealthy_threshold,
        };
        if turned && self.state != Some(passed) {
            self.state = Some(passed);
            return Some(passed);
        }
        None
    }
}

async fn within<R: Runtime>(
    runtime: &R,
    limit: Duration,
    work: impl Future<Output = Result<(), &'static str>>,
) -> Result<(), &'static str> {
    let mut timer = runtime.sleep(limit);
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => Pin::new(&mut timer).poll(cx).map(|()| Err("no answer in time")),
    })
    .await
}

async fn probe<R: Runtime>(
    runtime: &R,
    address: SocketAddr,
    check: &HealthCheck,
) -> Result<(), &'static str> {
    if let Probe::UdpEcho { payload } = &check.probe {
        return runtime.echo(address, payload.clone().into_bytes()).await.map_err(|_| "no echo");
    }
    let io = runtime
        .connect(address, check.timeout, TcpSettings::default())
        .await
        .map_err(|_| "connect failed")?;
    match &check.probe {
        Probe::Tcp | Probe::UdpEcho { .. } => Ok(()),
        Probe::Http { path, host } => probe_http(io, &Authority::of(address, host.as_deref()), path).await,
        Probe::Grpc { service } => probe_grpc(runtime, io, &Authority::of(address, None), service).await,
    }
}

/// The host that a probe names.
struct Authority(String);

impl Authority {
    fn of(address: SocketAddr, named: Option<&str>) -> Self {
        Self(named.map_or_else(|| address.to_string(), str::to_owned))
    }
}

async fn probe_http<Io>(io: Io, authority: &Authority, path: &str) -> Result<(), &'static str>
where
    Io: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let handshake = http1::Builder::new().handshake::<_, ProbeBody>(io).await;
    let (mut sender, mut connection) = handshake.map_err(|_| "handshake failed")?;
    let request = Request::get(path)
        .header(header::HOST, &authority.0)
        .header(header::USER_AGENT, "ringway-health")
        .header(header::CONNECTION, "close")
        .body(ProbeBody(None))
        .map_err(|_| "the check's path or host is not valid")?;
    let mut response = pin!(sender.send_request(request));
    let mut ended = false;
    let response = poll_fn(|cx| {
        ended = ended || Pin::new(&mut connection).poll(cx).is_ready();
        response.as_mut().poll(cx)
    })
    .await
    .map_err(|_| "no answer")?;
    if response.status().is_success() { Ok(()) } else { Err("status is not 2xx") }
}

async fn probe_grpc<R: Runtime>(
    runtime: &R,
    io: R::Io,
    authority: &Authority,
    service: &str,
) -> Result<(), &'static str> {
    let handshake = http2::Builder::new(Spawner(runtime.clone())).handshake::<_, ProbeBody>(io).await;
    let (mut sender, connection) = handshake.map_err(|_| "handshake failed")?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(async move {
        let uri = format!("http://{}/grpc.health.v1.Health/Check", authority.0);
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"))
            .body(ProbeBody(Some(check_request(service))))
            .map_err(|_| "the check's service is not valid")?;
        let response = sender.send_request(request).await.map_err(|_| "no answer")?;
        if response.status() != 200 {
            return Err("status is not 200");
        }
        let answer = read(response.into_body()).await?;
        if serving(&answer) { Ok(()) } else { Err("not serving") }
    });
    let mut ended = false;
    poll_fn(|cx| {
        ended = ended || connection.as_mut().poll(cx).is_ready();
        exchange.as_mut().poll(cx)
    })
    .await
}

/// A probe's body: nothing, or one message.
struct ProbeBody(Option<Bytes>);

impl Body for ProbeBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// A `HealthCheckRequest { service = 1 }`, framed as gRPC does: no compression, length, message.
fn check_request(service: &str) -> Bytes {
    const SERVICE: u8 = 1 << 3 | 2;
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put(message);
    framed.freeze()
}

/// Whether a framed `HealthCheckResponse { status = 1 }` says `SERVING`.
fn serving(mut answer: &[u8]) -> bool {
    const STATUS: u8 = 1 << 3;
    if answer.len() < 5 || answer.get_u8() != 0 {
        return false;
    }
    let length = answer.get_u32() as usize;
    match answer.get(..length) {
        Some([STATUS, status, ..]) => u64::from(*status) == GRPC_SERVING,
        _ => false,
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, &'static str> {
    let mut answer = Vec::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => return Ok(answer),
            Some(Err(_)) => return Err("answer cut"),
            Some(Ok(frame)) => {
                answer.extend_from_slice(frame.data_ref().map_or(&[], |chunk| chunk));
                if answer.len() > ANSWER_BYTES {
                    return Err("answer too long");
                }
            }
        }
    }
}
