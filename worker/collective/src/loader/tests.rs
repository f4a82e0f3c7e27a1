//! Streams and loaders stop real sockets: the batches are those of the source, whoever gives them, and no
//! more are made than were asked for.

use super::wire::{self, Message};
use super::*;
use muster_llm::train::{Dataset, DatasetInfo, Error as TrainError, TokenBatch};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);
const SAMPLES: u64 = 1000;

/// Dataset of three positions that tell their places.
struct Counted(DatasetInfo);

impl Dataset for Counted {
    fn info(&self) -> &DatasetInfo {
        &self.0
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, TrainError> {
        let tokens: Vec<u32> = places.iter().flat_map(|place| [*place as u32, 1, 2]).collect();
        let targets = tokens.iter().map(|token| token + 1).collect();
        Ok(TokenBatch { sequences: places.len(), time: 3, tokens, targets, ..TokenBatch::default() })
    }
}

fn counted() -> Arc<dyn Dataset> {
    Arc::new(Counted(DatasetInfo {
        samples: SAMPLES,
        positions: 3,
        vocab_size: 2000,
        hash: "counted".to_owned(),
    }))
}

struct Running {
    address: LoaderAddress,
    stop: Arc<AtomicBool>,
    served: Arc<Served>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(token: &str) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address =
            LoaderAddress { address: listener.local_addr().unwrap().to_string(), token: token.to_owned() };
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(Served::default()));
        let thread = {
            let (token, stop, served) = (token.to_owned(), Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                let open = |recipe: &Recipe| match recipe {
                    Recipe::Text { .. } => Ok(counted()),
                    Recipe::Conversations { .. } => Err("no conversations here".to_owned()),
                };
                serve(&listener, &token, "data", &open, &served, &stop).unwrap();
            })
        };
        Running { address, stop, served, thread: Some(thread) }
    }

    fn batches(&self) -> u64 {
        self.served.batches.load(Ordering::SeqCst)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn reader(formation: u32) -> Reader {
    Reader {
        stage: 4,
        formation,
        rank: 0,
        data: "data".to_owned(),
        recipe: Recipe::Text { context: 3, cut: false },
    }
}

type Places = Arc<Mutex<Vec<Result<LoaderAddress, String>>>>;

fn stream(reader: Reader, places: &Places, ahead: usize, timeout: Duration) -> Result<BatchStream, Error> {
    let loaders = places.lock().unwrap().len() as u32;
    let places = Arc::clone(places);
    BatchStream::open(
        reader,
        loaders,
        Box::new(move |loader| places.lock().unwrap()[loader as usize].clone()),
        ahead,
        timeout,
    )
}

fn known(running: &[&Running]) -> Places {
    Arc::new(Mutex::new(running.iter().map(|one| Ok(one.address.clone())).collect()))
}

/// The places of the `n`th batch that is expected.
fn nth(n: u64) -> Vec<u64> {
    vec![(n * 7) % SAMPLES, (n * 7 + 3) % SAMPLES]
}

#[test]
fn no_more_is_made_than_was_asked_for_ahead() {
    let (one, two) = (Running::start("a"), Running::start("b"));
    let stream = stream(reader(1), &known(&[&one, &two]), 3, TIMEOUT).unwrap();
    assert_eq!(stream.info(), counted().info());
    stream.prefetch(Box::new((0..100).map(nth)));
    for n in 0..100 {
        assert_eq!(stream.batch(&nth(n)).unwrap(), counted().batch(&nth(n)).unwrap());
        let made = one.batches() + two.batches();
        assert!(made <= n + 1 + 3, "{made} were made when {} were taken", n + 1);
    }
    assert_eq!(one.batches() + two.batches(), 100, "each once");
    // What was not expected is given all the same, and what is expected next is not lost by it.
    stream.prefetch(Box::new((100..104).map(nth)));
    assert_eq!(stream.batch(&[5]).unwrap().tokens, [5, 1, 2]);
    assert_eq!(stream.batch(&nth(100)).unwrap(), counted().batch(&nth(100)).unwrap());
    // Some are left out: those after them are not fetched again.
    assert_eq!(stream.batch(&nth(103)).unwrap(), counted().batch(&nth(103)).unwrap());
    assert!(one.batches() + two.batches() <= 100 + 1 + 4);
    // A rollback: other samples are expected, and the old ones are forgotten.
    stream.prefetch(Box::new((50..52).map(nth)));
    assert_eq!(stream.batch(&nth(50)).unwrap(), counted().batch(&nth(50)).unwrap());
    let refused = stream.batch(&[SAMPLES]).unwrap_err().to_string();
    assert!(refused.contains(&format!("there is no sample {SAMPLES}")), "{refused}");
}

#[test]
fn a_loader_that_dies_is_replaced() {
    let (mut one, mut two) = (Running::start("a"), Running::start("b"));
    let places = known(&[&one, &two]);
    let stream = stream(reader(1), &places, 4, TIMEOUT).unwrap();
    stream.prefetch(Box::new((0..300).map(nth)));
    for n in 0..300 {
        match n {
            100 => one.end(),
            200 => {
                two.end();
                // It comes back elsewhere, with another token.
                two = Running::start("c");
                places.lock().unwrap()[1] = Ok(two.address.clone());
            }
            _ => {}
        }
        assert_eq!(stream.batch(&nth(n)).unwrap(), counted().batch(&nth(n)).unwrap(), "{n}");
    }
    assert!(two.batches() > 0);
}

#[test]
fn strangers_and_former_lives_are_turned_away() {
    let loader = Running::start("a");
    let places = known(&[&loader]);
    let _newer = stream(reader(3), &places, 1, TIMEOUT).unwrap();
    let refused = |reader: Reader| match stream(reader, &places, 1, TIMEOUT) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was let in"),
    };
    assert!(refused(reader(2)).contains("formation 2 has ended: formation 3 has connected"));
    assert!(
        refused(Reader { data: "other".to_owned(), ..reader(3) })
            .contains("the data set other was requested, and this loader has data")
    );
    let recipe = Recipe::Conversations { context: 3, too_long: TooLong::Error };
    assert!(refused(Reader { recipe, ..reader(3) }).contains("no conversations here"));

    // Garbage, and a word of another kind, hold up nobody.
    TcpStream::connect(&loader.address.address).unwrap().write_all(&[0xff; 64]).unwrap();
    let mut early = TcpStream::connect(&loader.address.address).unwrap();
    wire::write(&mut early, &Message::Request(vec![1])).unwrap();
    assert!(
        matches!(wire::read(&mut early, 1 << 20).unwrap(), Message::Refused(reason) if reason.contains("where a hello was expected"))
    );
    // Who is not known gets no memory, whatever it announces; and one that never goes on with its word is
    // left alone.
    let mut greedy = TcpStream::connect(&loader.address.address).unwrap();
    greedy.write_all(&[(200_u32 << 20).to_le_bytes(), 4_u32.to_le_bytes(), [0; 4]].concat()).unwrap();
    assert_eq!(greedy.read(&mut [0; 1]).unwrap(), 0, "it was hung up on");
    let mut slow = TcpStream::connect(&loader.address.address).unwrap();
    slow.write_all(&[9]).unwrap();
    assert!(stream(reader(3), &places, 1, TIMEOUT).unwrap().batch(&[1]).is_ok());
}

#[test]
fn a_loader_that_is_not_there_is_waited_for_and_named() {
    let loader = Running::start("a");
    let places: Places = Arc::new(Mutex::new(vec![Err("it has not said where it listens".to_owned())]));
    let Err(error) = stream(reader(1), &places, 1, Duration::from_millis(20)) else {
        panic!("there is none")
    };
    assert_eq!(error.to_string(), "get samples from a loader for 0 s: it has not said where it listens");

    // It is another life's token at first; then the right one.
    places.lock().unwrap()[0] = Ok(LoaderAddress { token: "old".to_owned(), ..loader.address.clone() });
    let asked = Arc::new(AtomicU64::new(0));
    let directory = {
        let (asked, address) = (Arc::clone(&asked), loader.address.clone());
        move |_| {
            let token = if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                "old".to_owned()
            } else {
                address.token.clone()
            };
            Ok(LoaderAddress { token, ..address.clone() })
        }
    };
    let stream = BatchStream::open(reader(1), 1, Box::new(directory), 1, TIMEOUT).unwrap();
    assert_eq!(stream.batch(&[9]).unwrap().tokens, [9, 1, 2]);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
