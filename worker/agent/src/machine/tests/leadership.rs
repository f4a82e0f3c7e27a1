//! Registration, the lease, and changes of leader.

use super::*;

#[test]
fn hello_is_sent_until_welcome_and_again_when_unknown() {
    let mut worker = TestAgent::unregistered();
    assert_eq!(worker.wait(1_100), ["hello", "hello", "hello"]);
    worker.down(Down::Welcome(Welcome { worker: WorkerId(1) }));
    assert_eq!(worker.settle(), ["heartbeat []"]);
    assert_eq!(worker.wait(1_000), [""; 0]);
    worker.down(Down::SayHello(SayHello {}));
    assert_eq!(worker.settle(), ["hello"]);
    worker.down(Down::SayHello(SayHello {}));
    assert_eq!(worker.settle(), [""; 0], "not faster than it can be answered");
    worker.down(Down::Welcome(Welcome { worker: WorkerId(1) }));
    assert_eq!(worker.wait(1_000), [""; 0]);
}

#[test]
fn without_a_leader_attempts_end_before_the_leader_reassigns_them() {
    let mut worker = TestAgent::new();
    let stays = Launch { on_partition: OnPartition::Continue, ..launch(1, 0) };
    worker.run(vec![launch(0, 2_000), stays, queued(2, 2_000)]);
    worker.listening = false;
    let sent_ms = worker.now_ms;
    assert_eq!(worker.wait(FENCE_AFTER_MS - 50), [""; 0]);
    assert_eq!(worker.wait(100), [&format!("signal 0 {FENCE_GRACE_MS}"), "reports 1/1: 2 lost"]);
    assert!(worker.now_ms - sent_ms + FENCE_GRACE_MS < muster_protocol::limits::WORKER_LEASE_MS);
    worker.exit(0, done());
    assert_eq!(worker.run(vec![launch(5, 0)]), [""; 0], "nothing starts without a lease");
    assert_eq!(worker.settle(), ["reports 2/1: 0 lost"]);
    worker.listening = true;
    worker.term = 2;
    while !worker.agent.status(worker.now_ms).lease_holds {
        worker.now_ms += 50;
        worker.settle();
    }
    assert_eq!(worker.run(vec![launch(5, 0)]), ["start 5"]);
    assert_eq!(worker.settle(), ["reports 1/1: 2 lost, 0 lost"], "everything is sent to a new leader");
    worker.exit(1, done());
    assert_eq!(worker.settle(), ["reports 3/1: 1 succeeded"], "what may go on went on");
}

#[test]
fn the_lease_counts_from_when_the_heartbeat_was_sent() {
    let mut worker = TestAgent::new();
    worker.listening = false;
    worker.run(vec![launch(0, 0)]);
    let sent_ms = worker.now_ms;
    worker.wait(3_000);
    let late = HeartbeatAck { sent_ms, down_sent: 0, worker: WorkerId(1) };
    assert_eq!(
        worker.down(Down::HeartbeatAck(late)),
        [format!("lease {}", FENCE_AFTER_MS + FENCE_GRACE_MS - 3_000)]
    );
    let from_the_future = HeartbeatAck { sent_ms: worker.now_ms + 1, ..late };
    worker.down(Down::HeartbeatAck(from_the_future));
    assert_eq!(worker.wait(500), ["signal 0 300"]);
}

#[test]
fn a_deposed_leader_is_ignored_and_a_new_one_is_sent_everything_again() {
    let mut worker = TestAgent::new();
    worker.run(vec![launch(0, 0), launch(1, 0)]);
    worker.exit(0, done());
    assert_eq!(worker.settle(), ["reports 1/1: 0 succeeded"]);
    worker.term = 2;
    worker.wait(300);
    assert_eq!(worker.settle(), ["reports 1/1: 0 succeeded"]);
    worker.term = 1;
    assert_eq!(worker.down(stop(1, 0)), [""; 0]);
    worker.ack(1, 0);
    assert_eq!(worker.agent.held().len(), 2);
    let foreign = DownEnvelope { boot: BootId(9), ..worker.envelope(stop(1, 0)) };
    assert_eq!(worker.input(AgentInput::Down(Box::new(foreign))), [""; 0]);
    let foreign = DownEnvelope { cluster: "other".into(), ..worker.envelope(stop(1, 0)) };
    assert_eq!(worker.input(AgentInput::Down(Box::new(foreign))), [""; 0]);
    assert_eq!(worker.agent.status(worker.now_ms).ignored, 4);
    worker.term = 3;
    assert_eq!(worker.down(stop(7, 0)), [""; 0]);
    assert_eq!(
        worker.settle(),
        ["reports 1/1: 0 succeeded, 7 cancelled"],
        "from the oldest that is not acknowledged"
    );
}

#[test]
fn missing_messages_are_counted() {
    let mut worker = TestAgent::new();
    let ack = |down_sent| Down::HeartbeatAck(HeartbeatAck { sent_ms: 0, down_sent, worker: WorkerId(1) });
    worker.down(ack(2));
    assert_eq!(worker.agent.status(0).missed, 0, "a welcome and an acknowledgement came before");
    worker.down(ack(5));
    worker.down(ack(6));
    assert_eq!(worker.agent.status(0).missed, 2);
}
