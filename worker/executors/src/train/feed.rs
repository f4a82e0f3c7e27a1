//! Samples from a stage of loaders: where they listen is read from the log, whenever one of them can't be
//! reached.

use super::setting::{Learning, Setting};
use crate::attempt::Attempt;
use crate::error::Error;
use crate::load::SERVE;
use muster_collective::loader::{Place, Reader, Recipe, Stream};
use muster_protocol::ids::{Digest, TaskId};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long no loader may answer: another one starts within a lease and a restart, if there is room for it.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 20 } else { 600 });

/// A stream from the loaders of the stage that the parameters name.
pub fn open(attempt: &mut Attempt, setting: &Setting, data: Digest) -> Result<Stream, Error> {
    let stage = setting.loader_stage.clone();
    let found = attempt.find_stage(&stage)?;
    if found.tasks == 0 {
        return Err(Error::Unfit(format!("find the loaders: stage `{stage}` has no task")));
    }
    let context = setting.context;
    let recipe = match setting.learning {
        Learning::Text { cut } => Recipe::Text { context, cut },
        Learning::Conversations(too_long) => Recipe::Conversations { context, too_long },
        Learning::Preferences => {
            return Err(Error::Unfit(
                "stream preferences: their reference is the model's, which loaders don't have".to_owned(),
            ));
        }
    };
    let reader = Reader {
        stage: attempt.launch.stage.0,
        formation: attempt.member().formation,
        rank: attempt.launch.rank,
        data: data.to_string(),
        recipe,
    };
    let job = attempt.task().job;
    let beside = Mutex::new(attempt.beside()?);
    let directory = move |loader: u32| -> Result<Place, String> {
        let task = TaskId { job, index: found.first_task + loader };
        let mut attempt = beside.lock().unwrap_or_else(PoisonError::into_inner);
        let records = attempt.progress(task, SERVE).map_err(|error| error.to_string())?;
        let record = records.into_iter().find(|record| record.key == SERVE);
        let record =
            record.ok_or_else(|| format!("{task} of stage `{stage}` has not said yet where it listens"))?;
        serde_json::from_str(&record.body).map_err(|error| format!("read where {task} listens: {error}"))
    };
    attempt.say(&format!("samples come from {} loaders of stage `{}`", found.tasks, setting.loader_stage));
    Ok(Stream::open(reader, found.tasks, Box::new(directory), setting.prefetch, PATIENCE)?)
}
