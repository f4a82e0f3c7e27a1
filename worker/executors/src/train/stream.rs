//! Dataset from a stage of loaders: where they listen is read from the log, whenever one of them can't be
//! reached.

use super::error::TrainError;
use super::spec::{Learning, TrainSpec};
use crate::error::Error;
use crate::launch::formation;
use crate::load::SERVE;
use muster_attempt::Attempt;
use muster_collective::loader::{BatchStream, LoaderAddress, Reader, Recipe};
use muster_protocol::ids::{Digest, TaskId};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A stream from the loaders of the stage that the parameters name. It fails if none answers for as long as
/// `outage`.
pub fn open(
    attempt: &mut Attempt,
    spec: &TrainSpec,
    data: Digest,
    outage: Duration,
) -> Result<BatchStream, Error> {
    let stage = spec.loader_stage.clone();
    let found = attempt.find_stage(&stage)?;
    if found.tasks == 0 {
        return Err(TrainError::NoLoaders { stage }.into());
    }
    let context = spec.context;
    let recipe = match spec.learning {
        Learning::Text { cut } => Recipe::Text { context, cut },
        Learning::Conversations(too_long) => Recipe::Conversations { context, too_long },
        Learning::Preferences => return Err(TrainError::StreamedPreferences.into()),
    };
    let reader = Reader {
        stage: attempt.launch.stage.0,
        formation: formation(attempt),
        rank: attempt.launch.rank,
        data: data.to_string(),
        recipe,
    };
    let job = attempt.task().job;
    let other = Mutex::new(attempt.try_clone()?);
    let directory = move |loader: u32| -> Result<LoaderAddress, String> {
        let task = TaskId { job, index: found.first_task + loader };
        let mut attempt = other.lock().unwrap_or_else(PoisonError::into_inner);
        let records = attempt.progress(task, SERVE).map_err(|error| error.to_string())?;
        let record = records.into_iter().find(|record| record.key == SERVE);
        let record =
            record.ok_or_else(|| format!("{task} of stage `{stage}` has not said yet where it listens"))?;
        serde_json::from_str(&record.body).map_err(|error| format!("read where {task} listens: {error}"))
    };
    attempt.say(&format!("samples come from {} loaders of stage `{}`", found.tasks, spec.loader_stage));
    Ok(BatchStream::open(reader, found.tasks, Box::new(directory), spec.prefetch, outage)?)
}
