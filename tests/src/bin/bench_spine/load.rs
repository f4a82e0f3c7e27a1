//! A steady stream of submits to all coordinators. A submit that fails is sent again under the same request
//! id until it is answered: its outcome is unknown, never absent.

use muster_protocol::ids::{JobId, RequestId};
use muster_protocol::spec::{JobSpec, Noop, Work};
use muster_tests::cluster::api::{Api, job_of, new_request, stage_of};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Clients that submit in parallel.
const CLIENTS: u32 = 32;
/// The pause after a failure, before the next coordinator is tried.
const RETRY_MS: u64 = 10;

/// An acknowledged submit.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// When the attempt that was answered began.
    pub began: Instant,
    pub acked: Instant,
    pub request: RequestId,
    pub job: JobId,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<Mutex<Vec<Acked>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `submits_per_s` submits per second, over all clients.
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

    pub fn acked(&self) -> Vec<Acked> {
        self.acked.lock().expect("no client panicked").clone()
    }

    /// The earliest acknowledgement of an attempt that began after `moment`.
    pub fn first_after(&self, moment: Instant) -> Option<Acked> {
        let acked = self.acked.lock().expect("no client panicked");
        acked.iter().filter(|one| one.began > moment).min_by_key(|one| one.acked).copied()
    }

    /// Stops, waits for open submits, and returns everything that was acknowledged.
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
                Err(error) if error.is_transient() => {
                    at += 1;
                    thread::sleep(Duration::from_millis(RETRY_MS));
                }
                Err(error) => panic!("a submit was refused: {error}"),
            }
        };
        acked.lock().expect("no client panicked").push(one);
        // Submits that are late are skipped, not sent in a burst.
        due = (due + interval).max(Instant::now());
    }
}
