//! The speed of the collective against the loopback that it runs on, measured in turns in one run.
//!
//! *Raw* is what sockets alone do: each rank of two sends and receives as many bytes as in an all-reduce of
//! two ranks, both ways at the same time, a thread for each direction, from and to vectors of the same size,
//! with nothing summed, checked or framed. *Bus bandwidth* is the bytes that a rank must send in an
//! all-reduce, `2 (ranks - 1) / ranks` times the vector, over the time that it takes (as NCCL's tests define
//! it). `vs_loopback` is the bus bandwidth of two ranks over the raw throughput at 64 MiB: both the medians
//! of the same number of turns, taken one after the other so that whatever else the machine does weighs on
//! both. On a busy machine the medians say more of its other work: `vs_loopback_best` compares the best
//! turns, and `cpu_vs_loopback` the processor time of the raw turns with that of the others.

use muster_collective::{Gang, Member, Sums, Timeouts};
use muster_llm::parallel::Partial;
use serde_json::json;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Bytes at a time of the raw sockets: the best of 64 KiB to 4 MiB on the machine where this was written.
const RAW_BYTES: usize = 256 << 10;
const MIB: usize = 1 << 20;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let mut arguments = env::args().skip(1).peekable();
    let as_json = arguments.next_if(|word| word == "--json").is_some();
    let turns: usize = arguments.next().map_or(Ok(15), |word| word.parse())?;
    let sizes = [1usize, 64];
    let mut two = Vec::new();
    let (mut ratios, mut best_ratios, mut cpu_ratios) = (Vec::new(), Vec::new(), Vec::new());
    for mib in sizes {
        let numbers = mib * MIB / size_of::<f32>();
        let (mut raw, mut reduced) = (Vec::new(), Vec::new());
        let (mut cpu_raw, mut cpu_reduced) = (0, 0);
        let mut sockets = raw_sockets(numbers)?;
        let mut gang = Ranks::form(2, numbers)?;
        for turn in 0..turns + 2 {
            let cpu_0 = cpu_ticks()?;
            let raw_s = sockets.turn()?;
            let cpu_1 = cpu_ticks()?;
            let reduce_s = gang.turn()?;
            let cpu_2 = cpu_ticks()?;
            writeln!(
                io::stderr(),
                "{mib} MiB, turn {turn}: raw {:.2} ms, all-reduce {:.2} ms",
                raw_s * 1e3,
                reduce_s * 1e3
            )?;
            // The first turns warm the caches and the windows of TCP.
            if turn >= 2 {
                raw.push(raw_s);
                reduced.push(reduce_s);
                cpu_raw += cpu_1 - cpu_0;
                cpu_reduced += cpu_2 - cpu_1;
            }
        }
        let bytes = (mib * MIB) as f64;
        let (mut raws, mut reduces) = (raw, reduced);
        let (raw, reduced) = (bytes / median(&mut raws), bytes / median(&mut reduces));
        ratios.push(reduced / raw);
        best_ratios.push(raws[0] / reduces[0]);
        cpu_ratios.push(cpu_raw as f64 / cpu_reduced.max(1) as f64);
        two.push(json!({ "mib": mib, "raw_gb_s": rounded(raw / 1e9), "bus_gb_s": rounded(reduced / 1e9), "vs_loopback": rounded(reduced / raw) }));
    }
    let numbers = 64 * MIB / size_of::<f32>();
    let mut four = Vec::new();
    let mut gang = Ranks::form(4, numbers)?;
    for turn in 0..turns.div_ceil(2) + 1 {
        let reduce_s = gang.turn()?;
        if turn >= 1 {
            four.push(reduce_s);
        }
    }
    let four = 1.5 * (64 * MIB) as f64 / median(&mut four);
    let sample = vec![7u8; 64 * MIB];
    let began = Instant::now();
    let checksum = crc32fast::hash(&sample);
    let checksum_gb_s = sample.len() as f64 / began.elapsed().as_secs_f64() / 1e9;
    let report = json!({
        "vs_loopback": rounded(ratios.last().copied().unwrap_or_default()),
        "vs_loopback_best": rounded(best_ratios.last().copied().unwrap_or_default()),
        "cpu_vs_loopback": rounded(cpu_ratios.last().copied().unwrap_or_default()),
        "two_ranks": two,
        "four_ranks_bus_gb_s_64_mib": rounded(four / 1e9),
        "checksum_gb_s": rounded(checksum_gb_s),
        "checksum": checksum,
        "turns": turns,
        "cores": thread::available_parallelism()?.get(),
    });
    Ok(writeln!(io::stdout(), "{}", if as_json { report.to_string() } else { format!("{report:#}") })?)
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Processor time of this process so far, in the kernel's ticks.
fn cpu_ticks() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time are the 14th and 15th fields; the name before the parenthesis is the 2nd.
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()?)
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// Threads that do the same thing at the same time, again and again.
struct Ranks {
    start: Arc<Barrier>,
    end: Arc<Barrier>,
}

