//! The shutdown of an agent.

use super::*;

#[test]
fn a_drain_waits_for_running_attempts_and_then_ends_them() {
    let mut worker = TestAgent::new();
    worker.run(vec![launch(0, 1_000), launch(1, 1_000), queued(2, 1_000)]);
    assert_eq!(worker.input(AgentInput::Drain), ["draining"]);
    assert_eq!(worker.settle(), ["reports 1/1: 2 lost"]);
    worker.ack(1, 0);
    assert_eq!(worker.run(vec![launch(3, 0)]), [""; 0]);
    assert_eq!(worker.settle(), ["reports 2/2: 3 lost"], "it is to run elsewhere");
    worker.ack(2, 0);
    worker.exit(0, done());
    assert_eq!(worker.settle(), ["reports 3/3: 0 succeeded"]);
    worker.ack(3, 0);
    let mut later = worker.wait(9_950);
    later.retain(|line| line != "draining");
    assert_eq!(later, [""; 0]);
    assert_eq!(worker.wait(50).last().map(String::as_str), Some("signal 1 5000"));
    worker.exit(1, done());
    assert_eq!(worker.settle(), ["reports 4/4: 1 lost"]);
    worker.ack(4, 0);
    assert_eq!(worker.settle(), ["exit"]);
    assert_eq!(worker.wait(100), [""; 0]);
}

#[test]
fn a_shutdown_ends_everything_at_once_and_waits_briefly_for_acknowledgements() {
    let mut worker = TestAgent::new();
    worker.run(vec![launch(0, 1_000)]);
    worker.input(AgentInput::Drain);
    assert_eq!(worker.input(AgentInput::Shutdown), ["signal 0 0"]);
    worker.exit(0, done());
    let mut lines = worker.wait(4_000);
    lines.retain(|line| line != "draining" && !line.starts_with("reports"));
    assert_eq!(lines, ["exit"]);
}
