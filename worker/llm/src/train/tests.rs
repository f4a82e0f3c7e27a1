//! Training as a whole: it learns, it resumes, and the number of ranks leaves no trace.

use super::*;
use crate::compute::Compute;
use crate::data::documents::Entry;
use crate::data::shard::{DocumentKind, Sequence, Shard, ShardIndex, ShardWriter};
use crate::model::ModelConfig;
use crate::parallel::{Tree, shares};
use std::sync::Arc;

/// A shard of one document, made without a tokenizer.
pub(crate) fn shard(tokens: &[u16], vocab_size: u32) -> Shard {
    let index = ShardIndex { name: "s".to_owned(), vocab_size, tokenizer: "t".to_owned(), ..ShardIndex::default() };
    let mut writer = ShardWriter::of(index);
    let entry = Entry { path: "p".to_owned(), hash: "h".to_owned(), bytes: 9, ..Entry::default() };
    let tokens = tokens.iter().map(|token| u32::from(*token)).collect();
    writer.push(&entry, DocumentKind::Text, &[Sequence { tokens, learnt: Vec::new() }]).expect("fits");
    writer.finish().expect("is sound")
}

/// A pattern that a small model learns: each token says the next but at every fifth.
fn corpus() -> Arc<Corpus> {
    let tokens: Vec<u16> = (0..400u32).map(|i| if i % 5 == 0 { (i * i % 7) as u16 } else { (i % 5 + 7) as u16 }).collect();
    let halves = tokens.split_at(150);
    Arc::new(Corpus::new(vec![shard(halves.0, 16), shard(halves.1, 16)]).expect("joins"))
}

fn config() -> TrainConfig {
    let model = ModelConfig {
        vocab_size: 16,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    };
    TrainConfig {
        model,
        steps: 60,
        context: 16,
        microbatches: 4,
        sequences: 2,
        warmup_steps: 5,
        learning_rate: 1e-2,
        ..TrainConfig::default()
    }
}

fn compute() -> Compute {
    Compute::new(1).expect("starts")
}

/// One step with as many ranks as speeds, which share the microbatches by them; returns the mean loss.
fn step_by(ranks: &mut [Trainer], speeds: &[u64]) -> f64 {
    let (at, microbatches) = (ranks[0].step(), ranks[0].config().microbatches);
    let mut sum = Tree::new(microbatches);
    for (trainer, range) in ranks.iter().zip(shares(microbatches, speeds).expect("fits")) {
        for partial in trainer.loss_and_gradients(at, range).expect("computes") {
            sum.push(partial, Gradients::add).expect("is in order");
        }
    }
    let sum = sum.total().expect("is whole");
    for trainer in ranks {
        trainer.apply(at, &sum.flat).expect("applies");
    }
    sum.loss_sum / microbatches as f64
}

fn step(ranks: &mut [Trainer]) -> f64 {
    let equal = vec![1; ranks.len()];
    step_by(ranks, &equal)
}

fn ranks(world: usize) -> Vec<Trainer> {
    (0..world).map(|_| Trainer::new(config(), corpus(), compute()).expect("starts")).collect()
}

#[test]
fn a_tiny_corpus_is_learnt() {
    let mut one = ranks(1);
    let losses: Vec<f64> = (0..60).map(|_| step(&mut one)).collect();
    assert!((losses[0] - 16f64.ln()).abs() < 0.2, "{}", losses[0]);
    assert!(losses[59] < 0.6, "{losses:?}");
    let over = one[0].loss_and_gradients(60, 0..1).expect_err("is over").to_string();
    assert!(over.contains("60 steps is over"), "{over}");
}

