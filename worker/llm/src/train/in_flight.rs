//! One piece of work off the training thread, and never two: the next waits for the one before.
//!
//! Writing a checkpoint takes as long as many steps; a copy of the numbers is written while the training goes
//! on. If checkpoints are wanted faster than they can be written, the training waits, and memory holds one
//! copy, not a queue of them.

use std::thread::{Builder, JoinHandle};

/// A thread that may be at work.
#[derive(Debug)]
pub struct InFlight<T> {
    running: Option<JoinHandle<T>>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { running: None }
    }
}

impl<T: Send + 'static> InFlight<T> {
    /// Starts `work`, after what was started before has ended; returns what that gave.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        &mut self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<Option<T>> {
        let before = self.finish();
        self.running = Some(Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(before)
    }

    /// What was started last gave, if it has ended and was not asked for yet; does not wait.
    pub fn poll(&mut self) -> Option<T> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { None }
    }

    /// Waits for what was started last, and returns what it gave. A panic there goes on here.
    pub fn finish(&mut self) -> Option<T> {
        match self.running.take()?.join() {
            Ok(given) => Some(given),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Half a checkpoint is worth nothing, and a panic in it was heard already.
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
        let mut flight = InFlight::default();
        assert_eq!(flight.start("a", move || wait.recv().map(|()| 1)).expect("starts"), None);
        assert!(flight.poll().is_none(), "it waits for us");
        go.send(()).expect("is heard");
        assert_eq!(flight.start("b", || Ok(2)).expect("starts"), Some(Ok(1)));
        assert_eq!((flight.finish(), flight.finish()), (Some(Ok(2)), None));
    }
}
