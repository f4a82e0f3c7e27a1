//! A step of direct preference optimisation (DPO, Rafailov et al. 2023), as PyTorch computed it by its
//! formula.
//!
//! The loss is `-log sigmoid(beta * ((c - c') - (r - r')))`, the mean over pairs, where c and r are the log
//! probabilities that the policy gives the chosen and the rejected answer, and c', r' those of the reference.

use crate::recording::{Recording, close, golden, model};
use muster_llm::model::Decoder;
use muster_llm::ops::BatchLayout;
use muster_llm::ops::linear_cross_entropy::{IGNORE_INDEX, LossTargets};

/// One side's sequences: tokens, and what each position predicts, or [`IGNORE_INDEX`] where it does not
/// count.
struct Side {
    tokens: Vec<u32>,
    predicted: Vec<u32>,
    rows: BatchLayout,
}

impl Side {
    fn new(recorded: &Recording, side: &str) -> Self {
        let (tokens, batch, time) = recorded.tokens(&format!("{side}.tokens"));
        let (_, mask) = recorded.integers(&format!("{side}.mask"));
        let next = |at: usize| {
            if (at + 1).is_multiple_of(time) || mask[at + 1] == 0 { IGNORE_INDEX } else { tokens[at + 1] }
        };
        let predicted = (0..tokens.len()).map(next).collect();
        Self { tokens, predicted, rows: BatchLayout::new(batch, time) }
    }

    /// The log probability of each answer.
    fn log_probabilities(&self, model: &Decoder) -> Vec<f32> {
        let losses = model.token_losses(&self.tokens, &self.predicted, &self.rows).expect("computes");
        losses.chunks(self.rows.time).map(|row| -row.iter().sum::<f32>()).collect()
    }

    /// Gradients of the sum over all answers of `counts` times the negative log probability.
    fn gradients(&self, model: &Decoder, counts: &[f32]) -> Vec<f32> {
        let weights = counts.iter().flat_map(|count| vec![*count; self.rows.time]).collect();
        let targets = LossTargets { tokens: self.predicted.clone(), weights };
        let (_, gradients) =
            model.gradients(&self.tokens, &targets, &self.rows, None, Vec::new()).expect("computes");
        gradients.into_vec().expect("reads")
    }
}

#[test]
fn a_step_of_preference_has_the_loss_and_gradients_of_pytorch() {
    let directory = golden().join("dpo");
    let recorded = Recording::open(&directory.join("dpo.safetensors"));
    let about: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.join("dpo.json")).expect("reads")).expect("is JSON");
    let path = |key: &str| directory.join(about[key].as_str().expect("names a directory"));
    let (policy, reference) = (model(&path("policy")), model(&path("reference")));
    let beta = recorded.float("beta");
    let sides = ["chosen", "rejected"].map(|side| Side::new(&recorded, side));
    let [chosen, rejected] = ["chosen", "rejected"].map(|name| {
        let side = Side::new(&recorded, name);
        let (ours, theirs) = (side.log_probabilities(&policy), side.log_probabilities(&reference));
        close(
            &format!("log probabilities, {name}"),
            &ours,
            recorded.floats(&format!("log_probability.{name}")),
        );
        close(
            &format!("those of the reference, {name}"),
            &theirs,
            recorded.floats(&format!("log_probability.reference_{name}")),
        );
        let rewards: Vec<f32> =
            ours.iter().zip(&theirs).map(|(a, b)| (beta * f64::from(a - b)) as f32).collect();
        close(&format!("rewards, {name}"), &rewards, recorded.floats(&format!("reward.{name}")));
        rewards
    });
    let margins: Vec<f64> = chosen.iter().zip(&rejected).map(|(c, r)| f64::from(c - r)).collect();
    let pairs = margins.len() as f64;
    let loss = margins.iter().map(|margin| (-margin).exp().ln_1p()).sum::<f64>() / pairs;
    close("loss", &[loss as f32], recorded.floats("loss"));

    // d loss / d (log probability of the chosen) = -beta * sigmoid(-margin) / pairs; of the rejected, the
    // opposite.
    let counts: Vec<f32> =
        margins.iter().map(|margin| (beta / (1.0 + margin.exp()) / pairs) as f32).collect();
    let opposite: Vec<f32> = counts.iter().map(|count| -count).collect();
    let [up, down] = [sides[0].gradients(&policy, &counts), sides[1].gradients(&policy, &opposite)];
    let sum: Vec<f32> = up.iter().zip(&down).map(|(a, b)| a + b).collect();
    for slot in policy.store().slots().iter() {
        let theirs = recorded.floats(&format!("grad.{}", slot.name));
        close(&format!("gradient of {}", slot.name), &sum[slot.range()], theirs);
    }
}