impl Ranks {
    fn spawn(works: Vec<Box<dyn FnMut() -> Outcome<()> + Send>>) -> Ranks {
        let (start, end) = (Arc::new(Barrier::new(works.len() + 1)), Arc::new(Barrier::new(works.len() + 1)));
        for mut work in works {
            let (start, end) = (Arc::clone(&start), Arc::clone(&end));
            thread::spawn(move || {
                loop {
                    start.wait();
                    if let Err(error) = work() {
                        // Whether that can be said or not, it ends.
                        let _ = writeln!(io::stderr(), "error: failed to {error}");
                        std::process::exit(1);
                    }
                    end.wait();
                }
            });
        }
        Ranks { start, end }
    }

    fn form(world: u32, numbers: usize) -> Outcome<Ranks> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let timeouts = Timeouts { silence: Duration::from_secs(60), ..Timeouts::default() };
        let ranks = (0..world).map(|rank| {
            let member = Member {
                cluster: "bench".to_owned(),
                job: "job-1".to_owned(),
                stage: 0,
                formation: 1,
                rank,
                world,
            };
            let address = address.clone();
            thread::spawn(move || Gang::join(&member, &address, timeouts))
        });
        let ranks: Vec<_> = ranks.collect();
        let mut works: Vec<Box<dyn FnMut() -> Outcome<()> + Send>> = Vec::new();
        for (rank, gang) in ranks.into_iter().enumerate() {
            let mut gang = gang.join().map_err(|_| "form the gang")??;
            let mut vector = vec![1e-6f32; numbers];
            works.push(Box::new(move || {
                let own =
                    Partial::leaf(rank, Sums { vector: std::mem::take(&mut vector), scalars: vec![1.0] });
                vector = gang.all_reduce(world as usize, vec![own])?.vector;
                Ok(())
            }));
        }
        Ok(Ranks::spawn(works))
    }

    fn turn(&mut self) -> Outcome<f64> {
        self.start.wait();
        let began = Instant::now();
        self.end.wait();
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Two ranks of bare sockets.
fn raw_sockets(numbers: usize) -> Outcome<Ranks> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let caller = TcpStream::connect(listener.local_addr()?)?;
    let (callee, _) = listener.accept()?;
    let mut works: Vec<Box<dyn FnMut() -> Outcome<()> + Send>> = Vec::new();
    for stream in [caller, callee] {
        stream.set_nodelay(true)?;
        let (mut sender, mut receiver) = (stream.try_clone()?, stream);
        let (from, mut to) = (vec![1u8; numbers * 4], vec![1u8; numbers * 4]);
        works.push(Box::new(move || {
            from.chunks(RAW_BYTES).try_for_each(|chunk| sender.write_all(chunk))?;
            Ok(())
        }));
        works.push(Box::new(move || {
            to.chunks_mut(RAW_BYTES).try_for_each(|chunk| receiver.read_exact(chunk))?;
            Ok(())
        }));
    }
    Ok(Ranks::spawn(works))
}
