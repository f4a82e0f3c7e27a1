//! The client verbs: each calls the API and renders the answer.

mod annotate;
mod audit;
mod connect;
mod control;
mod events;
mod logs;
mod query;
mod replay;
mod submit;
mod wait;
mod watch;

use crate::args::{AuditTarget, Verb};
use crate::error::CliError;
use crate::{demo, local, servers};

pub async fn run(verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::Up(arguments) => local::up::up(arguments).await,
        Verb::Demo(arguments) => demo::demo(arguments).await,
        Verb::Submit(arguments) => submit::submit(arguments).await,
        Verb::Run(arguments) => submit::run(arguments).await,
        Verb::List(arguments) => query::list(arguments).await,
        Verb::Show(arguments) => query::show(arguments).await,
        Verb::Tasks(arguments) => query::tasks(arguments).await,
        Verb::Logs(arguments) => logs::logs(arguments).await,
        Verb::Wait(arguments) => wait::wait(arguments).await,
        Verb::Watch(arguments) => watch::watch(arguments).await,
        Verb::Cancel(arguments) => control::cancel(arguments).await,
        Verb::Retry(arguments) => control::retry(arguments).await,
        Verb::Annotate(arguments) => annotate::annotate(arguments).await,
        Verb::Events(arguments) => events::events(arguments).await,
        Verb::Replay(arguments) => replay::replay(arguments).await,
        Verb::Audit(arguments) => match arguments.what {
            AuditTarget::Samples(arguments) => audit::samples(arguments).await,
        },
        Verb::Workers(arguments) => query::workers(arguments).await,
        Verb::Drain(arguments) => control::drain(arguments).await,
        Verb::Status(arguments) => query::status(arguments).await,
        Verb::Coordinator(arguments) => servers::coordinator(arguments).await,
        Verb::Worker(arguments) => servers::worker(arguments).await,
        Verb::Broker(arguments) => servers::broker(arguments).await,
        // `main` runs executors without a runtime.
        Verb::Executor(_) => Ok(()),
    }
}
