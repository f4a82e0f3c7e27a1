//! One file per group of verbs: each asks a cluster, and shows what it said.

mod annotate;
mod audit;
mod change;
mod events;
mod logs;
mod look;
mod replay;
mod submit;
mod wait;
mod watch;

use crate::args::{Audited, ServerArgs, Verb};
use crate::client::Client;
use crate::failure::Failure;
use crate::{demo, local, servers};
use std::sync::Arc;
use std::time::Duration;

/// Runs a verb.
pub async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Up(arguments) => local::up::up(arguments).await,
        Verb::Demo(arguments) => demo::demo(arguments).await,
        Verb::Submit(arguments) => submit::submit(arguments).await,
        Verb::Run(arguments) => submit::run(arguments).await,
        Verb::List(arguments) => look::list(arguments).await,
        Verb::Show(arguments) => look::show(arguments).await,
        Verb::Tasks(arguments) => look::tasks(arguments).await,
        Verb::Logs(arguments) => logs::logs(arguments).await,
        Verb::Wait(arguments) => wait::wait(arguments).await,
        Verb::Watch(arguments) => watch::watch(arguments).await,
        Verb::Cancel(arguments) => change::cancel(arguments).await,
        Verb::Retry(arguments) => change::retry(arguments).await,
        Verb::Annotate(arguments) => annotate::annotate(arguments).await,
        Verb::Events(arguments) => events::events(arguments).await,
        Verb::Replay(arguments) => replay::replay(arguments).await,
        Verb::Audit(arguments) => match arguments.what {
            Audited::Samples(arguments) => audit::samples(arguments).await,
        },
        Verb::Workers(arguments) => look::workers(arguments).await,
        Verb::Drain(arguments) => change::drain(arguments).await,
        Verb::Status(arguments) => look::status(arguments).await,
        Verb::Coordinator(arguments) => servers::coordinator(arguments).await,
        Verb::Worker(arguments) => servers::worker(arguments).await,
        Verb::Broker(arguments) => servers::broker(arguments).await,
        // It has run before there was a runtime.
        Verb::Executor(_) => Ok(()),
    }
}

/// A client as the flags say.
fn client(arguments: &ServerArgs) -> Result<Arc<Client>, Failure> {
    Ok(Arc::new(Client::new(&arguments.url, Duration::from_millis(arguments.patience))?))
}
