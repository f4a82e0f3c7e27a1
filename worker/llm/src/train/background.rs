//! One piece of work at a time off the training thread; the next waits for the previous one.
//!
//! Writing a checkpoint takes as long as many steps, so a copy of the state is written while training goes
//! on. If checkpoints are wanted faster than they can be written, training waits, and memory holds one copy,
//! not a queue.

use std::thread::{Builder, JoinHandle};

/// A background thread that may be running.
#[derive(Debug)]
pub struct BackgroundTask<T> {
    running: Option<JoinHandle<T>>,
}

impl<T> Default for BackgroundTask<T> {
    fn default() -> Self {
        Self { running: None }
    }
}

impl<T: Send + 'static> BackgroundTask<T> {
    /// Waits for the previous work, starts `work`, and returns the previous result.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        &mut self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<Option<T>> {
        let before = self.finish();
        self.running = Some(Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(before)
    }

    /// The last result, if the work has ended and its result was not taken yet; does not wait.
    pub fn poll(&mut self) -> Option<T> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { None }
    }

    /// Waits for the last work and returns its result; resumes its panic.
    pub fn finish(&mut self) -> Option<T> {
        match self.running.take()?.join() {
            Ok(given) => Some(given),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<T> Drop for BackgroundTask<T> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Half a checkpoint is worth nothing; a panic in it was printed already.
            drop(running.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_at_a_time_and_in_order() {
        let (go, wait) = channel::<()>();
        let mut flight = BackgroundTask::default();
        assert_eq!(flight.start("a", move || wait.recv().map(|()| 1)).expect("starts"), None);
        assert!(flight.poll().is_none(), "it waits for us");
        go.send(()).expect("is heard");
        assert_eq!(flight.start("b", || Ok(2)).expect("starts"), Some(Ok(1)));
        assert_eq!((flight.finish(), flight.finish()), (Some(Ok(2)), None));
    }
}
