//! A command that is being decided: what was decided so far, and the state that came of it.
//!
//! Each event is folded as soon as it is decided, by the same fold as everywhere, so that what is decided
//! next sees it. All of it is one transaction of the state, which is undone unless it is committed: so
//! nothing remains of a command that is rejected, or on which the fold panics.

use crate::state::{Job, State};
use alloc::vec::Vec;
use core::mem;
use muster_protocol::event::Event;
use muster_protocol::ids::JobId;

pub(super) struct Decider<'a> {
    pub state: &'a mut State,
    events: Vec<Event>,
}

impl<'a> Decider<'a> {
    /// Opens a transaction.
    pub fn new(state: &'a mut State) -> Self {
        state.begin_transaction();
        Decider { state, events: Vec::new() }
    }

    /// Something happens.
    pub fn push(&mut self, event: Event) {
        self.state.evolve(&event);
        self.events.push(event);
    }

    /// Whether anything happened so far.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// A job that an event was about.
    pub fn job(&self, id: JobId) -> &Job {
        self.state.job(id).expect("a job stays in the state while events are about it")
    }

    /// Undoes everything, and begins again.
    pub fn restart(&mut self) {
        self.events.clear();
        self.state.rollback();
        self.state.begin_transaction();
    }

    /// Keeps everything. Returns the events, in order.
    pub fn commit(mut self) -> Vec<Event> {
        self.state.commit();
        mem::take(&mut self.events)
    }

    /// Undoes everything. Returns the events that would have been, in order.
    pub fn abandon(mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }
}

impl Drop for Decider<'_> {
    fn drop(&mut self) {
        self.state.rollback();
    }
}
