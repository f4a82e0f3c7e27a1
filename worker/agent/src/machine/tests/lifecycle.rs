//! Attempts: queued, started, stopped, reported.

use super::*;

#[test]
fn an_end_is_reported_until_it_is_acknowledged() {
    let mut worker = TestAgent::new();
    assert_eq!(worker.run(vec![launch(0, 1_000)]), ["start 0"]);
    assert_eq!(worker.run(vec![launch(0, 1_000)]), [""; 0], "a repeat changes nothing");
    worker.input(AgentInput::Started { attempt: attempt(0), pid: 7 });
    assert_eq!(worker.settle(), ["reports 1/1: 0 started"]);
    worker.ack(1, 0);
    worker.exit(0, Outcome::Failed(Failed { exit_code: Some(3), signal: None, message: String::new() }));
    assert_eq!(worker.settle(), ["reports 2/2: 0 failed"]);
    assert_eq!(worker.run(vec![launch(0, 1_000)]), [""; 0], "it has ended, which is not acknowledged");
    assert_eq!(worker.wait(600), ["reports 2/2: 0 failed"]);
    assert_eq!(worker.agent.held(), [Held { attempt: attempt(0), phase: Phase::Ended }]);
    worker.ack(2, 0);
    assert_eq!(worker.agent.held(), []);
    assert_eq!(worker.run(vec![launch(0, 1_000)]), [""; 0], "a late repeat brings nothing back");
    assert_eq!(worker.wait(5_000), [""; 0]);
}

#[test]
fn no_ops_end_at_once_in_one_message() {
    let mut worker = TestAgent::new();
    assert_eq!(worker.run((0..3).map(noop).collect()), [""; 0]);
    assert_eq!(worker.settle(), ["reports 1/1: 0 succeeded, 1 succeeded, 2 succeeded"]);
}

#[test]
fn queued_attempts_start_in_order_when_resources_are_free() {
    let mut worker = TestAgent::new();
    assert_eq!(
        worker.run(vec![launch(0, 1_500), queued(1, 1_000), queued(2, 500), queued(3, 2_500)]),
        ["start 0"]
    );
    assert_eq!(worker.settle(), ["reports 1/1: 3 not-started"], "it can never fit");
    assert_eq!(worker.exit(0, done()), ["start 1", "start 2"]);
    // The leader has given away room that is still in use here: what it counts as running goes first.
    assert_eq!(worker.run(vec![queued(4, 600), launch(5, 1_000)]), [""; 0]);
    assert_eq!(worker.exit(1, done()), ["start 5"]);
    assert_eq!(worker.exit(2, done()), ["start 4"]);
}

#[test]
fn a_gpu_is_held_by_one_attempt() {
    let mut worker = TestAgent::new();
    let with_gpu = |index, gpu| Launch {
        request: Resources { gpus: 1, ..Resources::default() },
        grant: Grant { gpus: vec![gpu] },
        ..launch(index, 0)
    };
    assert_eq!(worker.run(vec![with_gpu(0, 1), with_gpu(1, 1)]), ["start 0"]);
    assert_eq!(worker.exit(0, done()), ["start 1"]);
}

#[test]
fn a_stop_ends_queued_and_running_attempts() {
    let mut worker = TestAgent::new();
    worker.run(vec![launch(0, 2_000), queued(1, 2_000), queued(2, 100)]);
    assert_eq!(worker.down(stop(1, 5_000)), [""; 0]);
    assert_eq!(worker.down(stop(0, 5_000)), ["signal 0 5000"]);
    assert_eq!(worker.down(stop(0, 5_000)), [""; 0]);
    assert_eq!(worker.down(stop(0, 0)), ["signal 0 0"], "a later one may hasten it");
    assert_eq!(worker.exit(0, done()), ["start 2"]);
    assert_eq!(worker.down(stop(9, 0)), [""; 0], "its order to run was lost");
    assert_eq!(worker.run(vec![launch(9, 0)]), [""; 0], "or comes later");
    assert_eq!(worker.settle(), ["reports 1/1: 1 cancelled, 0 cancelled, 9 cancelled"]);
    worker.run(vec![launch(3, 0)]);
    worker.exit(3, done());
    assert_eq!(worker.down(stop(3, 0)), [""; 0], "it ended by itself before");
    assert_eq!(worker.settle(), ["reports 4/1: 3 succeeded"]);
}
