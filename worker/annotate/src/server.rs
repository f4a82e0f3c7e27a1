//! The form and its API over HTTP. It reads the store, and passes what changes it to the label writer.
//!
//! `GET /` is the form, `POST /label` takes a label from it (or as JSON), `POST /labels.jsonl` an import,
//! `POST /close` ends the stage, and `GET /items.jsonl` and `GET /status.json` show the results so far. Names
//! are not authenticated: anybody who reaches the port may label. But no page of another site may label in a
//! reader's name (cross-site request forgery, DNS rebinding): the headers `Host` and `Origin` are checked.

use super::import::{self, ImportCounts, LineError};
use super::label_store::{Label, LabelStore};
use super::label_writer::{Reply, WriteError, WriteRequest};
use super::refusal::{PEOPLE_MAX, Refusal, is_name};
use super::{page, report};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use muster_host::listener::BoundedListener;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 512;
/// The longest body of a form.
const FORM_BYTES_MAX: usize = 128 << 10;
/// The longest import.
const IMPORT_BYTES_MAX: usize = 256 << 20;
/// How long a request waits for the log, which may have no leader for a while; then its result is unknown.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests may take once the stage has ended.
const END_GRACE: Duration = Duration::from_secs(2);

/// What all handlers share.
pub struct AppState {
    /// The items and labels.
    pub store: Arc<RwLock<LabelStore>>,
    /// To the label writer.
    pub requests: SyncSender<WriteRequest>,
    /// The names of the job and the stage.
    pub title: String,
    /// The question of the job file.
    pub question: String,
    /// The host in the form's URL; addresses and `localhost` are accepted too.
    pub host: String,
    /// By person: the item that was shown last, so that two people do not label the same.
    pub shown: Mutex<BTreeMap<String, usize>>,
}

/// The query of `GET /`.
#[derive(Debug, Default, Deserialize)]
struct PageQuery {
    #[serde(default)]
    who: String,
    /// The item to show, even if it has all its labels.
    item: Option<String>,
    /// Show the next item after this one.
    after: Option<String>,
    /// The item that was just labelled.
    done: Option<String>,
}

/// The body of `POST /label` and `POST /close`.
#[derive(Debug, Default, Deserialize)]
struct LabelForm {
    #[serde(default)]
    who: String,
    #[serde(default)]
    item: String,
    #[serde(default)]
    label: String,
}

/// An error, as JSON.
#[derive(Debug, Serialize)]
struct ErrorBody {
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<LineError>,
}

/// Serves until `ended`, and then open requests for at most [`END_GRACE`].
pub async fn serve(socket: TcpListener, app: Arc<AppState>, ended: oneshot::Receiver<()>) -> io::Result<()> {
    let router = Router::new()
        .route("/", get(form))
        .route("/label", post(label).layer(DefaultBodyLimit::max(FORM_BYTES_MAX)))
        .route("/close", post(close).layer(DefaultBodyLimit::max(FORM_BYTES_MAX)))
        .route("/labels.jsonl", post(take_lines).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)))
        .route("/items.jsonl", get(items))
        .route("/status.json", get(status))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(BoundedListener::new(socket, CONNECTIONS_MAX), router).with_graceful_shutdown(
        async move {
            // An error means that the label writer is gone, which ends the server too. The receiver of `stop`
            // may have ended already.
            let _ = ended.await;
            let _ = stop.send(());
        },
    );
    let mut serving = pin!(serving.into_future());
    tokio::select! {
        served = &mut serving => return served,
        _ = stopped => {}
    }
    timeout(END_GRACE, serving).await.unwrap_or(Ok(()))
}

