//! People at the form of `data.annotate`, over real sockets, with attempts that are killed.

use super::fake::Cluster;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const ITEMS: &str = r#"{"id": "a", "text": "fn <b>&\"'", "proposal": "good", "lang": "rs"}
{"id": "b/1", "text": "two\nlines", "proposal": "bad"}
{"id": "c", "text": "three"}
"#;

/// How often a stage's records are polled.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A client of a stage that runs in a thread.
struct Stage {
    cluster: Cluster,
    task: u32,
    running: Option<JoinHandle<Vec<Result<Value, String>>>>,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Stage {
    fn new(dir: &Path, items: &str, params: Value) -> Stage {
        let file = dir.join("items.jsonl");
        std::fs::write(&file, items).unwrap();
        let mut all = json!({"items": file, "question": "Is it <good>?"});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        Stage::of(Cluster::new(dir), all)
    }

    /// The same, in a cluster that earlier attempts have used.
    fn of(cluster: Cluster, params: Value) -> Stage {
        cluster.stage("label", "data.annotate", 1, false, &params.to_string());
        let task = cluster.memory.lock().unwrap().stages.last().unwrap().tasks[0];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let mut stage = Stage { cluster, task, running: None, runtime, client };
        stage.start();
        stage
    }

    /// Starts an attempt, and waits until it serves.
    fn start(&mut self) {
        let (cluster, before) = (self.cluster.clone(), self.url());
        self.running = Some(thread::spawn(move || cluster.run("label")));
        while self.url() == before && !self.running.as_ref().unwrap().is_finished() {
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The number of the serving attempt, and its address.
    fn url(&self) -> (u64, String) {
        let memory = self.cluster.memory.lock().unwrap();
        let record = memory.records.get(&self.task).and_then(|records| records.get("url"));
        record.map_or((0, String::new()), |record| {
            let body: Value = serde_json::from_str(&record.body).unwrap();
            (record.seq, body["url"].as_str().unwrap().to_owned())
        })
    }

    fn end(&mut self) -> Result<Value, String> {
        self.running.take().unwrap().join().unwrap().remove(0)
    }

    fn text(&self, sent: impl Future<Output = Result<Response, reqwest::Error>>) -> (StatusCode, String) {
        self.runtime.block_on(async {
            let response = sent.await.unwrap();
            (response.status(), response.text().await.unwrap())
        })
    }

    fn get(&self, path: &str) -> (StatusCode, String) {
        self.text(self.client.get(format!("{}{path}", self.url().1)).send())
    }

    /// Posts a form as a browser does.
    fn save(&self, who: &str, item: &str, label: &str) -> (StatusCode, String) {
        let body: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("who", who), ("item", item), ("label", label)])
            .finish();
        let request = self
            .client
            .post(format!("{}/label", self.url().1))
            .header("content-type", "application/x-www-form-urlencoded");
        self.text(request.body(body).send())
    }

    fn import(&self, lines: &str) -> (StatusCode, Value) {
        let (status, text) = self
            .text(self.client.post(format!("{}/labels.jsonl", self.url().1)).body(lines.to_owned()).send());
        (status, serde_json::from_str(&text).unwrap())
    }

    fn exported(&self) -> Vec<Value> {
        let (status, text) = self.get("/items.jsonl");
        assert_eq!(status, StatusCode::OK);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn artifact(&self, hash: &Value) -> Vec<u8> {
        let artifacts =
            muster_attempt::artifacts::Artifacts::open(&self.cluster.dir.join("artifacts")).unwrap();
        artifacts.get(hash.as_str().unwrap().parse().unwrap()).unwrap()
    }
}

#[test]
fn people_label_twice_confirm_and_decide() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage =
        Stage::new(dir.path(), ITEMS, json!({"labels": ["good", "bad"], "per_item": 2, "adjudicate": true}));
    let (status, first) = stage.get("/");
    assert!(
        status == StatusCode::OK && first.contains("Your name") && first.contains("Is it &lt;good&gt;?"),
        "{first}"
    );
    let (_, page) = stage.get("/?who=ann");
    assert!(page.contains("fn &lt;b&gt;&amp;&quot;&#39;") && !page.contains("fn <b>"), "{page}");
    assert!(page.contains("value=\"good\" checked") && page.contains("A model proposes"), "{page}");
    // The label is saved, and the form shows the next item, whose proposal is the other label.
    let (status, page) = stage.save("ann", "a", "good");
    assert!(
        status == StatusCode::OK && page.contains("Saved: a") && page.contains("value=\"bad\" checked"),
        "{page}"
    );
    stage.save("ann", "b/1", "good");
    stage.save("ann", "c", "good");
    let (_, page) = stage.get("/?who=ann");
    assert!(page.contains("Nothing is left for you"), "{page}");
    // A second label by the same person replaces the first.
    let (_, page) = stage.get("/?who=ann&item=b%2F1");
    assert!(page.contains("This is your label") && page.contains("value=\"good\" checked"), "{page}");
    stage.save("ann", "c", "bad");
    for (item, label) in [("a", "good"), ("b/1", "bad"), ("c", "bad")] {
        assert_eq!(stage.save("bob", item, label).0, StatusCode::OK);
    }
    let status: Value = serde_json::from_str(&stage.get("/status.json").1).unwrap();
    assert_eq!(
        (&status["complete"], &status["standings"]["disputed"], &status["replaced"]),
        (&json!(2), &json!(1), &json!(1))
    );
    // The two annotators may not adjudicate; a third is shown only the disputed items.
    assert!(stage.get("/?who=bob").1.contains("Nothing is left for you"));
    let (_, page) = stage.get("/?who=eve");
    assert!(
        page.contains("Others differ: <q>good</q>, <q>bad</q>. You decide.") && !page.contains("ann"),
        "{page}"
    );
    assert_eq!(stage.save("eve", "a", "bad").0, StatusCode::CONFLICT);
    let (status, page) = stage.save("eve", "b/1", "bad");
    assert!(status == StatusCode::OK && page.contains("Every item has its labels"), "{page}");

    let output = stage.end().unwrap();
    let figures = ["items", "decided", "differing", "open", "labels", "people"]
        .map(|key| output[key].as_u64().unwrap());
    assert_eq!(figures, [3, 3, 0, 0, 7, 3]);
    // Ann: good good bad; Bob: good bad bad. Four of the five labels of items with a proposal equal it.
    assert_eq!(
        (&output["raw"], &output["kappa"], &output["alpha"]),
        (&json!(0.666667), &json!(0.4), &json!(0.444444))
    );
    assert_eq!(output["confirmed"], json!(0.8));
    let lines = String::from_utf8(stage.artifact(&output["labelled"])).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["label"], &lines[0]["standing"], &lines[0]["source"]["lang"]),
        (&json!("good"), &json!("agreed"), &json!("rs"))
    );
    assert_eq!(
        (&lines[1]["label"], &lines[1]["standing"], &lines[1]["labels"][0]["confirmed"]),
        (&json!("bad"), &json!("adjudicated"), &json!(false))
    );
    let report: Value = serde_json::from_slice(&stage.artifact(&output["report"])).unwrap();
    assert_eq!(report["differing"][0]["labels"], json!([["ann", "good"], ["bob", "bad"], ["eve", "bad"]]));
    assert_eq!(report["agreement"]["confusion"].as_array().unwrap().len(), 3);
}

