//! Coordinators with temporary directories and free ports, and a client. Tests wait for progress and not for
//! a time to pass.

use muster_coordinator::{Config, MemberConfig, RunError, run};
use muster_protocol::view::{ErrorView, EventView, StatusView};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::fmt::Debug;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Without progress for this long, a test fails.
const STALLED: Duration = Duration::from_secs(60);

/// A cluster. Dropping it ends its coordinators.
pub struct Cluster {
    pub members: Vec<MemberConfig>,
    nodes: Vec<Option<Node>>,
    directory: TempDir,
    nats: String,
    pub client: Client,
}

struct Node {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Cluster {
    /// Starts this many coordinators.
    pub fn start(count: usize) -> Cluster {
        let listeners: Vec<TcpListener> =
            (0..=2 * count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let list: Vec<String> = (0..count)
            .map(|n| format!("c{}=127.0.0.1:{}/127.0.0.1:{}", n + 1, ports[2 * n], ports[2 * n + 1]))
            .collect();
        let mut cluster = Cluster {
            members: muster_coordinator::members(&list.join(",")).unwrap(),
            nodes: (0..count).map(|_| None).collect(),
            directory: tempfile::tempdir().unwrap(),
            // No broker listens there.
            nats: format!("nats://127.0.0.1:{}", ports[2 * count]),
            client: Client::builder().no_proxy().tcp_nodelay(true).build().unwrap(),
        };
        (0..count).for_each(|n| cluster.start_one(n));
        cluster
    }

    pub fn data(&self, n: usize) -> PathBuf {
        self.directory.path().join(&self.members[n].name)
    }

    pub fn config(&self, n: usize) -> Config {
        let member = &self.members[n];
        Config {
            name: member.name.clone(),
            cluster: "test".to_string(),
            data: self.data(n),
            http: member.http.parse().unwrap(),
            peer: member.peer.parse().unwrap(),
            members: self.members.clone(),
            nats: self.nats.clone(),
        }
    }

    pub fn start_one(&mut self, n: usize) {
        let (stop, stopped) = oneshot::channel();
        let config = self.config(n);
        let task = tokio::spawn(run(config, async { drop(stopped.await) }));
        self.nodes[n] = Some(Node { stop, task });
    }

    /// Shuts one down in an orderly way.
    pub async fn stop_one(&mut self, n: usize) {
        let node = self.nodes[n].take().unwrap();
        node.stop.send(()).unwrap();
        node.task.await.unwrap().unwrap();
    }

    pub fn peer(&self, n: usize) -> SocketAddr {
        self.members[n].peer.parse().unwrap()
    }

    pub fn url(&self, n: usize, path: &str) -> String {
        format!("http://{}{path}", self.members[n].http)
    }

    pub async fn get(&self, n: usize, path: &str) -> reqwest::Result<Response> {
        self.client.get(self.url(n, path)).send().await
    }

    /// Gets a document that must exist.
    pub async fn document<T: serde::de::DeserializeOwned>(&self, n: usize, path: &str) -> T {
        let response = self.get(n, path).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    /// Sends a request, and returns the status and the document.
    pub async fn send(
        &self,
        n: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let mut request = self.client.request(method, self.url(n, path)).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn post(&self, n: usize, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
        let headers: Vec<(&str, &str)> =
            key.map(|key| ("Idempotency-Key", key)).into_iter().chain([("X-Muster-Actor", "ada")]).collect();
        self.send(n, Method::POST, path, &headers, &body.to_string()).await
    }

    /// Submits until the outcome is known, as a client does.
    pub async fn submit(&self, n: usize, name: &str) -> String {
        let key = uuid::Uuid::now_v7().to_string();
        wait_for("a submit", || async {
            let sent = self
                .client
                .post(self.url(n, "/v1/jobs"))
                .header("Idempotency-Key", &key)
                .json(&job(name))
                .send()
                .await;
            let response = sent.map_err(|error| error.to_string())?;
            let status = response.status();
            let document: Value = response.json().await.map_err(|error| error.to_string())?;
            match status {
                StatusCode::OK => Ok(document["job"].as_str().unwrap().to_string()),
                status if status.is_server_error() => Err(document.to_string()),
                status => panic!("{status}: {document}"),
            }
        })
        .await
    }

    pub async fn status(&self, n: usize) -> Result<StatusView, String> {
        let response = self.get(n, "/v1/status").await.map_err(|error| error.to_string())?;
        response.json().await.map_err(|error| error.to_string())
    }

    /// The leader that all running coordinators agree on.
    pub async fn leader(&self) -> usize {
        wait_for("a leader", || async {
            let mut seen = Vec::new();
            for n in (0..self.nodes.len()).filter(|n| self.nodes[*n].is_some()) {
                seen.push(self.status(n).await?.leader);
            }
            let agreed =
                self.members.iter().position(|member| seen.iter().all(|leader| *leader == member.name));
            match agreed {
                // It has taken over once it lists jobs.
                Some(leader)
                    if self
                        .get(leader, "/v1/jobs")
                        .await
                        .is_ok_and(|response| response.status().is_success()) =>
                {
                    Ok(leader)
                }
                _ => Err(format!("{seen:?}")),
            }
        })
        .await
    }

    /// Every event of one ledger, in pages.
    pub async fn events(&self, n: usize) -> Vec<EventView> {
        let (mut events, mut next) = (Vec::<EventView>::new(), 1);
        loop {
            let page: Vec<EventView> = self.document(n, &format!("/v1/events?from={next}&limit=3")).await;
            let Some(last) = page.last() else { return events };
            next = last.index.0 + 1;
            events.extend(page);
        }
    }
}

/// The smallest job.
pub fn job(name: &str) -> Value {
    json!({ "name": name, "stages": [{ "name": "one", "tasks": 2, "work": { "type": "process", "argv": ["true"] } }] })
}

pub fn error(document: &Value) -> ErrorView {
    serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Polls until there is a value. An `Err` describes the progress: the test fails when it no longer changes.
pub async fn wait_for<T, F: Future<Output = Result<T, P>>, P: Debug + PartialEq>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let (mut last, mut since) = (None, Instant::now());
    loop {
        let progress = match look().await {
            Ok(value) => return value,
            Err(progress) => Some(progress),
        };
        if last != progress {
            (last, since) = (progress, Instant::now());
        }
        assert!(since.elapsed() < STALLED, "waiting for {what}: no progress; the last seen was {last:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
