//! Events, answers and views as lines of a transcript.

use muster_protocol::attempt_call::CallAnswer;
use muster_protocol::envelope::{Answer, Reply};
use muster_protocol::event::Event;
use muster_protocol::outcome::Outcome;
use muster_protocol::rejection::Rejection;
use muster_protocol::resources::Grant;
use muster_protocol::spec::TaskRef;
use muster_protocol::view::{JobView, TaskCounts, TaskView, WorkerView};

pub fn event(event: &Event) -> String {
    let name = event.name();
    match event {
        Event::JobSubmitted(e) => {
            format!("{name} {} `{}` by {} for {}", e.job, e.spec.name, e.actor, e.namespace)
        }
        Event::JobCancelled(e) => format!("{name} {}: {}", e.job, e.reason),
        Event::JobEnded(e) if e.reason.is_empty() => format!("{name} {} {}", e.job, e.terminal),
        Event::JobEnded(e) => format!("{name} {} {}: {}", e.job, e.terminal, e.reason),
        Event::JobRetried(e) => format!("{name} {}", e.job),
        Event::StageReadied(e) | Event::StageSealed(e) | Event::StageSucceeded(e) => {
            format!("{name} {} stage {}", e.job, e.stage.0)
        }
        Event::TasksAdded(e) => {
            let child = |child: &muster_protocol::spec::ChildSpec| {
                let after: Vec<String> = child.after.iter().map(task).collect();
                format!(
                    "[stage {} after {}]",
                    child.stage.0,
                    if after.is_empty() { "none".into() } else { after.join(",") }
                )
            };
            let children: Vec<String> = e.children.iter().map(child).collect();
            format!("{name} by {} from {}: {}", e.parent, e.first, children.join(" "))
        }
        Event::WorkerRegistered(e) => {
            format!("{name} {} `{}` boot {}", e.worker, e.hello.name, e.hello.boot.0)
        }
        Event::WorkerSuspected(e)
        | Event::WorkerRecovered(e)
        | Event::WorkerLost(e)
        | Event::WorkerDrained(e)
        | Event::WorkerUndrained(e) => format!("{name} {}", e.worker),
        Event::TaskAssigned(e) => {
            format!(
                "{name} {} to {}{}{}",
                e.attempt,
                e.worker,
                grant(&e.grant),
                if e.queued { " queued" } else { "" }
            )
        }
        Event::GangFormed(e) => {
            format!(
                "{name} {} stage {} formation {} at {}:{}",
                e.job, e.stage.0, e.formation, e.rendezvous_worker, e.rendezvous_port
            )
        }
        Event::AttemptStarted(e) => format!("{name} {} pid {}", e.attempt, e.pid),
        Event::AttemptStopped(e) => format!("{name} {} {}", e.attempt, outcome(&e.outcome)),
        Event::AttemptEnded(e) => {
            format!("{name} {} {} after {} ms", e.attempt, outcome(&e.outcome), e.run_ms)
        }
        Event::TaskRequeued(e) => {
            format!("{name} {} at {}{}", e.task, e.ready_at.0, if e.counts { ", counts" } else { "" })
        }
        Event::TaskReadied(e) => format!("{name} {}", e.task),
        Event::TaskEnded(e) => format!("{name} {} {}", e.task, e.terminal),
        Event::ProgressRecorded(e) => format!("{name} {} {} {} `{}`", e.attempt, e.key, e.seq, e.body),
        Event::LeaderTookOver(e) => format!("{name} {} `{}` term {}", e.leader, e.name, e.term),
        Event::CommandFaulted(e) => format!("{name} {}", e.command),
        Event::VersionRaised(e) => format!("{name} {}", e.version),
        Event::RequestAnswered(e) => format!("{name} {}", e.request.0),
        Event::HintsUsed(e) => format!("{name} {}", e.hints.len()),
    }
}

fn task(task: &TaskRef) -> String {
    match task {
        TaskRef::Existing(number) => number.index.to_string(),
        TaskRef::New(number) => format!("new {}", number.index),
    }
}