#[test]
fn what_was_acknowledged_outlives_the_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(dir.path(), ITEMS, json!({"labels": ["good", "bad"]}));
    stage.cluster.memory.lock().unwrap().patience = Some(("labels", 2));
    assert_eq!(stage.save("ann", "a", "good").0, StatusCode::OK);
    assert_eq!(stage.save("ann", "a", "bad").0, StatusCode::OK);
    let (status, page) = stage.save("ann", "c", "bad");
    assert!(
        status == StatusCode::GATEWAY_TIMEOUT && page.contains("not known whether this was stored"),
        "{page}"
    );
    stage.end().unwrap_err();

    stage.cluster.memory.lock().unwrap().patience = None;
    // The file may change: the items are those that were read at first.
    std::fs::write(dir.path().join("items.jsonl"), "garbage").unwrap();
    let before = stage.url();
    stage.start();
    assert_eq!((stage.url().0, stage.url().1), (2, before.1), "people need not be told another address");
    let lines = stage.exported();
    assert_eq!((&lines[0]["label"], &lines[2]["labels"]), (&json!("bad"), &json!([])));
    // A repeat changes nothing, not even the log.
    let records = |stage: &Stage| stage.cluster.memory.lock().unwrap().ledger.len();
    let count = records(&stage);
    assert_eq!(stage.save("ann", "a", "bad").0, StatusCode::OK);
    assert_eq!(records(&stage), count);
    stage.save("ann", "c", "bad");
    stage.save("bob", "b/1", "good");
    let output = stage.end().unwrap();
    assert_eq!(
        (&output["decided"], &output["kappa"], &output["raw"]),
        (&json!(3), &Value::Null, &Value::Null)
    );
    // Killed before its output arrived, it produces the same output again, without a form.
    stage.start();
    assert_eq!(stage.end().unwrap(), output);
    // The history is in the chain: four labels, with the one that was replaced.
    let head = stage.cluster.record(0, "labels");
    assert_eq!(head.body, r#"{"labels":4,"complete":3,"items":3}"#);
    let batch: Value =
        serde_json::from_slice(&stage.artifact(&json!(head.payload_hash.to_string()))).unwrap();
    assert!(batch["before"] == json!(3) && batch["parent"].is_string(), "{batch}");
}

