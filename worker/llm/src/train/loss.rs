//! The loss of one batch under an objective, and its gradients.
//!
//! Losses are sums over what is counted. Gradients are scaled by a constant `unit` of the run (one over the
//! most that a microbatch can count), so that they do not grow with the batch; the mean over the global batch
//! is made when all microbatches are summed.

use super::Error;
use super::config::Objective;
use super::dataset::TokenBatch;
use super::gradients::LossSums;
use crate::autograd::GradientBuffer;
use crate::model::Decoder;
use crate::ops::linear_cross_entropy::{LossTargets, losses};

/// Sums over `batch`, and gradients times `unit`. `space` is a vector to use again.
///
/// # Errors
/// When the model refuses the tokens, or pairs are wanted and the batch has none.
pub fn gradients(
    model: &Decoder,
    batch: &TokenBatch,
    objective: Objective,
    unit: f64,
    dropout: Option<u64>,
    space: Vec<f32>,
) -> Result<(LossSums, GradientBuffer), Error> {
    let rows = batch.rows();
    match objective {
        Objective::NextToken => {
            let targets = LossTargets {
                weights: vec![unit as f32; batch.targets.len()],
                tokens: batch.targets.clone(),
            };
            let (loss, gradients) = model.gradients(&batch.tokens, &targets, &rows, dropout, space)?;
            let sums = LossSums {
                loss: loss / f64::from(unit as f32),
                counted: batch.counted() as f64,
                tokens: batch.tokens.len() as f64,
                ..LossSums::default()
            };
            Ok((sums, gradients))
        }
        Objective::Preference { beta, label_smoothing } => {
            let policy = log_probabilities(model, batch, dropout)?;
            let mut sums = LossSums {
                counted: policy.len() as f64,
                tokens: batch.tokens.len() as f64,
                ..LossSums::default()
            };
            let mut weights = Vec::with_capacity(batch.targets.len());
            for (policy, reference) in policy.iter().zip(&batch.reference) {
                let margin = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]));
                let pair = preference(margin, label_smoothing);
                sums.loss += pair.loss;
                sums.margin += margin;
                sums.preferred += f64::from(u8::from(margin > 0.0));
                // A log-probability is minus a sum of cross-entropies, so their derivatives change sign.
                let slope = (unit * pair.slope * beta) as f32;
                weights.resize(weights.len() + batch.time, -slope);
                weights.resize(weights.len() + batch.time, slope);
            }
            let targets = LossTargets { tokens: batch.targets.clone(), weights };
            let (_, gradients) = model.gradients(&batch.tokens, &targets, &rows, dropout, space)?;
            Ok((sums, gradients))
        }
    }
}

/// The loss of one pair, and its derivative by the margin.
struct PairLoss {
    loss: f64,
    slope: f64,
}

/// DPO's loss, `-(1 - s) log sigmoid(margin) - s log sigmoid(-margin)` (Rafailov et al. 2023, equation 7;
/// with smoothing `s` Mitchell 2023).
fn preference(margin: f64, smoothing: f64) -> PairLoss {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let sigmoid = 1.0 / (1.0 + (-margin).exp());
    let loss = (1.0 - smoothing) * softplus(-margin) + smoothing * softplus(margin);
    PairLoss { loss, slope: sigmoid - (1.0 - smoothing) }
}

/// For each pair, the log-probability in nats that the model gives to the counted tokens of (chosen,
/// rejected). Computes no gradients.
///
/// # Errors
/// When the batch does not consist of pairs, or the model refuses the tokens.
pub fn log_probabilities(
    model: &Decoder,
    batch: &TokenBatch,
    dropout: Option<u64>,
) -> Result<Vec<[f64; 2]>, Error> {
    if batch.sequences != 2 * batch.reference.len() {
        let given = format!(
            "{} sequences with {} pairs of log-probabilities of the reference",
            batch.sequences,
            batch.reference.len()
        );
        return Err(Error::Parameters(format!("the objective is for preferences, and the data are {given}")));
    }
    let hidden = model.hidden(&mut model.no_grad(), &batch.tokens, &batch.rows(), dropout)?;
    let (_, _, head) = model.embedding_norm_head();
    let found = losses(hidden.data(), head, &batch.targets, model.store().backend())
        .map_err(crate::model::Error::from)?;
    let sum = |losses: &[f32]| -losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    Ok(found
        .chunks_exact(2 * batch.time)
        .map(|pair| [sum(&pair[..batch.time]), sum(&pair[batch.time..])])
        .collect())
}