fn grant(grant: &Grant) -> String {
    if grant.gpus.is_empty() { String::new() } else { format!(" gpus {:?}", grant.gpus) }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome.message() {
        "" => outcome.word().into(),
        message => format!("{} ({message})", outcome.word()),
    }
}

pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Rejected(rejected) => format!("=> {}", rejection(&rejected.rejection)),
        Answer::Accepted(accepted) => match &accepted.reply {
            Reply::Done(_) => "=> done".into(),
            Reply::Submitted(submitted) => format!("=> {}", submitted.job),
            Reply::TasksAdded(added) => format!("=> {} tasks from {}", added.count, added.first),
            Reply::Registered(registered) => format!("=> {}", registered.worker),
        },
    }
}

fn rejection(rejection: &Rejection) -> String {
    format!("{}: {rejection}", rejection.name())
}

pub fn call_answer(answer: Option<&CallAnswer>) -> Vec<String> {
    match answer {
        None => vec!["becomes a command".into()],
        Some(CallAnswer::Outputs(outputs)) => {
            let lines = outputs.outputs.iter().map(|one| format!("{}: {}", one.task, one.output));
            lines.chain([format!("next {:?}", outputs.next)]).collect()
        }
        Some(CallAnswer::Records(records)) => {
            records.records.iter().map(|one| format!("{} {} `{}`", one.key, one.seq, one.body)).collect()
        }
        Some(CallAnswer::Found(found)) => {
            vec![format!("stage {}: {} tasks from {}", found.stage.0, found.tasks, found.first_task)]
        }
        Some(CallAnswer::Rejected(no)) => vec![rejection(no)],
        Some(CallAnswer::Added(_) | CallAnswer::Sealed(_)) => vec!["not an answer of the state alone".into()],
    }
}

fn counts(tasks: &TaskCounts) -> String {
    let counts = [
        ("pending", tasks.pending),
        ("assigned", tasks.assigned),
        ("running", tasks.running),
        ("succeeded", tasks.succeeded),
        ("failed", tasks.failed),
        ("cancelled", tasks.cancelled),
    ];
    let some: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    some.join(", ")
}

pub fn job(job: &JobView) -> String {
    let reason = if job.reason.is_empty() { String::new() } else { format!(" ({})", job.reason) };
    format!("{} `{}` {}{reason}: {}", job.id, job.name, job.state, counts(&job.tasks))
}

pub fn stage(stage: &muster_protocol::view::StageView) -> String {
    let sealed = if stage.sealed { "" } else { ", open" };
    format!("  {} {}{sealed}: {}", stage.name, stage.state, counts(&stage.tasks))
}

pub fn task_view(task: &TaskView) -> String {
    let attempt = task.attempt.map(|attempt| format!(" {attempt}")).unwrap_or_default();
    let worker = task.worker_name.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let outcome = task.outcome.as_ref().map(|one| format!(", last {}", outcome(one))).unwrap_or_default();
    let retries = if task.retries > 0 { format!(", {} retries", task.retries) } else { String::new() };
    let keys: Vec<String> = task.progress.iter().map(|(key, one)| format!(", {key} {}", one.seq)).collect();
    format!("{} {} {}{attempt}{worker}{outcome}{retries}{}", task.id, task.stage, task.state, keys.concat())
}

pub fn worker(worker: &WorkerView) -> String {
    let draining = if worker.draining { " draining" } else { "" };
    let attempts: Vec<String> = worker.attempts.iter().map(|attempt| format!(" {attempt}")).collect();
    let free = &worker.free;
    let amounts = format!("{} cpu {} MiB {} gpus free", free.cpu_milli, free.memory_mib, free.gpus);
    format!(
        "{} {} {}{draining}: {amounts}, {} queued,{}",
        worker.id,
        worker.name,
        worker.liveness,
        worker.queued,
        attempts.concat()
    )
}