#[test]
fn an_import_is_taken_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(dir.path(), ITEMS, json!({"labels": ["good", "bad"], "allow_partial": true}));
    let (status, said) =
        stage.import("{\"item\": \"a\", \"who\": \"ann\", \"label\": \"good\"}\n[1\n\n{\"item\": \"c\", \"who\": \"ann\"}\n");
    assert_eq!(
        (status, &said["lines"][0]["line"], &said["lines"][1]["line"]),
        (StatusCode::BAD_REQUEST, &json!(2), &json!(4))
    );
    let lines = [
        json!({"item": "a", "who": "ann", "label": "good"}),
        json!({"item": "x", "who": "ann", "label": "good"}),
        json!({"item": "b/1", "who": "ann\n", "label": "good"}),
        json!({"item": "c", "who": "ann", "label": "meh"}),
        json!({"item": "a", "who": "bob", "label": "good"}),
    ];
    let jsonl = |lines: &[Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let (status, said) = stage.import(&jsonl(&lines));
    let found: Vec<(u64, &str)> = said["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["message"].as_str().unwrap()))
        .collect();
    assert_eq!(
        (status, found.iter().map(|(line, _)| *line).collect::<Vec<_>>()),
        (StatusCode::BAD_REQUEST, vec![2, 3, 4, 5])
    );
    assert!(
        found[0].1.contains("no item \"x\"") && found[2].1.contains("one of \"good\", \"bad\", not \"meh\""),
        "{found:?}"
    );
    assert!(stage.exported().iter().all(|line| line["labels"] == json!([])), "nothing is half taken");

    let good = [
        json!({"item": "a", "who": "ann", "label": "bad", "more": 1}),
        json!({"item": "a", "who": "ann", "label": "good"}),
    ];
    assert_eq!(stage.import(&jsonl(&good)), (StatusCode::OK, json!({"new": 1, "changed": 1, "repeated": 0})));
    assert_eq!(
        stage.import(&jsonl(&good[1..])),
        (StatusCode::OK, json!({"new": 0, "changed": 0, "repeated": 1}))
    );
    let post = |path: &str, origin: &str, host: &str| {
        let request =
            stage.client.post(format!("{}{path}", stage.url().1)).header("content-type", "application/json");
        stage.text(request.header("origin", origin).header("host", host).body(r#"{"who": "ann"}"#).send())
    };
    let host = stage.url().1.trim_start_matches("http://").to_owned();
    assert_eq!(post("/close", "http://evil.example", &host).0, StatusCode::FORBIDDEN);
    assert_eq!(post("/close", "http://evil.example", "evil.example").0, StatusCode::FORBIDDEN);
    assert_eq!(post("/close", &format!("http://{host}"), &host).0, StatusCode::OK);
    let output = stage.end().unwrap();
    assert_eq!(
        (&output["decided"], &output["open"], &output["confirmed"]),
        (&json!(1), &json!(2), &json!(1.0))
    );
}

#[test]
fn many_people_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let items: String = (0..60).map(|n| format!("{{\"text\": \"item {n}\"}}\n")).collect();
    let mut stage = Stage::new(dir.path(), &items, json!({"per_item": 2}));
    let url = stage.url().1;
    stage.runtime.block_on(async {
        let people = ["ann", "bob"].iter().flat_map(|who| (1..=60).map(move |n| (*who, n)));
        let sent = people.map(|(who, n)| {
            let label = json!({"who": who, "item": n.to_string(), "label": format!("said of {n}")});
            stage.client.post(format!("{url}/label")).json(&label).timeout(Duration::from_secs(60)).send()
        });
        for answer in futures::future::join_all(sent).await {
            assert_eq!(answer.unwrap().status(), StatusCode::OK);
        }
    });
    let output = stage.end().unwrap();
    assert_eq!(
        (&output["labels"], &output["decided"], &output["alpha"]),
        (&json!(120), &json!(60), &json!(1.0))
    );
    let records = stage.cluster.record(0, "labels").seq;
    assert!(records <= 120, "{records}");
}

#[test]
fn what_does_not_fit_is_said_before_anybody_labels() {
    let table = [
        (ITEMS, json!({"labels": ["good", "good"]}), "is given twice"),
        (
            ITEMS,
            json!({"labels": ["good"]}),
            "use the proposals: the label of \"b/1\" is one of \"good\", not \"bad\"",
        ),
        (ITEMS, json!({"adjudicate": true}), "nothing to decide between"),
        (ITEMS, json!({"items_stage": "scan"}), "both `items` and `items_stage` are set"),
        (ITEMS, json!({"bind": "here"}), "`bind` is an address and a port"),
        ("", json!({}), "there are 0"),
        ("[]", json!({}), "line 1 of "),
    ];
    for (items, params, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        let message = Stage::new(dir.path(), items, params).end().unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_label_that_the_log_does_not_hold_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(dir.path(), ITEMS, json!({}));
    stage.cluster.memory.lock().unwrap().usurped = Some("labels");
    let (status, page) = stage.save("ann", "a", "said");
    assert!(status == StatusCode::GATEWAY_TIMEOUT && page.contains("of another attempt instead"), "{page}");
    assert!(stage.end().unwrap_err().contains("of another attempt instead"));
}

#[test]
fn documents_of_a_scan_are_edited_and_proposals_come_from_a_stage() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(dir.path());
    let roots = json!({"roots": [concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/src")], "max_mib": 1});
    cluster.stage("scan", "data.scan", 1, false, &roots.to_string());
    cluster.succeed("scan");
    cluster.stage("model", "data.scan", 1, false, "");
    // The order of documents is up to the scan, so all get the same proposal.
    let mut first =
        Stage::of(cluster.clone(), json!({"items_stage": "scan", "items_max": 2, "allow_partial": true}));
    let ids: Vec<String> =
        first.exported().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| id.ends_with(".rs")), "{ids:?}");
    let close = first.client.post(format!("{}/close", first.url().1)).json(&json!({"who": "ann"})).send();
    assert_eq!(first.text(close).0, StatusCode::OK);
    first.end().unwrap();

    let proposals: String =
        ids.iter().map(|id| format!("{}\n", json!({"item": id, "label": "proposed & shorter"}))).collect();
    let artifacts = muster_attempt::artifacts::Artifacts::open(&dir.path().join("artifacts")).unwrap();
    let hash = artifacts.put(proposals.as_bytes()).unwrap();
    cluster.memory.lock().unwrap().outputs.insert(1, json!({"proposals": hash.to_string()}).to_string());
    cluster.memory.lock().unwrap().stages.last_mut().unwrap().name = "earlier";
    let mut second =
        Stage::of(cluster, json!({"items_stage": "scan", "items_max": 2, "propose_stage": "model"}));
    let (_, page) = second.get("/?who=ann");
    assert!(page.contains("<textarea") && page.contains("proposed &amp; shorter</textarea>"), "{page}");
    second.save("ann", &ids[0], "proposed & shorter");
    second.save("ann", &ids[1], "as I\r\nwould say it");
    let output = second.end().unwrap();
    assert_eq!((&output["decided"], &output["confirmed"]), (&json!(2), &json!(0.5)));
    let lines = String::from_utf8(second.artifact(&output["labelled"])).unwrap();
    assert!(lines.lines().nth(1).unwrap().contains(r#""label":"as I\nwould say it""#), "{lines}");
}
