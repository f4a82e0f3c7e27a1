//! Server-sent events: a follower gets the same events as the list, also after it reconnects.

use crate::harness::Cluster;
use muster_protocol::view::EventView;
use reqwest::Response;

/// Reads server-sent events from a response.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(cluster: &Cluster, path: &str, last_id: Option<&str>) -> Stream {
        let mut request = cluster.client.get(cluster.url(0, path));
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream { response, text: String::new() }
    }

    /// The next event, with its id.
    async fn next(&mut self) -> (String, EventView) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(|value| value.trim().to_string())
                };
                let found = (field("id:"), field("data:"));
                self.text = rest.to_string();
                if let (Some(id), Some(data)) = found {
                    return (id, serde_json::from_str(&data).unwrap());
                }
                continue;
            }
            let piece = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.text += std::str::from_utf8(&piece).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_reconnects_misses_and_repeats_nothing() {
    let mut cluster = Cluster::start(1);
    cluster.leader().await;
    for n in 0..4 {
        cluster.submit(0, &format!("job {n}")).await;
    }
    let mut seen = Vec::new();
    let mut last: Option<String> = None;
    let listed = cluster.events(0).await;
    // Three events per connection, and a submit while no reader is connected.
    while seen.len() < listed.len() + 6 {
        let mut stream = Stream::open(&cluster, "/v1/events?follow=true", last.as_deref()).await;
        for _ in 0..3 {
            let (id, event) = stream.next().await;
            assert_eq!(id, format!("{}.{}", event.index, event.ordinal));
            seen.push(event);
            last = Some(id);
        }
        drop(stream);
        cluster.submit(0, "meanwhile").await;
    }
    let listed = cluster.events(0).await;
    assert_eq!(seen, listed[..seen.len()]);

    // Live: new events of one job arrive without further requests.
    let newest = listed.last().unwrap().index;
    let job = cluster.submit(0, "live").await;
    let mut stream =
        Stream::open(&cluster, &format!("/v1/events?follow=true&from={newest}&job={job}"), None).await;
    let (_, event) = stream.next().await;
    assert_eq!(event.cause, "SubmitJob");
    let (status, document) =
        cluster.post(0, &format!("/v1/jobs/{job}/cancel"), None, &serde_json::json!({})).await;
    assert_eq!(status, 200, "{document}");
    while stream.next().await.1.cause != "CancelJob" {}
    // A coordinator that shuts down ends its streams without waiting for their readers.
    cluster.stop_one(0).await;
}
