//! What attempts send through their sockets.

use super::*;

#[test]
fn records_are_acknowledged_before_the_end_is_reported() {
    let mut worker = TestAgent::new();
    let record = |seq, wait| {
        AttemptFrame::Record(WriteRecord {
            key: "train".into(),
            seq,
            payload_hash: Digest::default(),
            body: String::new(),
            wait,
        })
    };
    worker.run(vec![launch(0, 0)]);
    assert_eq!(worker.frame(0, 10, record(1, false)), ["reply 10 taken"]);
    assert_eq!(worker.frame(0, 10, record(2, true)), [""; 0]);
    assert_eq!(
        worker.frame(0, 11, AttemptFrame::Output(SetOutput { output: "42".into() })),
        ["reply 11 taken"]
    );
    assert_eq!(worker.settle(), ["progress 1/1: train=1, train=2"]);
    worker.exit(0, done());
    assert_eq!(worker.settle(), [""; 0], "records of an ended attempt would be refused");
    assert_eq!(worker.agent.held(), [Held { attempt: attempt(0), phase: Phase::Ended }]);
    assert_eq!(worker.ack(0, 2), ["reply 10 taken"]);
    assert_eq!(worker.settle(), ["reports 1/1: 0 succeeded 42"]);
    assert_eq!(
        worker.frame(0, 12, record(3, false)),
        ["reply 12 refused: job-1.0#1 does not run here any more"]
    );
}

#[test]
fn too_much_progress_makes_its_writer_wait() {
    let mut worker = TestAgent::new();
    worker.run(vec![launch(0, 0)]);
    let body = "x".repeat(1_000);
    let mut taken = 0;
    loop {
        let record = WriteRecord {
            key: "k".into(),
            seq: taken,
            payload_hash: Digest::default(),
            body: body.clone(),
            wait: false,
        };
        if worker.frame(0, 1, AttemptFrame::Record(record)).is_empty() {
            break;
        }
        taken += 1;
    }
    assert!((900..1_200).contains(&taken), "{taken}");
    assert_eq!(worker.ack(0, 100), ["reply 1 taken"]);
    let long = WriteRecord {
        key: "k".into(),
        seq: 0,
        payload_hash: Digest::default(),
        body: "x".repeat(1_025),
        wait: false,
    };
    assert_eq!(
        worker.frame(0, 1, AttemptFrame::Record(long)),
        ["reply 1 refused: a body has at most 1024 bytes, not 1025"]
    );
}

#[test]
fn a_question_is_sent_until_answered_and_to_each_new_leader() {
    let mut worker = TestAgent::new();
    worker.run(vec![launch(0, 0)]);
    let ask = |name: &str| {
        AttemptFrame::Ask(Ask { nonce: 1, request: CallRequest::FindStage(FindStage { name: name.into() }) })
    };
    assert_eq!(worker.frame(0, 1, ask("train")), [""; 0]);
    assert_eq!(worker.settle(), ["call job-1.0#1"]);
    assert_eq!(worker.frame(0, 2, ask("train")), [""; 0]);
    assert!(worker.frame(0, 3, ask("eval"))[0].starts_with("reply 3 refused"));
    assert_eq!(worker.wait(600), ["call job-1.0#1"]);
    worker.term = 2;
    assert_eq!(worker.wait(100).len(), 0);
    worker.ack(0, 0);
    let mut id = None;
    worker.agent.settle(worker.now_ms, &mut |action| {
        if let Action::Send(Up::Call(call)) = action {
            id = Some(call.id);
        }
    });
    let found = CallAnswer::Found(Found { stage: StageIndex(0), tasks: 1, first_task: 0 });
    let answer = Down::Answer(AnswerTo { id: id.expect("asked of the new leader at once"), answer: found });
    assert_eq!(worker.down(answer.clone()), ["reply 1 answered", "reply 2 answered"]);
    assert_eq!(worker.down(answer), [""; 0]);
    assert_eq!(worker.wait(2_000), [""; 0]);
}
