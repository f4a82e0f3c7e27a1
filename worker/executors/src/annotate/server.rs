//! The form and its API over HTTP. It reads the board, and leaves what is to be taken to the desk.
//!
//! `GET /` is the form, `POST /label` takes a label from it (or as JSON), `POST /labels.jsonl` an import,
//! `POST /close` ends it, and `GET /items.jsonl` and `GET /status.json` show what there is. Names are
//! claimed, not proved: whoever reaches the port may label. What may not happen is that a page of another
//! site labels in the name of a reader: so the headers `Host` and `Origin` are looked at.

use super::board::{Board, Label, PEOPLE_MAX, Refusal, is_name};
use super::desk::{Errand, Problem, Reply};
use super::import::{self, Complaint, Tally};
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

/// Connections at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 512;
/// A form at most.
const FORM_BYTES_MAX: usize = 128 << 10;
/// An import at most.
const IMPORT_BYTES_MAX: usize = 256 << 20;
/// The log may have no leader for a while; whoever waits longer is told that it is not known.
const KEEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Once it is over, those who still read have so long.
const END_GRACE: Duration = Duration::from_secs(2);

/// What is served.
pub struct Office {
    /// The items and labels.
    pub board: Arc<RwLock<Board>>,
    /// To the desk.
    pub errands: SyncSender<Errand>,
    /// The job, for people.
    pub title: String,
    /// What they are asked to do.
    pub question: String,
    /// The name under which the form is announced, beside addresses and `localhost`.
    pub host: String,
    /// What was shown last to whom, so that two people do not do the same.
    pub shown: Mutex<BTreeMap<String, usize>>,
}

type Door = State<Arc<Office>>;

/// What a page is asked for.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    who: String,
    /// This item, whoever has labelled it.
    item: Option<String>,
    /// The next one after this.
    after: Option<String>,
    /// This one was just labelled.
    done: Option<String>,
}

/// A label, or an end, as it is sent.
#[derive(Debug, Default, Deserialize)]
struct Sent {
    #[serde(default)]
    who: String,
    #[serde(default)]
    item: String,
    #[serde(default)]
    label: String,
}

/// What was wrong, as JSON.
#[derive(Debug, Serialize)]
struct Wrong {
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<Complaint>,
}

/// Serves until `ended`, and then until what is under way is done, or has taken too long.
pub async fn serve(socket: TcpListener, office: Arc<Office>, ended: oneshot::Receiver<()>) -> io::Result<()> {
    let router = Router::new()
        .route("/", get(form))
        .route("/label", post(label).layer(DefaultBodyLimit::max(FORM_BYTES_MAX)))
        .route("/close", post(close).layer(DefaultBodyLimit::max(FORM_BYTES_MAX)))
        .route("/labels.jsonl", post(take_lines).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)))
        .route("/items.jsonl", get(items))
        .route("/status.json", get(status))
        .layer(middleware::from_fn_with_state(Arc::clone(&office), guard))
        .with_state(office);
    let (over, heard) = oneshot::channel::<()>();
    let serving = axum::serve(BoundedListener::new(socket, CONNECTIONS_MAX), router).with_graceful_shutdown(
        async move {
            // An error means that the desk is gone, which ends it as well; and nobody hears of it who has
            // ended already.
            let _ = ended.await;
            let _ = over.send(());
        },
    );
    let mut serving = pin!(serving.into_future());
    tokio::select! {
        served = &mut serving => return served,
        _ = heard => {}
    }
    timeout(END_GRACE, serving).await.unwrap_or(Ok(()))
}

