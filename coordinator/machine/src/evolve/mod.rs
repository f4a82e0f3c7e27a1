//! The fold: how each event changes the state. Total and infallible; an event that does not fit the state changes nothing.

use crate::state::State;
use muster_protocol::event::Event;

impl State {
    /// Folds one event.
    pub fn evolve(&mut self, event: &Event) {
        let _ = (self, event);
    }
}
