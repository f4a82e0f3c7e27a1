//! The agent: what a worker holds, what it says of it, and until when it may. A synchronous machine without clock, IO or chance.
//!
//! Its one job is to turn what the leader and the attempts say into [`Action`]s, which its driver performs in order. Its moments are
//! milliseconds of one monotonic clock, whichever the driver has.

mod input;

pub use input::{Action, AgentConfig, Input, Load};

/// One life of a worker's agent.
#[derive(Debug)]
pub struct Agent {
    _config: AgentConfig,
}

impl Agent {
    /// An agent that holds nothing and is not yet registered.
    pub fn new(config: AgentConfig, _now_ms: u64) -> Agent {
        Agent { _config: config }
    }

    /// Takes one input; the actions are to be performed in order.
    pub fn handle(&mut self, _now_ms: u64, _input: Input, _out: &mut dyn FnMut(Action)) {}

    /// After a run of inputs: sends what has gathered. To be called when no input is left, before waiting for the next.
    pub fn settle(&mut self, _now_ms: u64, _out: &mut dyn FnMut(Action)) {}
}
