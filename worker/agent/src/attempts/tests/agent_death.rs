//! What happens to attempts when their agent is killed or frozen.

use super::*;
use crate::attempts::end_orphans;
use rustix::process::{Signal, kill_process};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

/// Names the directory of the helper process.
const HELPER: &str = "MUSTER_TEST_AGENT";

/// Not a test by itself: the agent that the tests below kill or freeze.
#[tokio::test]
async fn helper_agent() {
    let Ok(directory) = std::env::var(HELPER) else { return };
    let mut fixture = Fixture::at(Path::new(&directory));
    fixture.attempts.lease(60_000);
    fixture.attempts.start(shell("sleep 1000 & echo $$ $!; wait"));
    let pids = fixture.lines(1).await;
    if directory.ends_with("frozen") {
        fixture.attempts.lease(200);
    }
    // The test looks for this line among the rest of the output.
    writeln!(io::stdout(), "the attempt has {}", pids[0]).unwrap();
    fixture.end().await;
}

fn helper(directory: &Path) -> (Child, Vec<Pid>) {
    fs::create_dir_all(directory).unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper
        .args(["--exact", "attempts::tests::agent_death::helper_agent", "--nocapture"])
        .env(HELPER, directory)
        .stdout(Stdio::piped());
    let mut helper = helper.spawn().unwrap();
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.split_once("the attempt has ").map(|(_, pids)| pids.to_string()));
    let pids = line.expect("the helper runs its attempt").split_whitespace().map(pid).collect();
    (helper, pids)
}

#[test]
fn attempts_die_with_a_killed_agent() {
    let temp = tempfile::tempdir().unwrap();
    let (mut agent, pids) = helper(&temp.path().join("killed"));
    assert!(pids.len() == 2 && pids.iter().all(|pid| !is_gone(*pid)));
    agent.kill().unwrap();
    await_gone(&pids);
    agent.wait().unwrap();
}

#[test]
fn attempts_of_a_frozen_agent_do_not_outlive_the_lease() {
    let temp = tempfile::tempdir().unwrap();
    let (mut agent, pids) = helper(&temp.path().join("frozen"));
    // The helper may have ended already, if the lease expired before the freeze.
    let _ = kill_process(Pid::from_child(&agent), Signal::STOP);
    await_gone(&pids);
    let _ = kill_process(Pid::from_child(&agent), Signal::CONT);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn orphans_of_an_earlier_agent_are_killed() {
    let temp = tempfile::tempdir().unwrap();
    let mark = temp.path().join("job-1.0-1/scratch");
    let start = |mark: &Path| Command::new("sleep").arg("1000").env("MUSTER_SCRATCH", mark).spawn().unwrap();
    let mut ours = start(&mark);
    let mut others = start(Path::new("/else/attempts/job-1.0-1/scratch"));
    end_orphans(temp.path());
    assert_eq!(ours.wait().unwrap().signal(), Some(9));
    assert_eq!(others.try_wait().unwrap(), None);
    others.kill().unwrap();
    others.wait().unwrap();
}
