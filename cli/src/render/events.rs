//! One event, one line.

use super::style::{Style, truncate};
use super::{cluster, time};
use muster_protocol::event::Event;
use muster_protocol::view::EventView;

const TEXT_CHARS_MAX: usize = 100;

/// `   1000.2  22:13:20  attempt ended       job-42.7#2 succeeded after 65 s`.
pub fn line(view: &EventView, style: Style) -> String {
    let position = format!("{}.{}", view.index, view.ordinal);
    let (what, about, state) = describe(&view.event);
    let about = match state {
        Some(state) => about.replacen("{}", &style.state(state), 1),
        None => about,
    };
    let line = format!(
        "{}  {}  {what:<17}  {about}",
        style.dim(&format!("{position:>9}")),
        style.dim(&time::clock(view.wall_ms))
    );
    line.trim_end().to_string()
}

/// What happened, to what, and the state that is coloured where `{}` stands.
fn describe(event: &Event) -> (&'static str, String, Option<&'static str>) {
    let text = |text: &str| truncate(text, TEXT_CHARS_MAX);
    match event {
        Event::JobSubmitted(e) => {
            ("job submitted", format!("{} {} by {}", e.job, text(&e.spec.name), text(&e.actor)), None)
        }
        Event::JobCancelled(e) => ("job cancelled", format!("{} {}", e.job, text(&e.reason)), None),
        Event::JobEnded(e) => {
            ("job ended", format!("{} {{}} {}", e.job, text(&e.reason)), Some(e.terminal.word()))
        }
        Event::JobRetried(e) => ("job retried", e.job.to_string(), None),
        Event::StageReadied(e) => ("stage readied", format!("{} stage {}", e.job, e.stage.0), None),
        Event::StageSealed(e) => ("stage sealed", format!("{} stage {}", e.job, e.stage.0), None),
        Event::StageSucceeded(e) => ("stage succeeded", format!("{} stage {}", e.job, e.stage.0), None),
        Event::TasksAdded(e) => {
            let first = u64::from(e.first);
            let last = (first + e.children.len() as u64).saturating_sub(1);
            ("tasks added", format!("{}.{first} to .{last} by {}", e.parent.task.job, e.parent), None)
        }
        Event::WorkerRegistered(e) => {
            let has = &e.hello.capacity;
            let gpus = if has.gpus > 0 { format!(", {} GPUs", has.gpus) } else { String::new() };
            let has =
                format!("{} CPUs, {}{gpus}", cluster::cpus(has.cpu_milli), cluster::memory(has.memory_mib));
            (
                "worker registered",
                format!("{} {} at {}: {has}", e.worker, text(&e.hello.name), text(&e.hello.address)),
                None,
            )
        }
        Event::WorkerSuspected(e) => ("worker suspected", format!("{} {{}}", e.worker), Some("suspect")),
        Event::WorkerRecovered(e) => ("worker recovered", format!("{} {{}}", e.worker), Some("alive")),
        Event::WorkerLost(e) => ("worker lost", format!("{} {{}}", e.worker), Some("lost")),
        Event::WorkerDrained(e) => ("worker drained", e.worker.to_string(), None),
        Event::WorkerUndrained(e) => ("worker undrained", e.worker.to_string(), None),
        Event::TaskAssigned(e) => {
            let queued = if e.queued { ", queued" } else { "" };
            let gpus =
                if e.grant.gpus.is_empty() { String::new() } else { format!(", GPUs {:?}", e.grant.gpus) };
            ("task assigned", format!("{} to {}{gpus}{queued}", e.attempt, e.worker), None)
        }
        Event::GangFormed(e) => {
            let at = format!("{} port {}", e.rendezvous_worker, e.rendezvous_port);
            ("gang formed", format!("{} stage {}, formation {} at {at}", e.job, e.stage.0, e.formation), None)
        }
        Event::AttemptStarted(e) => ("attempt started", format!("{} pid {}", e.attempt, e.pid), None),
        Event::AttemptStopped(e) => (
            "attempt stopped",
            format!("{} {{}} {}", e.attempt, text(e.outcome.message())),
            Some(e.outcome.word()),
        ),
        Event::AttemptEnded(e) => {
            let took = time::duration(e.run_ms);
            let message = text(e.outcome.message());
            ("attempt ended", format!("{} {{}} after {took} {message}", e.attempt), Some(e.outcome.word()))
        }
        Event::TaskRequeued(e) => {
            let why = if e.counts { "a retry" } else { "costs no retry" };
            ("task requeued", format!("{} ({why})", e.task), None)
        }
        Event::TaskReadied(e) => ("task readied", e.task.to_string(), None),
        Event::TaskEnded(e) => ("task ended", format!("{} {{}}", e.task), Some(e.terminal.word())),
        Event::ProgressRecorded(e) => {
            ("progress", format!("{} {} {} {}", e.attempt, text(&e.key), e.seq, text(&e.body)), None)
        }
        Event::LeaderTookOver(e) => {
            ("leader took over", format!("{} in term {}", text(&e.name), e.term), None)
        }
        Event::CommandFaulted(e) => ("command faulted", text(&e.command), None),
        Event::VersionRaised(e) => ("version raised", e.version.to_string(), None),
        Event::RequestAnswered(e) => {
            ("request answered", format!("{} {}", e.request, e.answer.name().to_lowercase()), None)
        }
        Event::HintsUsed(e) => ("hints used", format!("of {} workers", e.hints.len()), None),
    }
}
