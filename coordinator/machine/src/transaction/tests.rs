use super::{Tx, TxCell, TxIntervals, TxMap, TxQueue, Undo};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use muster_protocol::codec;

#[derive(Clone, Debug, Default, bincode::Encode, bincode::Decode)]
struct Record {
    cell: TxCell<u32>,
    set: TxIntervals<u32>,
}

undo_fields!(Record { cell, set } constant {});

#[derive(Clone, Debug, Default, bincode::Encode, bincode::Decode)]
struct All {
    queue: TxQueue<u32>,
    map: TxMap<u32, Record>,
    nested: TxMap<u32, TxMap<u32, ()>>,
}

undo_fields!(All { queue, map, nested } constant {});

struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as u32 % n
    }
}

impl All {
    fn change(&mut self, random: &mut Random, tx: Tx) {
        let key = random.below(4);
        match random.below(9) {
            0 => self.queue.push_back(key, tx),
            1 => self.queue.remove(key as usize, tx),
            2 => self.map.insert(key, Record::default(), tx),
            3 => self.map.remove(&key, tx),
            4 => {
                if let Some(record) = self.map.edit(&key, tx) {
                    *record.cell.edit(tx) += 1;
                }
            }
            5 | 6 => {
                let number = random.below(20);
                if let Some(record) = self.map.edit(&key, tx) {
                    match random.below(5) {
                        0 => {
                            let all = record.set.take(tx);
                            record.set.union_with(all, tx);
                            record.set.insert(number, tx);
                        }
                        1 => drop(record.set.take(tx)),
                        2 => drop(record.set.remove(number, tx)),
                        _ => drop(record.set.insert(number, tx)),
                    }
                }
            }
            _ => match self.nested.edit(&key, tx) {
                None => self.nested.insert(key, [(random.below(3), ())].into_iter().collect(), tx),
                Some(_) if random.below(5) == 0 => self.nested.remove(&key, tx),
                Some(inner) => match random.below(2) {
                    0 => inner.insert(random.below(5), (), tx),
                    _ => inner.remove(&random.below(5), tx),
                },
            },
        }
    }
}

#[test]
fn a_rollback_leaves_what_was_before_the_transaction() {
    let mut all = All::default();
    let mut tx = Tx::default();
    let mut random = Random(3);
    for round in 0..4_000 {
        tx = tx.opened();
        let before = codec::encode(&all);
        for _ in 0..random.below(12) {
            all.change(&mut random, tx);
        }
        if random.below(3) == 0 {
            all.commit();
            let committed = codec::encode(&all);
            all.rollback();
            assert_eq!(codec::encode(&all), committed, "round {round}: nothing is left to undo");
        } else {
            all.rollback();
            assert_eq!(codec::encode(&all), before, "round {round}");
        }
    }
    assert!(!all.map.is_empty() && !all.queue.is_empty());
}

#[test]
fn containers_have_the_bytes_of_what_they_contain() {
    let mut queue = TxQueue::from(VecDeque::from([1_u32, 2]));
    queue.push_back(3, Tx::default().opened());
    assert_eq!(codec::encode(&queue), codec::encode(&Vec::from([1_u32, 2, 3])));
    let again: TxQueue<u32> = codec::decode(&codec::encode(&queue), 100).unwrap();
    assert_eq!(*again, *queue);
    let map: TxMap<u32, TxCell<u32>> = [(7, TxCell::from(8))].into_iter().collect();
    assert_eq!(codec::encode(&map), codec::encode(&Vec::from([(7_u32, 8_u32)])));
    let again: TxMap<u32, TxCell<u32>> = codec::decode(&codec::encode(&map), 100).unwrap();
    assert!(again == map);
}
