//! `data.annotate`: waits, durably and without a limit of time, for people who label items; one task.
//!
//! The attempt serves a form and a small API itself ([`server`]). One owner takes the labels ([`desk`]): each
//! batch is a content-addressed artifact ([`chain`]), and the log has the hash of the newest, so that what
//! the state holds of a stage does not grow with its labels. An attempt that is killed and started again
//! reads the head, and goes on. What comes of the labels is in [`report`].
//!
//! **Boundary**: [`board`], [`agreement`] and [`page`] are pure; only the desk speaks with the agent, and
//! only the server with people.

mod agreement;
mod board;
mod chain;
mod desk;
mod import;
mod items;
mod page;
mod params;
mod report;
mod server;
#[cfg(test)]
mod tests;

pub use params::AnnotateParams;

use crate::error::Error;
use board::{Board, Rules};
use desk::{Desk, ERRANDS_MAX, confirm};
use muster_attempt::Attempt;
use muster_protocol::attempt_call::KeyedRecord;
use muster_protocol::ids::Digest;
use rustix::system::uname;
use serde::{Deserialize, Serialize};
use server::Office;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread;
use tokio::sync::oneshot;

/// The key under which the items are recorded, once.
const ITEMS_KEY: &str = "items";
/// The key under which each attempt says where its form is.
const URL_KEY: &str = "url";

/// The body of a record `items`; its payload is the artifact.
#[derive(Debug, Serialize, Deserialize)]
struct Gathered {
    items: u64,
    bytes: u64,
    proposals: u64,
}

/// The body of a record `url`.
#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    url: String,
    /// Where it listens.
    listen: SocketAddr,
}

/// Runs it.
pub fn run(attempt: &mut Attempt, params: &AnnotateParams) -> Result<(), Error> {
    if attempt.launch.world != 1 {
        return Err(Error::Unfit(format!(
            "label in {} tasks: the stage is one task, and people share its form",
            attempt.launch.world
        )));
    }
    let rules = rules(params)?;
    let records = attempt.progress(attempt.task(), "")?;
    let items = items(attempt, params, &records, &rules.labels)?;
    let board = Arc::new(RwLock::new(Board::new(items, rules)));
    let mut desk = Desk::open(attempt, &board, &records)?;
    if !board.read().unwrap_or_else(PoisonError::into_inner).is_over() {
        wait(&mut desk, params, &board, &records)?;
    }
    finish(attempt, &board.read().unwrap_or_else(PoisonError::into_inner))
}

fn rules(params: &AnnotateParams) -> Result<Rules, Error> {
    let rules = Rules {
        labels: params.labels.clone(),
        per_item: params.per_item,
        adjudicate: params.adjudicate,
        allow_partial: params.allow_partial,
    };
    for (place, label) in rules.labels.iter().enumerate() {
        let fits = (1..=board::LABEL_BYTES_MAX).contains(&label.len())
            && label.trim() == label
            && !label.contains('\n');
        if !fits || rules.labels[..place].contains(label) {
            return Err(Error::Unfit(format!(
                "use `labels`: {label:?} is empty, has blanks around it or a second line, or stands there twice"
            )));
        }
    }
    if rules.adjudicate && rules.per_item < 2 {
        return Err(Error::Unfit(
            "adjudicate: with `per_item = 1` there is nothing to decide between".to_owned(),
        ));
    }
    Ok(rules)
}

/// The items: those of an earlier attempt, else as the parameters say. They are read once, so that nobody
/// labels what has changed since.
fn items(
    attempt: &mut Attempt,
    params: &AnnotateParams,
    records: &[KeyedRecord],
    labels: &[String],
) -> Result<Vec<items::Item>, Error> {
    if let Some(record) = records.iter().find(|record| record.key == ITEMS_KEY) {
        return items::from_bytes(&attempt.artifacts.get(record.payload_hash)?);
    }
    let items = items::gather(attempt, params, labels)?;
    let bytes = items::to_bytes(&items)?;
    let hash = attempt.artifacts.put(&bytes)?;
    let proposals = items.iter().filter(|item| item.proposal.is_some()).count() as u64;
    let body = Gathered { items: items.len() as u64, bytes: bytes.len() as u64, proposals };
    attempt.record(ITEMS_KEY, 1, hash, &body, true)?;
    confirm(attempt, ITEMS_KEY, 1, hash)?;
    attempt.say(&format!("{} items to label, {proposals} with a proposal: {hash}", items.len()));
    Ok(items)
}

