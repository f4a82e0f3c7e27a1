//! The loss of one batch under an objective, and its gradients.
//!
//! Losses are sums over what is counted, and gradients are scaled by a constant `unit` of the run (one over
//! the most that a microbatch can count), so that no gradient grows with the batch; the mean over the global
//! batch is made by whoever has all of it.

use super::Error;
use super::config::Objective;
use super::gradients::Sums;
use super::samples::Batch;
use crate::autograd::{Gradients, Tape};
use crate::model::Decoder;
use crate::ops::head_loss::{Targets, losses};

/// Sums over `batch`, and gradients times `unit`. `space` is a vector to use again.
///
/// # Errors
/// When the model refuses the tokens, or the batch is none of pairs where pairs are wanted.
pub fn gradients(
    model: &Decoder,
    batch: &Batch,
    objective: Objective,
    unit: f64,
    dropout: Option<u64>,
    space: Vec<f32>,
) -> Result<(Sums, Gradients), Error> {
    let rows = batch.rows();
    match objective {
        Objective::NextToken => {
            let targets =
                Targets { weights: vec![unit as f32; batch.targets.len()], tokens: batch.targets.clone() };
            let (loss, gradients) = model.gradients(&batch.tokens, &targets, &rows, dropout, space)?;
            let sums = Sums {
                loss: loss / f64::from(unit as f32),
                counted: batch.counted() as f64,
                tokens: batch.tokens.len() as f64,
                ..Sums::default()
            };
            Ok((sums, gradients))
        }
        Objective::Preference { beta, label_smoothing } => {
            let policy = log_probabilities(model, batch, dropout)?;
            let mut sums =
                Sums { counted: policy.len() as f64, tokens: batch.tokens.len() as f64, ..Sums::default() };
            let mut weights = Vec::with_capacity(batch.targets.len());
            for (policy, reference) in policy.iter().zip(&batch.reference) {
                let margin = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]));
                let pair = preference(margin, label_smoothing);
                sums.loss += pair.loss;
                sums.margin += margin;
                sums.preferred += f64::from(u8::from(margin > 0.0));
                // A log-probability is minus a sum of cross-entropies, so their slopes have its sign turned.
                let slope = (unit * pair.slope * beta) as f32;
                weights.resize(weights.len() + batch.time, -slope);
                weights.resize(weights.len() + batch.time, slope);
            }
            let targets = Targets { tokens: batch.targets.clone(), weights };
            let (_, gradients) = model.gradients(&batch.tokens, &targets, &rows, dropout, space)?;
            Ok((sums, gradients))
        }
    }
}

/// The loss of one pair, and its slope by the margin.
struct Preference {
    loss: f64,
    slope: f64,
}

/// `-(1 - s) log sigmoid(margin) - s log sigmoid(-margin)` (Rafailov et al. 2023, equation 7; with smoothing
/// Mitchell 2023).
fn preference(margin: f64, smoothing: f64) -> Preference {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let sigmoid = 1.0 / (1.0 + (-margin).exp());
    let loss = (1.0 - smoothing) * softplus(-margin) + smoothing * softplus(margin);
    Preference { loss, slope: sigmoid - (1.0 - smoothing) }
}

/// The log-probabilities of what counts in (chosen, rejected) of each pair, in nats. Without gradients.
///
/// # Errors
/// When the batch is none of pairs, or the model refuses the tokens.
pub fn log_probabilities(
    model: &Decoder,
    batch: &Batch,
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
    let hidden = model.hidden(&mut Tape::forgetful(), &batch.tokens, &batch.rows(), dropout)?;
    let (_, _, head) = model.ends();
    let found = losses(hidden.data(), head, &batch.targets).map_err(crate::model::Error::from)?;
    let sum = |losses: &[f32]| -losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    Ok(found
        .chunks_exact(2 * batch.time)
        .map(|pair| [sum(&pair[..batch.time]), sum(&pair[batch.time..])])
        .collect())
}