#[test]
fn any_number_of_ranks_with_any_shares_gets_the_same_weights() {
    for microbatches in [4, 5] {
        let config = TrainConfig { microbatches, ..config() };
        let table: [&[u64]; 6] = [&[1], &[1, 1], &[3, 1], &[1, 4], &[1, 2, 1], &[1, 1, 1, 1]];
        let hashes = table.map(|speeds| {
            let start = |_: &u64| Trainer::new(config.clone(), corpus(), compute()).expect("starts");
            let mut ranks: Vec<Trainer> = speeds.iter().map(start).collect();
            let losses: Vec<u64> = (0..3).map(|_| step_by(&mut ranks, speeds).to_bits()).collect();
            assert!(ranks.iter().all(|rank| rank.weights_hash() == ranks[0].weights_hash()));
            (losses, ranks[0].weights_hash())
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{microbatches}: {hashes:?}");
    }
}

#[test]
fn a_resumed_run_is_the_undisturbed_one() {
    let mut undisturbed = ranks(1);
    for _ in 0..3 {
        step(&mut undisturbed);
    }
    let saved = undisturbed[0].to_checkpoint().expect("writes");
    assert_eq!(saved, undisturbed[0].to_checkpoint().expect("writes"));
    let mut resumed = vec![Trainer::from_checkpoint(config(), corpus(), compute(), &saved).expect("reads")];
    assert_eq!(resumed[0].step(), 3);
    for _ in 0..3 {
        step(&mut undisturbed);
        step(&mut resumed);
    }
    assert_eq!(resumed[0].to_checkpoint().expect("writes"), undisturbed[0].to_checkpoint().expect("writes"));

    let (info, weights) = checkpoint::weights(&saved).expect("reads");
    assert_eq!((info.step, info.config), (3, config()));
    assert_eq!(weights.len(), resumed[0].parameter_count());
}

#[test]
fn a_checkpoint_of_another_run_or_damaged_is_refused() {
    let saved = ranks(1)[0].to_checkpoint().expect("writes");
    let other = TrainConfig { seed: 2, ..config() };
    let shorter = Arc::new(Corpus::new(vec![shard(&[1; 90], 16)]).expect("joins"));
    let table = [
        (other, corpus(), saved.clone(), "other parameters"),
        (config(), shorter, saved.clone(), "other tokens"),
        (config(), corpus(), saved[..saved.len() / 2].to_vec(), "read the checkpoint"),
        (config(), corpus(), b"nonsense".to_vec(), "read the checkpoint"),
    ];
    for (config, corpus, bytes, expected) in table {
        let message = Trainer::from_checkpoint(config, corpus, compute(), &bytes).err().expect(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_would_ruin_the_weights_is_refused_and_changes_nothing() {
    let mut trainer = ranks(1).remove(0);
    let before = trainer.weights_hash();
    let mut summed = vec![0f32; trainer.parameter_count()];
    summed[7] = f32::NAN;
    let table = [
        (trainer.apply(0, &summed), "the gradient's norm is NaN"),
        (trainer.apply(1, &summed), "apply step 1"),
        (trainer.apply(0, &summed[1..]), "numbers for"),
    ];
    for (result, expected) in table {
        let message = result.expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!((trainer.weights_hash(), trainer.step()), (before, 0));
    for range in [0..0, 2..5] {
        assert!(trainer.loss_and_gradients(0, range).is_err());
    }
}

#[test]
fn parameters_that_do_not_fit_are_named() {
    type Break = fn(&mut TrainConfig);
    let table: [(&str, Break); 6] = [
        ("context", |c| c.context = 17),
        ("microbatches", |c| c.microbatches = 0),
        ("learning_rate", |c| c.learning_rate = f64::NAN),
        ("beta2", |c| c.beta2 = 1.0),
        ("vocabulary of 16 for a model of 8", |c| c.model.vocab_size = 8),
        ("num_attention_heads", |c| c.model.num_attention_heads = 3),
    ];
    for (expected, break_it) in table {
        let mut config = config();
        break_it(&mut config);
        let message = Trainer::new(config, corpus(), compute()).err().expect(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_corpus_reads_across_its_shards() {
    let corpus = Corpus::new(vec![shard(&[1, 2, 3], 9), shard(&[4, 5], 9), shard(&[6, 1, 8], 9)]).expect("joins");
    let table: [(u64, usize, &[u32]); 5] = [(0, 2, &[1, 2]), (2, 4, &[3, 4, 5, 6]), (3, 1, &[4]), (6, 9, &[1, 8]), (8, 3, &[])];
    for (start, count, expected) in table {
        assert_eq!(corpus.tokens(start, count), expected);
    }
    assert_eq!((corpus.len(), corpus.counts()), (8, vec![0, 2, 1, 1, 1, 1, 1, 0, 1]));
}
