//! Labelling while the worker and the leader are killed: acknowledged labels are kept, and the job ends.

use crate::{await_end, leader_api, task};
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::spec::{BuiltinWork, Work};
use muster_tests::cluster::api::{job_of, new_request, stage_of};
use muster_tests::cluster::{Cluster, Shape, wait_for};
use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

const ITEMS: usize = 8;

/// Someone who labels through the form of a job's only task, wherever it runs.
struct Annotator<'a> {
    cluster: &'a Cluster,
    http: &'a Client,
    task: TaskId,
    who: &'static str,
}

impl Annotator<'_> {
    /// The URL of the form of the running attempt.
    fn url(&self) -> String {
        wait_for("the form", || {
            let task = task(self.cluster, self.task);
            let epoch = task.attempt.map(|attempt| u64::from(attempt.epoch));
            let record = task
                .progress
                .get("url")
                .filter(|record| task.state == "running" && Some(record.seq) == epoch);
            let body: Value =
                serde_json::from_str(&record.ok_or(format!("{} {epoch:?}", task.state))?.body).unwrap();
            Ok::<_, String>(body["url"].as_str().unwrap().to_owned())
        })
    }

    /// Labels an item; repeats until it is acknowledged.
    fn label(&self, item: usize, label: &str) {
        let body = json!({"who": self.who, "item": item.to_string(), "label": label});
        wait_for("an acknowledged label", || {
            let sent = self.http.post(format!("{}/label", self.url())).json(&body).send();
            match sent.map(|response| response.status()) {
                Ok(StatusCode::OK) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// The labels of each item, as the form exports them.
    fn labels(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let text = wait_for("the export", || {
            self.http
                .get(format!("{}/items.jsonl", self.url()))
                .send()
                .and_then(|sent| sent.text())
                .map_err(|e| e.to_string())
        });
        labels_of(&text)
    }
}

fn person<'a>(cluster: &'a Cluster, http: &'a Client, task: TaskId, who: &'static str) -> Annotator<'a> {
    Annotator { cluster, http, task, who }
}

fn labels_of(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |line: &str| {
        let item: Value = serde_json::from_str(line).unwrap();
        let labels = item["labels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|label| (string(&label["who"]), string(&label["label"])));
        (string(&item["id"]), labels.collect())
    };
    text.lines().map(line).collect()
}

fn submit(cluster: &Cluster) -> JobId {
    // The first lines of a source file that are long enough.
    let source = include_str!("../../../protocol/src/limits.rs");
    let texts = source.lines().filter(|line| line.len() > 20).take(ITEMS);
    let items: String = texts.map(|text| format!("{}\n", json!({"text": text, "proposal": "doc"}))).collect();
    assert_eq!(items.lines().count(), ITEMS);
    let file = cluster.directory().join("items.jsonl");
    fs::write(&file, items).unwrap();
    let params = json!({"items": file, "labels": ["doc", "code"], "per_item": 2}).to_string();
    let mut stage =
        stage_of("label", 1, Work::Builtin(BuiltinWork { executor: "data.annotate".to_owned(), params }));
    stage.request.cpu_milli = 0;
    leader_api(cluster).submit(&job_of("people", stage), new_request()).unwrap()
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn acknowledged_labels_outlive_the_worker_and_the_leader() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let http = Client::builder().no_proxy().build().unwrap();
    let job = submit(&cluster);
    let only = TaskId { job, index: 0 };

    person(&cluster, &http, only, "ann").label(1, "doc");
    person(&cluster, &http, only, "ann").label(2, "doc");
    person(&cluster, &http, only, "ann").label(2, "code");
    let before = task(&cluster, only);
    let index = if before.worker_name.as_deref() == Some("w1") { 0 } else { 1 };
    cluster.kill_worker(index);
    wait_for("another attempt", || {
        let now = task(&cluster, only);
        if now.state == "running" && now.attempt > before.attempt { Ok(()) } else { Err(now.state) }
    });
    let labels = person(&cluster, &http, only, "ann").labels();
    assert_eq!(labels["1"], [("ann".to_owned(), "doc".to_owned())]);
    assert_eq!(labels["2"], [("ann".to_owned(), "code".to_owned())], "the newer one counts");
    assert_eq!(task(&cluster, only).retries, 0);

    // A label that arrives without a leader waits for one.
    let leader = cluster.leader();
    cluster.kill_coordinator(leader);
    for item in 3..=4 {
        person(&cluster, &http, only, "ann").label(item, "doc");
    }
    cluster.start_coordinator(leader).unwrap();

    // The rest comes by the command line, all or nothing.
    let id = job.to_string();
    let url = cluster.muster(&["annotate", &id, "open"]);
    assert_eq!(String::from_utf8_lossy(&url.stdout).trim(), person(&cluster, &http, only, "ann").url());
    let file = cluster.directory().join("labels.jsonl");
    let file = file.to_str().unwrap();
    let line = |item: usize, who: &str, label: &str| {
        format!("{}\n", json!({"item": item.to_string(), "who": who, "label": label}))
    };
    fs::write(file, line(5, "ann", "doc") + "{}\n" + &line(99, "ann", "doc")).unwrap();
    let refused = cluster.muster(&["annotate", &id, "import", file]);
    assert_eq!(refused.status.code(), Some(2), "{}", printed(&refused));
    assert!(printed(&refused).contains("line 2: "), "{}", printed(&refused));
    fs::write(file, (5..=8).map(|item| line(item, "ann", "doc")).collect::<String>()).unwrap();
    let taken = cluster.muster(&["annotate", &id, "label", "import", file, "--json"]);
    assert!(taken.status.success(), "{}", printed(&taken));
    assert_eq!(
        serde_json::from_slice::<Value>(&taken.stdout).unwrap(),
        json!({"new": 4, "changed": 0, "repeated": 0})
    );
    let unknown = cluster.muster(&["annotate", &id, "nosuch", "status"]);
    assert!(
        unknown.status.code() == Some(2) && printed(&unknown).contains("there is label"),
        "{}",
        printed(&unknown)
    );
    let export = cluster.directory().join("export.jsonl");
    let exported = cluster.muster(&["annotate", &id, "export", "-o", export.to_str().unwrap()]);
    assert!(exported.status.success() && printed(&exported).contains("8 items"), "{}", printed(&exported));
    assert_eq!(
        labels_of(&fs::read_to_string(&export).unwrap()),
        person(&cluster, &http, only, "ann").labels()
    );

    for item in 1..=ITEMS {
        // The last answer may be lost with the form's end: the label is not.
        if item == ITEMS {
            let body = json!({"who": "bob", "item": item.to_string(), "label": "code"});
            let _ =
                http.post(format!("{}/label", person(&cluster, &http, only, "ann").url())).json(&body).send();
        } else {
            person(&cluster, &http, only, "bob").label(item, "doc");
        }
    }
    assert_eq!(await_end(&cluster, job).terminal, Some(Terminal::Succeeded));
    let ended = task(&cluster, only);
    let Some(Outcome::Succeeded(succeeded)) = &ended.outcome else { panic!("{ended:?}") };
    let output: Value = serde_json::from_str(&succeeded.output).unwrap();
    let figures = ["items", "decided", "differing", "open", "labels", "people"]
        .map(|key| output[key].as_u64().unwrap());
    assert_eq!(figures, [8, 6, 2, 0, 16, 2]);
    // Fourteen of sixteen labels are as proposed, and two items of eight differ.
    assert_eq!((&output["raw"], &output["confirmed"]), (&json!(0.75), &json!(0.875)));
    assert!(
        ended.progress.len() <= 4,
        "the state does not grow with the labels: {:?}",
        ended.progress.keys()
    );
    let artifacts = cluster.directory().join("artifacts");
    let again = cluster.muster(&["annotate", &id, "export", "--artifacts", artifacts.to_str().unwrap()]);
    let labels = labels_of(&String::from_utf8(again.stdout).unwrap());
    assert!(labels.values().all(|labels| labels.len() == 2), "{labels:?}");
    let over = cluster.muster(&["annotate", &id, "open"]);
    assert!(over.status.code() == Some(2) && printed(&over).contains("has succeeded"), "{}", printed(&over));
}