/// Turns away what another site's page sends, and says to browsers what they may do.
async fn guard(State(office): Door, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(ORIGIN).map(|origin| {
        origin.to_str().unwrap_or_default().trim_start_matches("http://").trim_start_matches("https://")
    });
    let own = is_own(host, &office.host);
    let foreign = request.method() != Method::GET && origin.is_some_and(|origin| origin != host);
    let mut response = if !own || foreign {
        wrong(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("the form is not served as {host:?}, or its sender is another site"),
            Vec::new(),
        )
    } else {
        next.run(request).await
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let always = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    response.headers_mut().extend(always.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// Whether a `Host` header names this server: a foreign name that was made to lead here does not.
fn is_own(host: &str, announced: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    address || name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(announced)
}

async fn form(State(office): Door, Query(asked): Query<Asked>) -> Response {
    office.look(|subject| {
        let board = subject.board;
        if asked.who.is_empty() {
            return html(StatusCode::OK, page::ask_name(subject));
        }
        if !is_name(&asked.who) {
            return html(
                StatusCode::BAD_REQUEST,
                page::wrong(subject, "", &Refusal::Who(asked.who.clone()).to_string()),
            );
        }
        let find = |id: &Option<String>| id.as_deref().and_then(|id| board.find(id));
        let done = find(&asked.done).map(|place| &board.items()[place]);
        if let Some(id) = &asked.item {
            return match board.find(id) {
                Some(place) => html(StatusCode::OK, page::item(subject, &asked.who, place, done)),
                None => html(
                    StatusCode::NOT_FOUND,
                    page::wrong(subject, &asked.who, &format!("there is no item {id:?}")),
                ),
            };
        }
        let next = if board.is_over() { None } else { office.next(board, &asked.who, find(&asked.after)) };
        html(
            StatusCode::OK,
            match next {
                Some(place) => page::item(subject, &asked.who, place, done),
                None => page::nothing_left(subject, &asked.who, done),
            },
        )
    })
}

async fn label(State(office): Door, headers: HeaderMap, body: Bytes) -> Response {
    let sent = match sent(&headers, &body) {
        Ok(sent) => sent,
        Err(message) => return wrong(StatusCode::BAD_REQUEST, "invalid", message, Vec::new()),
    };
    let label = Label {
        item: sent.item.clone(),
        who: sent.who.trim().to_owned(),
        label: newlines(&sent.label),
        confirmed: None,
        at_ms: now_ms(),
    };
    let who = label.who.clone();
    let kept = office.ask(|reply| Errand::Take { label, reply }).await;
    office.answer(
        &headers,
        &who,
        &format!("/?who={}&done={}", page::encoded(&who), page::encoded(&sent.item)),
        kept,
    )
}

async fn close(State(office): Door, headers: HeaderMap, body: Bytes) -> Response {
    let who = match sent(&headers, &body) {
        Ok(sent) => sent.who.trim().to_owned(),
        Err(message) => return wrong(StatusCode::BAD_REQUEST, "invalid", message, Vec::new()),
    };
    let asking = who.clone();
    let kept = office.ask(|reply| Errand::Close { who: asking, reply }).await;
    office.answer(&headers, &who, &format!("/?who={}", page::encoded(&who)), kept)
}

async fn take_lines(State(office): Door, body: Bytes) -> Response {
    let at_ms = now_ms();
    let parsed = spawn_blocking(move || import::parse(&body, at_ms)).await;
    let kept = match parsed {
        Ok(Ok(labels)) => office.ask(|reply| Errand::Import { labels, reply }).await,
        Ok(Err(complaints)) => Err(Problem::Lines(complaints)),
        Err(error) => Err(Problem::Unkept(error.to_string())),
    };
    match kept {
        Ok(tally) => axum::Json(tally).into_response(),
        Err(problem) => refused(problem),
    }
}

async fn items(State(office): Door) -> Response {
    let made = spawn_blocking(move || {
        report::labelled(&office.board.read().unwrap_or_else(PoisonError::into_inner))
    })
    .await;
    match made {
        Ok(Ok(bytes)) => ([(CONTENT_TYPE, "application/x-ndjson")], bytes).into_response(),
        Ok(Err(error)) => refused(Problem::Unkept(error.to_string())),
        Err(error) => refused(Problem::Unkept(error.to_string())),
    }
}

async fn status(State(office): Door) -> Response {
    let made =
        spawn_blocking(move || report::report(&office.board.read().unwrap_or_else(PoisonError::into_inner)))
            .await;
    match made {
        Ok(report) => axum::Json(report).into_response(),
        Err(error) => refused(Problem::Unkept(error.to_string())),
    }
}

impl Office {
    fn look<T>(&self, look: impl FnOnce(&page::Subject<'_>) -> T) -> T {
        let board = self.board.read().unwrap_or_else(PoisonError::into_inner);
        look(&page::Subject { title: &self.title, question: &self.question, board: &board })
    }

    /// The next item for somebody, and that it is now before their eyes.
    fn next(&self, board: &Board, who: &str, after: Option<usize>) -> Option<usize> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for place in shown.iter().filter(|(other, _)| *other != who).map(|(_, place)| *place) {
            *counts.entry(place).or_default() += 1;
        }
        let next = board.next(who, after, &counts);
        match next {
            Some(place) if shown.len() < PEOPLE_MAX || shown.contains_key(who) => {
                let _ = shown.insert(who.to_owned(), place);
            }
            Some(_) => {}
            None => drop(shown.remove(who)),
        }
        next
    }

    /// Gives the desk an errand, and waits for what comes of it.
    async fn ask(&self, errand: impl FnOnce(Reply) -> Errand) -> Result<Tally, Problem> {
        let (reply, answer) = oneshot::channel();
        if self.errands.try_send(errand(reply)).is_err() {
            return Err(Problem::Unkept("too much waits, or it is over; try again in a moment".to_owned()));
        }
        let unknown = |why: &str| Problem::Unknown(why.to_owned());
        match timeout(KEEP_TIMEOUT, answer).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(_)) => Err(unknown("the stage ends")),
            Err(_) => Err(unknown("the log does not answer")),
        }
    }

    /// To a browser, or to a program.
    fn answer(&self, headers: &HeaderMap, who: &str, next: &str, kept: Result<Tally, Problem>) -> Response {
        match (kept, is_json(headers)) {
            (Ok(tally), true) => axum::Json(tally).into_response(),
            // Once it is over nobody answers at another address of this server.
            (Ok(_), false) if self.look(|subject| subject.board.is_over()) => {
                self.look(|subject| html(StatusCode::OK, page::nothing_left(subject, who, None)))
            }
            (Ok(_), false) => (StatusCode::SEE_OTHER, [(LOCATION, next)]).into_response(),
            (Err(problem), true) => refused(problem),
            (Err(problem), false) => {
                let (status, _, message, _) = told(problem);
                self.look(|subject| html(status, page::wrong(subject, who, &message)))
            }
        }
    }
}

/// A form, or JSON.
///
/// # Errors
/// What is wrong with it.
fn sent(headers: &HeaderMap, body: &[u8]) -> Result<Sent, String> {
    if is_json(headers) {
        return serde_json::from_slice(body)
            .map_err(|error| format!("the body is no JSON object of texts: {error}"));
    }
    let mut sent = Sent::default();
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

/// Forms end lines with CR LF, whatever was typed.
fn newlines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// The display of when; it decides nothing.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn html(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

fn refused(problem: Problem) -> Response {
    let (status, error, message, lines) = told(problem);
    wrong(status, error, message, lines)
}

fn told(problem: Problem) -> (StatusCode, &'static str, String, Vec<Complaint>) {
    match problem {
        Problem::Refused(refusal) if refusal.is_of_input() => {
            (StatusCode::BAD_REQUEST, "invalid", refusal.to_string(), Vec::new())
        }
        Problem::Refused(refusal) => (StatusCode::CONFLICT, "wrong_state", refusal.to_string(), Vec::new()),
        Problem::Lines(lines) => (
            StatusCode::BAD_REQUEST,
            "invalid",
            "nothing was taken, since some lines are not right".to_owned(),
            lines,
        ),
        Problem::Unkept(why) => (StatusCode::SERVICE_UNAVAILABLE, "not_kept", why, Vec::new()),
        Problem::Unknown(why) => {
            let message =
                format!("it is not known whether this was kept: {why}; to send it again does no harm");
            (StatusCode::GATEWAY_TIMEOUT, "unknown", message, Vec::new())
        }
    }
}

fn wrong(status: StatusCode, error: &'static str, message: String, lines: Vec<Complaint>) -> Response {
    (status, axum::Json(json!(Wrong { error, message, lines }))).into_response()
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
        let form = sent(&HeaderMap::new(), b"who=Ann%20B&item=a%2Fb&label=x+%3Cy%3E&more=1").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let json = sent(&headers, br#"{"who": "Ann B", "item": "a/b", "label": "x <y>"}"#).unwrap();
        for sent in [form, json] {
            assert_eq!(
                (sent.who.as_str(), sent.item.as_str(), sent.label.as_str()),
                ("Ann B", "a/b", "x <y>")
            );
        }
        assert_eq!(
            sent(&headers, b"[").map(|sent| sent.who).unwrap_err().split(':').next(),
            Some("the body is no JSON object of texts")
        );
    }
}