/// Refuses requests from pages of other sites, and adds security headers.
async fn guard(State(app): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(ORIGIN).map(|origin| {
        origin.to_str().unwrap_or_default().trim_start_matches("http://").trim_start_matches("https://")
    });
    let own = is_own(host, &app.host);
    let foreign = request.method() != Method::GET && origin.is_some_and(|origin| origin != host);
    let mut response = if !own || foreign {
        error_response(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("the form is not served as {host:?}, or the request comes from another site"),
            Vec::new(),
        )
    } else {
        next.run(request).await
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// Whether a `Host` header names this server. A foreign name that resolves to it (DNS rebinding) does not.
fn is_own(host: &str, announced: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    address || name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(announced)
}

async fn form(State(app): State<Arc<AppState>>, Query(asked): Query<PageQuery>) -> Response {
    app.render(|context| {
        let store = context.store;
        if asked.who.is_empty() {
            return html(StatusCode::OK, page::ask_name(context));
        }
        if !is_name(&asked.who) {
            return html(
                StatusCode::BAD_REQUEST,
                page::error(context, "", &Refusal::Who(asked.who.clone()).to_string()),
            );
        }
        let find = |id: &Option<String>| id.as_deref().and_then(|id| store.find(id));
        let done = find(&asked.done).map(|index| &store.items()[index]);
        if let Some(id) = &asked.item {
            return match store.find(id) {
                Some(index) => html(StatusCode::OK, page::item(context, &asked.who, index, done)),
                None => html(
                    StatusCode::NOT_FOUND,
                    page::error(context, &asked.who, &format!("there is no item {id:?}")),
                ),
            };
        }
        let next = if store.is_over() { None } else { app.next(store, &asked.who, find(&asked.after)) };
        html(
            StatusCode::OK,
            match next {
                Some(index) => page::item(context, &asked.who, index, done),
                None => page::nothing_left(context, &asked.who, done),
            },
        )
    })
}

async fn label(State(app): State<Arc<AppState>>, headers: HeaderMap, body: Bytes) -> Response {
    let sent = match parse_form(&headers, &body) {
        Ok(sent) => sent,
        Err(message) => return error_response(StatusCode::BAD_REQUEST, "invalid", message, Vec::new()),
    };
    let label = Label {
        item: sent.item.clone(),
        who: sent.who.trim().to_owned(),
        label: newlines(&sent.label),
        confirmed: None,
        at_ms: now_ms(),
    };
    let who = label.who.clone();
    let result = app.ask(|reply| WriteRequest::Add { label, reply }).await;
    app.answer(
        &headers,
        &who,
        &format!("/?who={}&done={}", page::encoded(&who), page::encoded(&sent.item)),
        result,
    )
}

async fn close(State(app): State<Arc<AppState>>, headers: HeaderMap, body: Bytes) -> Response {
    let who = match parse_form(&headers, &body) {
        Ok(sent) => sent.who.trim().to_owned(),
        Err(message) => return error_response(StatusCode::BAD_REQUEST, "invalid", message, Vec::new()),
    };
    let asking = who.clone();
    let result = app.ask(|reply| WriteRequest::Close { who: asking, reply }).await;
    app.answer(&headers, &who, &format!("/?who={}", page::encoded(&who)), result)
}

async fn take_lines(State(app): State<Arc<AppState>>, body: Bytes) -> Response {
    let at_ms = now_ms();
    let parsed = spawn_blocking(move || import::parse(&body, at_ms)).await;
    let result = match parsed {
        Ok(Ok(labels)) => app.ask(|reply| WriteRequest::Import { labels, reply }).await,
        Ok(Err(errors)) => Err(WriteError::Lines(errors)),
        Err(error) => Err(WriteError::NotStored(error.to_string())),
    };
    match result {
        Ok(counts) => axum::Json(counts).into_response(),
        Err(error) => refused(error),
    }
}

async fn items(State(app): State<Arc<AppState>>) -> Response {
    let made =
        spawn_blocking(move || report::labelled(&app.store.read().unwrap_or_else(PoisonError::into_inner)))
            .await;
    match made {
        Ok(Ok(bytes)) => ([(CONTENT_TYPE, "application/x-ndjson")], bytes).into_response(),
        Ok(Err(error)) => refused(WriteError::NotStored(error.to_string())),
        Err(error) => refused(WriteError::NotStored(error.to_string())),
    }
}

async fn status(State(app): State<Arc<AppState>>) -> Response {
    let made =
        spawn_blocking(move || report::report(&app.store.read().unwrap_or_else(PoisonError::into_inner)))
            .await;
    match made {
        Ok(report) => axum::Json(report).into_response(),
        Err(error) => refused(WriteError::NotStored(error.to_string())),
    }
}

impl AppState {
    fn render<T>(&self, render: impl FnOnce(&page::PageContext<'_>) -> T) -> T {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        render(&page::PageContext { title: &self.title, question: &self.question, store: &store })
    }

    /// The next item for a person, which is from now on shown to them.
    fn next(&self, store: &LabelStore, who: &str, after: Option<usize>) -> Option<usize> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for index in shown.iter().filter(|(other, _)| *other != who).map(|(_, index)| *index) {
            *counts.entry(index).or_default() += 1;
        }
        let next = store.next(who, after, &counts);
        match next {
            Some(index) if shown.len() < PEOPLE_MAX || shown.contains_key(who) => {
                shown.insert(who.to_owned(), index);
            }
            Some(_) => {}
            None => {
                shown.remove(who);
            }
        }
        next
    }

    /// Passes a request to the label writer, and waits for the result.
    async fn ask(&self, request: impl FnOnce(Reply) -> WriteRequest) -> Result<ImportCounts, WriteError> {
        let (reply, answer) = oneshot::channel();
        if self.requests.try_send(request(reply)).is_err() {
            return Err(WriteError::NotStored(
                "too many requests wait, or the stage has ended; try again in a moment".to_owned(),
            ));
        }
        let unknown = |why: &str| WriteError::Unknown(why.to_owned());
        match timeout(WRITE_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unknown("the stage ends")),
            Err(_) => Err(unknown("the log does not answer")),
        }
    }

    /// The response to a browser, or as JSON to a program.
    fn answer(
        &self,
        headers: &HeaderMap,
        who: &str,
        next: &str,
        result: Result<ImportCounts, WriteError>,
    ) -> Response {
        match (result, is_json(headers)) {
            (Ok(counts), true) => axum::Json(counts).into_response(),
            // Once the stage has ended no other page of this server can be loaded.
            (Ok(_), false) if self.render(|context| context.store.is_over()) => {
                self.render(|context| html(StatusCode::OK, page::nothing_left(context, who, None)))
            }
            (Ok(_), false) => (StatusCode::SEE_OTHER, [(LOCATION, next)]).into_response(),
            (Err(error), true) => refused(error),
            (Err(error), false) => {
                let (status, _, message, _) = describe(error);
                self.render(|context| html(status, page::error(context, who, &message)))
            }
        }
    }
}

/// Parses a form or JSON; the error says what is wrong.
fn parse_form(headers: &HeaderMap, body: &[u8]) -> Result<LabelForm, String> {
    if is_json(headers) {
        return serde_json::from_slice(body)
            .map_err(|error| format!("the body is not a JSON object of texts: {error}"));
    }
    let mut sent = LabelForm::default();
    for (name, value) in form_urlencoded::parse(body) {
        match name.as_ref() {
            "who" => sent.who = value.into_owned(),
            "item" => sent.item = value.into_owned(),
            "label" => sent.label = value.into_owned(),
            _ => {}
        }
    }
    Ok(sent)
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"))
}

/// Browsers send CR LF for each line break of a form.
fn newlines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// For display only.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn html(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

fn refused(error: WriteError) -> Response {
    let (status, error, message, lines) = describe(error);
    error_response(status, error, message, lines)
}

fn describe(error: WriteError) -> (StatusCode, &'static str, String, Vec<LineError>) {
    match error {
        WriteError::Refused(refusal) if refusal.is_of_input() => {
            (StatusCode::BAD_REQUEST, "invalid", refusal.to_string(), Vec::new())
        }
        WriteError::Refused(refusal) => {
            (StatusCode::CONFLICT, "wrong_state", refusal.to_string(), Vec::new())
        }
        WriteError::Lines(lines) => (
            StatusCode::BAD_REQUEST,
            "invalid",
            "nothing was accepted, since some lines are not valid".to_owned(),
            lines,
        ),
        WriteError::NotStored(why) => (StatusCode::SERVICE_UNAVAILABLE, "not_kept", why, Vec::new()),
        WriteError::Unknown(why) => {
            let message = format!("it is not known whether this was stored: {why}; you can send it again");
            (StatusCode::GATEWAY_TIMEOUT, "unknown", message, Vec::new())
        }
    }
}

fn error_response(
    status: StatusCode,
    error: &'static str,
    message: String,
    lines: Vec<LineError>,
) -> Response {
    (status, axum::Json(json!(ErrorBody { error, message, lines }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_ours() {
        let table = [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("10.0.0.7", true),
            ("localhost:1", true),
            ("node-a:9", true),
            ("evil.example:8080", false),
            ("", false),
            ("127.0.0.1.evil.example", false),
        ];
        for (host, own) in table {
            assert_eq!(is_own(host, "node-a"), own, "{host}");
        }
    }

    #[test]
    fn forms_and_json_are_read_alike() {
        let form = parse_form(&HeaderMap::new(), b"who=Ann%20B&item=a%2Fb&label=x+%3Cy%3E&more=1").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let json = parse_form(&headers, br#"{"who": "Ann B", "item": "a/b", "label": "x <y>"}"#).unwrap();
        for sent in [form, json] {
            assert_eq!(
                (sent.who.as_str(), sent.item.as_str(), sent.label.as_str()),
                ("Ann B", "a/b", "x <y>")
            );
        }
        assert_eq!(
            parse_form(&headers, b"[").map(|sent| sent.who).unwrap_err().split(':').next(),
            Some("the body is not a JSON object of texts")
        );
    }
}