/// Serves people until nothing is awaited any more.
fn wait(
    desk: &mut Desk<'_>,
    params: &AnnotateParams,
    board: &Arc<RwLock<Board>>,
    records: &[KeyedRecord],
) -> Result<(), Error> {
    let attempt = desk.attempt();
    let listener = bind(&params.bind, records)?;
    let failed = |what: &str, error: std::io::Error| Error::Unfit(format!("serve the form: {what}: {error}"));
    let listen = listener.local_addr().map_err(|error| failed("ask for its address", error))?;
    let (host, url) = announced(&params.url, listen);
    let (errands, waiting) = mpsc::sync_channel(ERRANDS_MAX);
    let office = Office {
        board: Arc::clone(board),
        errands,
        title: format!("{}: {}", attempt.launch.job_name, attempt.launch.stage_name),
        question: params.question.clone(),
        host,
        shown: Mutex::default(),
    };
    listener.set_nonblocking(true).map_err(|error| failed("set up its socket", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("start its runtime", error))?;
    let (end, ended) = oneshot::channel();
    let server = thread::Builder::new().name("form".to_owned()).spawn(move || {
        runtime.block_on(async move {
            server::serve(tokio::net::TcpListener::from_std(listener)?, Arc::new(office), ended).await
        })
    });
    let server = server.map_err(|error| failed("start its thread", error))?;
    let body = Announced { url, listen };
    attempt.say(&format!("label at {}", body.url));
    let epoch = u64::from(attempt.launch.attempt.epoch);
    attempt.record(URL_KEY, epoch, Digest::of(body.url.as_bytes()), &body, false)?;
    let worked = desk.work(&waiting);
    // Those who wait for an answer that will not come are told so at once.
    drop(waiting);
    let _ = end.send(());
    let served = server.join().map_err(|_| Error::Unfit("serve the form: its thread broke".to_owned()));
    worked?;
    served?.map_err(|error| failed("go on", error))
}

/// Listens. With port 0, where the attempt before did if that is still free: people need not be told another
/// address.
fn bind(address: &str, records: &[KeyedRecord]) -> Result<TcpListener, Error> {
    let wanted: SocketAddr = address.parse().map_err(|_| {
        Error::Unfit(format!(
            "listen: `bind` is an address and a port, as 127.0.0.1:0 or 0.0.0.0:8080, not {address:?}"
        ))
    })?;
    let before = records.iter().find(|record| record.key == URL_KEY);
    let before = before
        .and_then(|record| serde_json::from_str::<Announced>(&record.body).ok())
        .map(|body| body.listen);
    if let Some(before) = before.filter(|before| wanted.port() == 0 && before.ip() == wanted.ip())
        && let Ok(listener) = TcpListener::bind(before)
    {
        return Ok(listener);
    }
    TcpListener::bind(wanted).map_err(|error| Error::Unfit(format!("listen at {wanted}: {error}")))
}

/// The host and the URL under which people find it.
fn announced(given: &str, listen: SocketAddr) -> (String, String) {
    if !given.is_empty() {
        let url = given.trim_end_matches('/');
        let authority =
            url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        return (host.to_owned(), url.to_owned());
    }
    let host = match listen.ip() {
        ip if ip.is_unspecified() => uname().nodename().to_string_lossy().into_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let url = format!("http://{host}:{}", listen.port());
    (host, url)
}

fn finish(attempt: &mut Attempt, board: &Board) -> Result<(), Error> {
    let labelled = attempt.artifacts.put(&report::labelled(board)?)?;
    let report = report::report(board);
    let output = report.output(labelled, attempt.put_json(&report)?);
    let figure = |figure: Option<f64>| figure.map_or("undefined".to_owned(), |figure| format!("{figure:.3}"));
    attempt.say(&format!(
        "{} items, {} decided, {} that people differ on, {} open; agreement {}, kappa {}, alpha {}; {} of the proposals confirmed",
        output.items,
        output.decided,
        output.differing,
        output.open,
        figure(output.raw),
        figure(output.kappa),
        figure(output.alpha),
        figure(output.confirmed)
    ));
    Ok(attempt.output(&output)?)
}
