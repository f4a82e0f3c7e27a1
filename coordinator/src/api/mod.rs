//! The HTTP API: the only door for people and programs. `docs/api.md` says what it must be.
//!
//! A request that only the leader can answer is passed on to it, one hop. Reads look at the core on its own
//! thread, and are short; whatever reads the ledger does so on a blocking thread, without the core.

mod answer;
mod caller;
mod complaint;
mod events;
mod forward;
mod history;
mod jobs;
mod listener;
mod logs;
mod replay;
mod status;
mod tails;
mod workers;

pub use tails::Tails;

use crate::bus::Bus;
use crate::process::{Inlet, Refused, Standing};
use crate::store::LedgerReader;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use complaint::Complaint;
use muster_protocol::ids::LogIndex;
use muster_replica::MemberConfig;
use muster_replica::{Core, Role};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::Instrument;

/// Streams of server-sent events at once.
const STREAMS_MAX: usize = 512;
/// Blocking reads of the ledger at once; others wait for their turn.
const LEDGER_READS_MAX: usize = 4;
/// Replays at once: each takes a core, and memory for a state.
const REPLAYS_MAX: usize = 2;
/// A look at the core takes microseconds; a replica that takes so long hangs on its disk.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// A member that leads answers sooner, or does not lead.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What the API serves from.
pub struct Api {
    /// The cluster's name.
    pub cluster: String,
    /// This coordinator.
    pub me: MemberConfig,
    /// All coordinators.
    pub members: Vec<MemberConfig>,
    /// To the replica.
    pub inlet: Inlet,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// How far the ledger goes.
    pub applied: watch::Receiver<LogIndex>,
    /// The ledger.
    pub ledger: LedgerReader,
    /// The bus.
    pub bus: Bus,
    /// Who reads which output.
    pub tails: Tails,
    /// Messages to other coordinators: sent, dropped.
    pub peer_counters: (Arc<AtomicU64>, Arc<AtomicU64>),
    /// Set when this coordinator ends.
    pub ending: watch::Receiver<bool>,
}

/// The API with what it counts and bounds.
struct Shared {
    api: Api,
    client: reqwest::Client,
    streams: Arc<Semaphore>,
    ledger_reads: Arc<Semaphore>,
    replays: Arc<Semaphore>,
}

impl Shared {
    /// A look at the core.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, Complaint> {
        let found = timeout(LOOK_TIMEOUT, self.api.inlet.read(look)).await;
        found
            .map_err(|_| Complaint::overloaded("the replica does not answer; its disk may be slow"))?
            .map_err(Complaint::from)
    }

    /// A look at the leader's core. A new leader has not yet applied all that was acknowledged before it: it
    /// must not say what there is.
    async fn look_as_leader<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, Complaint> {
        let found = self.look(move |core| core.is_serving().then(|| look(core)));
        found.await?.ok_or_else(|| Complaint::no_leader("the leader is only just taking over; ask again"))
    }

    /// Whether this coordinator leads, as far as it knows.
    fn leads(&self) -> bool {
        self.api.standing.borrow().role == Role::Leader
    }
}

impl From<Refused> for Complaint {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Complaint::overloaded("too much is waiting; ask again later"),
            Refused::Ended => Complaint::no_leader("this coordinator is ending"),
        }
    }
}

type Door = State<Arc<Shared>>;

/// Serves until this coordinator ends, and then until what is under way is done.
pub async fn serve(listener: TcpListener, api: Api) -> std::io::Result<()> {
    let client =
        reqwest::Client::builder().tcp_nodelay(true).no_proxy().connect_timeout(CONNECT_TIMEOUT).build();
    let client = client.map_err(std::io::Error::other)?;
    let ending = api.ending.clone();
    let shared = Arc::new(Shared {
        api,
        client,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        ledger_reads: Arc::new(Semaphore::new(LEDGER_READS_MAX)),
        replays: Arc::new(Semaphore::new(REPLAYS_MAX)),
    });
    axum::serve(listener::Listener::new(listener), router(shared)).with_graceful_shutdown(ended(ending)).await
}

/// Waits until this coordinator ends.
async fn ended(mut ending: watch::Receiver<bool>) {
    // An error means that nobody can say so any more.
    let _ = ending.wait_for(|ending| *ending).await;
}

fn router(shared: Arc<Shared>) -> Router {
    let by_the_leader = Router::new()
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{job}", get(jobs::detail))
        .route("/v1/jobs/{job}/tasks", get(jobs::tasks))
        .route("/v1/jobs/{job}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{job}/retry", post(jobs::retry))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/{worker}/drain", post(workers::drain))
        .route("/v1/tasks/{task}/logs", get(logs::follow))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), forward::to_the_leader));
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/health", get(status::health))
        .route("/v1/events", get(events::events))
        .route("/v1/replay", get(replay::replay))
        .merge(by_the_leader)
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(middleware::from_fn(admit))
        .with_state(shared)
}

/// Names each request, in the log and to those who answer it, and bounds its body.
async fn admit(request: Request, next: Next) -> Response {
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        request = header(request.headers(), caller::KEY),
        trace = header(request.headers(), caller::TRACE),
    );
    let admitted = async {
        let request = bounded(request).await?;
        Ok::<_, Complaint>(next.run(request).await)
    };
    let response = admitted.instrument(span.clone()).await.unwrap_or_else(IntoResponse::into_response);
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, "answered"));
    response
}

async fn bounded(request: Request) -> Result<Request, Complaint> {
    if request.method() == Method::GET {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let bytes = caller::read_body(body).await?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn wrong_method(request: Request) -> Complaint {
    Complaint::invalid(
        "method",
        format!("{} is not possible for {}; see docs/api.md", request.method(), request.uri().path()),
    )
}

async fn unknown_path(request: Request) -> Complaint {
    Complaint::unknown(format!("there is no {}; see docs/api.md", request.uri().path()))
}
