//! The text of every view, word for word.

use super::style::Style;
use super::{cluster, demo, events, jobs, replay};
use muster_protocol::view::{EventView, JobDetail, JobView, ReplayView, StatusView, TaskPage, WorkerView};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::{env, fs};

/// The golden documents of the API.
fn example<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/golden/json").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_view_looks_as_it_is_written_down() {
    let style = Style::PLAIN;
    let job: JobView = example("job.json");
    let mut open = job.clone();
    (open.state, open.terminal, open.ended_ms, open.reason) =
        ("running".to_string(), None, None, String::new());
    let replayed: ReplayView = example("replay.json");
    let report = serde_json::from_str(include_str!("report.json")).unwrap();
    let shown = [
        ("list", jobs::list(&[open.clone(), job.clone()], style)),
        ("list of none", jobs::list(&[], style)),
        ("outcome", format!("{}\n{}\n", jobs::outcome(&open, style), jobs::outcome(&job, style))),
        ("show", jobs::show(&example::<JobDetail>("job-detail.json"), style)),
        ("tasks", jobs::tasks(&example::<TaskPage>("task-page.json"), style)),
        ("workers", cluster::workers(&[example::<WorkerView>("worker.json")], style)),
        ("status", cluster::status(&example::<StatusView>("status.json"), style)),
        ("event", format!("{}\n", events::line(&example::<EventView>("event.json"), style))),
        ("replay", replay::replay(&replayed, true, style)),
        ("demo", demo::report(&report, style)),
    ];
    let now: String = shown.iter().map(|(name, text)| format!("==== {name}\n{text}")).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/golden.txt");
    if env::var_os("MUSTER_RECORD").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let before = fs::read_to_string(&path).unwrap_or_default();
    assert!(before == now, "MUSTER_RECORD=1 writes this down:\n{now}");
}
