//! A steady stream of submits against all coordinators. What is acknowledged is remembered; what fails is
//! sent again, under the same request id, until it is answered: it is unknown, never absent.

use muster_protocol::ids::{JobId, RequestId};
use muster_protocol::spec::{JobSpec, Noop, Work};
use muster_tests::cluster::api::{Api, job_of, new_request, stage_of};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Clients that submit side by side.
const CLIENTS: u32 = 32;
/// After a failure, before the next attempt, at another coordinator.
const RETRY_MS: u64 = 10;

/// An acknowledged submit.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// When the attempt began that was answered.
    pub began: Instant,
    /// When it was answered.
    pub acked: Instant,
    /// Its id.
    pub request: RequestId,
    /// The job.
    pub job: JobId,
}

/// A running stream; it ends when told to.
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<Mutex<Vec<Acked>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many submits per second in all.
    pub fn start(apis: Vec<Api>, submits_per_s: u32) -> Load {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let interval = Duration::from_secs_f64(f64::from(CLIENTS) / f64::from(submits_per_s));
        let clients = (0..CLIENTS).map(|n| {
            let (apis, stop, acked) = (apis.clone(), Arc::clone(&stop), Arc::clone(&acked));
            thread::spawn(move || {
                let first = Instant::now() + interval * n / CLIENTS;
                submit_steadily(&apis, n as usize, first, interval, &stop, &acked);
            })
        });
        let clients = clients.collect();
        Load { stop, acked, clients }
    }

    /// What was acknowledged so far.
    pub fn acked(&self) -> Vec<Acked> {
        self.acked.lock().expect("no client panicked").clone()
    }

    /// The earliest acknowledgement of an attempt that began after `moment`.
    pub fn first_after(&self, moment: Instant) -> Option<Acked> {
        let acked = self.acked.lock().expect("no client panicked");
        acked.iter().filter(|one| one.began > moment).min_by_key(|one| one.acked).copied()
    }

    /// Sends nothing new, waits for what is under way, and gives everything that was acknowledged.
    pub fn end(self) -> Vec<Acked> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client ends");
        }
        self.acked.lock().expect("no client panicked").clone()
    }
}

fn submit_steadily(
    apis: &[Api],
    mut at: usize,
    first: Instant,
    interval: Duration,
    stop: &AtomicBool,
    acked: &Mutex<Vec<Acked>>,
) {
    let spec: JobSpec = job_of("load", stage_of("only", 1, Work::Noop(Noop {})));
    let mut due = first;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = new_request();
        let one = loop {
            let began = Instant::now();
            match apis[at % apis.len()].submit(&spec, request) {
                Ok(job) => break Acked { began, acked: Instant::now(), request, job },
                Err(error) if error.is_passing() => {
                    at += 1;
                    thread::sleep(Duration::from_millis(RETRY_MS));
                }
                Err(error) => panic!("a submit was refused: {error}"),
            }
        };
        acked.lock().expect("no client panicked").push(one);
        // What could not be sent in time is not sent later in a heap: the stream goes on at its pace.
        due = (due + interval).max(Instant::now());
    }
}
