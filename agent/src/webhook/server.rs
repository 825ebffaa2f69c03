//! The port: HTTPS for the API server, and no more of it than it may take.
//!
//! A connection has a place from its first byte, a handshake and a review have a deadline, and a body has a limit. When
//! the process is told to stop, Services still lead here for a moment: connections are taken for as long, and what was
//! begun is finished. A webhook that went at once would have the API server refuse the pods of a rollout.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bursar_core::tasks::Tasks;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::Settings;
use super::review::{Answer, answer};
use crate::config::ReviewLimits;
use crate::telemetry::webhook::Metrics;

/// Answers reviews.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    /// What is served now; nothing until there is a certificate.
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    metrics: Metrics,
    reviews: Semaphore,
    /// Set once connections are to end after what they have begun.
    ending: watch::Sender<bool>,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// That of the system call.
    pub async fn bind(
        address: SocketAddr,
        settings: Settings,
        limits: ReviewLimits,
        tls: watch::Receiver<Option<Arc<ServerConfig>>>,
        metrics: Metrics,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let reviews = Semaphore::new(limits.reviews);
        let shared = Shared { settings, metrics, reviews, ending: watch::Sender::new(false) };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
            places: Arc::new(Semaphore::new(limits.connections)),
            tls,
        })
    }

    /// Serves until the process stops, and [`LINGER`] longer.
    pub async fn serve(self, tasks: Tasks) {
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => self.receive(stream, &tasks),
                    Err(error) => {
                        // Out of file descriptors, most likely: go on once some connection has ended.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        let lingered = async {
            tasks.stopping().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = accept => {}
            () = lingered => {}
        }
        self.shared.ending.send_replace(true);
    }

    fn receive(&self, stream: TcpStream, tasks: &Tasks) {
        let metrics = &self.shared.metrics;
        let Some(tls) = self.tls.borrow().clone() else { return metrics.connection("no_certificate") };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return metrics.connection("full");
        };
        drop(tasks.finish(converse(stream, TlsAcceptor::from(tls), Arc::clone(&self.shared), place)));
    }
}

/// Answers the requests of one connection, one after the other.
async fn converse(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
) {
    // Without it, an answer may wait for the other side's delayed acknowledgement.
    let stream = match stream.set_nodelay(true) {
        Ok(()) => timeout(HANDSHAKE, acceptor.accept(stream)).await,
        Err(_) => return,
    };
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%error, "a TLS handshake failed");
            return shared.metrics.connection("handshake");
        }
        Err(_) => return shared.metrics.connection("handshake"),
    };
    shared.metrics.connection("served");
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.respond(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEADERS).max_headers(64);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut ending = shared.ending.subscribe();
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        // Also where the certificate is to be another one day.
        () = tokio::time::sleep(LIFE) => None,
        _ = ending.wait_for(|ending| *ending) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(DEADLINE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        // A client that went away, or was too slow. What it sent is not in the error.
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}

impl Shared {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        if request.uri().path() != PATH {
            return refuse(StatusCode::NOT_FOUND, "there is nothing but `/mutate` here");
        }
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "reviews are sent by `POST`");
        }
        let answered = timeout(DEADLINE, self.review(request)).await.unwrap_or(Err(Unanswered::Late));
        match answered {
            Ok(Answer { body, outcome, shape }) => {
                self.metrics.review(outcome, shape, began.elapsed());
                respond(StatusCode::OK, Body::from(body), JSON)
            }
            Err(why) => {
                self.metrics.review(why.outcome(), "none", began.elapsed());
                tracing::warn!(why = %why, "a review could not be answered");
                refuse(why.status(), &why.to_string())
            }
        }
    }

    async fn review(&self, request: Request<Incoming>) -> Result<Answer, Unanswered> {
        let turn = timeout(PATIENCE, self.reviews.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Unanswered::Busy) };
        let body = gather(request.into_body()).await?;
        let answer = answer(&body, &self.settings)?;
        if answer.outcome != "untouched" {
            tracing::info!(outcome = answer.outcome, shape = answer.shape, "a review was answered");
        }
        Ok(answer)
    }
}

/// The whole body. What is too long is read on and thrown away, up to a limit: one who is still sending when the connection
/// ends hears of that and not of the answer.
async fn gather(mut body: Incoming) -> Result<Vec<u8>, Unanswered> {
    let (mut gathered, mut seen) = (Vec::new(), 0_usize);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(piece) = frame.map_err(|_| Unanswered::BrokenOff)?.into_data() else { continue };
        seen = seen.saturating_add(piece.len());
        if seen <= LONGEST {
            gathered.extend_from_slice(&piece);
        } else if seen > THROWN_AWAY {
            break;
        }
    }
    if seen > LONGEST { Err(Unanswered::TooLong) } else { Ok(gathered) }
}

/// Why a review has no answer of its own.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Bad(#[from] super::review::BadReview),
    #[error("the body is longer than 3 MiB, which no pod is")]
    TooLong,
    #[error("the body broke off")]
    BrokenOff,
    #[error("too many reviews are under way; try again")]
    Busy,
    #[error("the review did not arrive, or was not answered, within 5 s")]
    Late,
}

impl Unanswered {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Bad(_) | Self::BrokenOff => "bad",
            Self::TooLong => "too_long",
            Self::Busy => "busy",
            Self::Late => "late",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Bad(bad) => bad.status(),
            Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    respond(status, Body::from(format!("bursar: {message}\n")), "text/plain; charset=utf-8")
}

fn respond(status: StatusCode, body: Body, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}

const PATH: &str = "/mutate";
const JSON: &str = "application/json";
/// In bytes. etcd takes objects of 1.5 MiB; a review has the object and what it is about.
const LONGEST: usize = 3 * 1024 * 1024;
const THROWN_AWAY: usize = 16 * 1024 * 1024;
const MAX_HEADERS: usize = 32 * 1024;
/// For a review, from its first byte to its answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// For a place among the reviews under way.
const PATIENCE: Duration = Duration::from_secs(1);
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For the next request. The API server keeps connections open between pods.
const IDLE: Duration = Duration::from_secs(120);
/// Then a connection takes no further request.
const LIFE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(100);
/// Until every node knows that a Service leads here no more.
pub(super) const LINGER: Duration = Duration::from_secs(5);
