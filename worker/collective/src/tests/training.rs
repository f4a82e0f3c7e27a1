//! The real trainer over real sockets: any number of ranks with any shares trains the same weights.

use super::*;
use muster_host::compute::Compute;
use muster_llm::model::weights::initial;
use muster_llm::model::{Decoder, ModelConfig};
use muster_llm::train::{
    Dataset, DatasetInfo, Error as TrainError, GradientSum, LossSums as TrainSums, TokenBatch, TrainConfig,
    Trainer,
};

const CONTEXT: usize = 12;

/// Sequences that are made when they are asked for.
struct Made(DatasetInfo);

impl Made {
    fn new() -> Made {
        Made(DatasetInfo { samples: 64, positions: CONTEXT, vocab_size: 16, hash: "made".to_owned() })
    }
}

impl Dataset for Made {
    fn info(&self) -> &DatasetInfo {
        &self.0
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, TrainError> {
        let token = |index: u64, i: usize| ((index * 5 + (i * i) as u64 + index * i as u64) % 16) as u32;
        let tokens = |from: usize| {
            places
                .iter()
                .flat_map(move |index| (from..from + CONTEXT).map(move |i| token(*index, i)))
                .collect()
        };
        let (inputs, targets) = (tokens(0), tokens(1));
        Ok(TokenBatch {
            sequences: places.len(),
            time: CONTEXT,
            tokens: inputs,
            targets,
            ..TokenBatch::default()
        })
    }
}

fn trainer(microbatches: usize) -> Trainer {
    let shape = ModelConfig {
        vocab_size: 16,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 1,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    };
    let model = Decoder::trained(shape.clone(), &initial(&shape, 1)).unwrap();
    let config =
        TrainConfig { steps: 9, microbatches, sequences: 1, warmup_steps: 2, ..TrainConfig::default() };
    Trainer::new(config, model, Arc::new(Made::new()), Compute::new(1).unwrap()).unwrap()
}

/// Trains a few steps as one rank; the losses' bits and the hash of the weights.
fn train(gang: &mut Gang, microbatches: usize, share: Range<usize>) -> (Vec<u64>, String) {
    let mut trainer = trainer(microbatches);
    let mut losses = Vec::new();
    for step in 0..4 {
        let sums = |g: GradientSum| Sums {
            vector: g.flat.into_host().unwrap(),
            scalars: g.sums.to_array().to_vec(),
        };
        let own = trainer.loss_and_gradients(step, share.clone()).unwrap();
        let sum = gang
            .all_reduce(microbatches, own.into_iter().map(|partial| partial.map(sums)).collect())
            .unwrap();
        let total =
            GradientSum { sums: TrainSums::from_slice(&sum.scalars).unwrap(), flat: sum.vector.into() };
        losses.push(trainer.apply(step, total).unwrap().loss.to_bits());
        gang.verify_equal(trainer.weights_hash().unwrap().as_bytes()).unwrap();
    }
    (losses, trainer.weights_hash().unwrap())
}

#[test]
fn one_two_and_four_ranks_with_equal_or_unequal_shares_train_the_same_weights() {
    for microbatches in [4, 6] {
        let alone = train(&mut Gang::single(), microbatches, 0..microbatches);
        let table: [&[u64]; 4] = [&[1, 1], &[3, 1], &[1, 1, 1, 1], &[1, 2, 1]];
        for speeds in table {
            let ranges = shares(microbatches, speeds).unwrap();
            let trained = run(speeds.len() as u32, move |gang, rank| {
                train(gang, microbatches, ranges[rank as usize].clone())
            });
            assert!(
                trained.iter().all(|rank| *rank == alone),
                "{microbatches} microbatches by {speeds:?}: {trained:?}, alone {alone:?}"
            );
        }
    }
}
