//! One attempt at the stage: reads the items, serves the form, writes labels until all are there, and
//! reports.

use super::error::Error;
use super::item::{self, Item};
use super::label_store::{LabelStore, StageRules};
use super::label_writer::{LabelWriter, REQUESTS_MAX};
use super::log_check::wait_for_record;
use super::params::AnnotateParams;
use super::refusal::LABEL_BYTES_MAX;
use super::report;
use super::server::{self, AppState};
use muster_attempt::Attempt;
use muster_protocol::attempt_call::KeyedRecord;
use muster_protocol::ids::Digest;
use rustix::system::uname;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread;
use tokio::sync::oneshot;

/// The key of the record of the items, which is written once.
const ITEMS_KEY: &str = "items";
/// The key of the record with the form's URL, which each attempt writes.
const URL_KEY: &str = "url";

/// The body of a record `items`; its payload is the artifact.
#[derive(Debug, Serialize, Deserialize)]
struct ItemsRecord {
    items: u64,
    bytes: u64,
    proposals: u64,
}

/// The body of a record `url`.
#[derive(Debug, Serialize, Deserialize)]
struct UrlRecord {
    url: String,
    /// The address on which it listens.
    listen: SocketAddr,
}

/// Runs the stage as this attempt.
pub fn run(attempt: &mut Attempt, params: &AnnotateParams) -> Result<(), Error> {
    if attempt.launch.world != 1 {
        return Err(Error::SeveralTasks { tasks: attempt.launch.world });
    }
    let rules = rules(params)?;
    let records = attempt.progress(attempt.task(), "")?;
    let items = items(attempt, params, &records, &rules.labels)?;
    let store = Arc::new(RwLock::new(LabelStore::new(items, rules)));
    let mut writer = LabelWriter::open(attempt, &store, &records)?;
    if !store.read().unwrap_or_else(PoisonError::into_inner).is_over() {
        serve(&mut writer, params, &store, &records)?;
    }
    finish(attempt, &store.read().unwrap_or_else(PoisonError::into_inner))
}

fn rules(params: &AnnotateParams) -> Result<StageRules, Error> {
    let rules = StageRules {
        labels: params.labels.clone(),
        per_item: params.per_item,
        adjudicate: params.adjudicate,
        allow_partial: params.allow_partial,
    };
    for (index, label) in rules.labels.iter().enumerate() {
        let fits =
            (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.trim() == label && !label.contains('\n');
        if !fits || rules.labels[..index].contains(label) {
            return Err(Error::Label { label: label.clone() });
        }
    }
    if rules.adjudicate && rules.per_item < 2 {
        return Err(Error::NothingToAdjudicate);
    }
    Ok(rules)
}

/// The items: those of an earlier attempt, else as the parameters say. They are read once, so that all people
/// label the same.
fn items(
    attempt: &mut Attempt,
    params: &AnnotateParams,
    records: &[KeyedRecord],
    labels: &[String],
) -> Result<Vec<Item>, Error> {
    if let Some(record) = records.iter().find(|record| record.key == ITEMS_KEY) {
        return item::from_bytes(&attempt.artifacts.get(record.payload_hash)?);
    }
    let items = item::gather(attempt, params, labels)?;
    let bytes = item::to_bytes(&items)?;
    let hash = attempt.artifacts.put(&bytes)?;
    let proposals = items.iter().filter(|item| item.proposal.is_some()).count() as u64;
    let body = ItemsRecord { items: items.len() as u64, bytes: bytes.len() as u64, proposals };
    attempt.record(ITEMS_KEY, 1, hash, &body, true)?;
    wait_for_record(attempt, ITEMS_KEY, 1, hash)?;
    attempt.say(&format!("{} items to label, {proposals} with a proposal: {hash}", items.len()));
    Ok(items)
}

/// Serves the form until no more labels are needed.
fn serve(
    writer: &mut LabelWriter<'_>,
    params: &AnnotateParams,
    store: &Arc<RwLock<LabelStore>>,
    records: &[KeyedRecord],
) -> Result<(), Error> {
    let attempt = writer.attempt();
    let listener = bind(&params.bind, records)?;
    let failed = |action: &'static str| move |source| Error::Serve { action, source };
    let listen = listener.local_addr().map_err(failed("ask for its address"))?;
    let (host, url) = form_url(&params.url, listen);
    let (requests, waiting) = mpsc::sync_channel(REQUESTS_MAX);
    let app = AppState {
        store: Arc::clone(store),
        requests,
        title: format!("{}: {}", attempt.launch.job_name, attempt.launch.stage_name),
        question: params.question.clone(),
        host,
        shown: Mutex::default(),
    };
    listener.set_nonblocking(true).map_err(failed("set up its socket"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("start its runtime"))?;
    let (end, ended) = oneshot::channel();
    let server = thread::Builder::new().name("form".to_owned()).spawn(move || {
        runtime.block_on(async move {
            server::serve(tokio::net::TcpListener::from_std(listener)?, Arc::new(app), ended).await
        })
    });
    let server = server.map_err(failed("start its thread"))?;
    let body = UrlRecord { url, listen };
    attempt.say(&format!("label at {}", body.url));
    let epoch = u64::from(attempt.launch.attempt.epoch);
    attempt.record(URL_KEY, epoch, Digest::of(body.url.as_bytes()), &body, false)?;
    let written = writer.run(&waiting);
    // Requests that still wait fail at once.
    drop(waiting);
    let _ = end.send(());
    let served = server.join().map_err(|_| Error::ServerEnded);
    written?;
    served?.map_err(failed("go on"))
}

/// Listens. With port 0 it uses the port of the earlier attempt if that is free, so that the URL stays the
/// same.
fn bind(address: &str, records: &[KeyedRecord]) -> Result<TcpListener, Error> {
    let wanted: SocketAddr = address.parse().map_err(|_| Error::Bind { given: address.to_owned() })?;
    let before = records.iter().find(|record| record.key == URL_KEY);
    let before = before
        .and_then(|record| serde_json::from_str::<UrlRecord>(&record.body).ok())
        .map(|body| body.listen);
    if let Some(before) = before.filter(|before| wanted.port() == 0 && before.ip() == wanted.ip())
        && let Ok(listener) = TcpListener::bind(before)
    {
        return Ok(listener);
    }
    TcpListener::bind(wanted).map_err(|source| Error::Listen { address: wanted, source })
}

/// The host and the URL of the form.
fn form_url(given: &str, listen: SocketAddr) -> (String, String) {
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

fn finish(attempt: &mut Attempt, store: &LabelStore) -> Result<(), Error> {
    let labelled = attempt.artifacts.put(&report::labelled(store)?)?;
    let report = report::report(store);
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
