//! The forward pass: embedding, blocks, a final norm, and the output layer.

use super::block::{Block, Pass};
use super::rope_scaling::frequencies;
use super::weights::arrays;
use super::{Error, Hold, ModelConfig, Precision, Store};
use crate::autograd::{Gradients, Tape, Value, Weight};
use crate::ops::Rows;
use crate::ops::attention::Shape;
use crate::ops::embedding::embedding;
use crate::ops::head_loss::{self, Targets, head_loss};
use crate::ops::linear::linear;
use crate::ops::prompt;
use crate::ops::rms_norm::rms_norm;
use crate::ops::rope::Rotation;
use candle_core::{Device, Tensor, bail};
use std::sync::Arc;

/// A model: its configuration, its weights, and how they are put together.
pub struct Decoder {
    config: ModelConfig,
    store: Store,
    embedding: Weight,
    head: Weight,
    norm: Weight,
    blocks: Vec<Arc<Block>>,
    rotation: Arc<Rotation>,
    prompt: Option<Weight>,
    checkpointing: bool,
}

impl Decoder {
    /// A model of `config` with the weights of `store`, which may hold more than those of the configuration.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or a weight is absent or misshapen.
    pub fn new(config: ModelConfig, store: Store) -> Result<Self, Error> {
        config.validate()?;
        for (name, shape) in config.weight_shapes() {
            let found = store.get(&name)?.shape().dims().to_vec();
            if found != shape {
                return Err(Error::Weights(format!(
                    "{name} has shape {found:?} where the configuration wants {shape:?}"
                )));
            }
        }
        let (frequencies, factor) = frequencies(
            config.head_dim(),
            config.rope_theta,
            config.max_position_embeddings,
            config.rope_scaling.as_ref(),
        );
        let rotation = Arc::new(Rotation::new(&frequencies, config.max_position_embeddings, factor));
        let embedding = store.get("model.embed_tokens.weight")?;
        let head =
            if config.tie_word_embeddings { embedding.clone() } else { store.get("lm_head.weight")? };
        let blocks =
            (0..config.num_hidden_layers).map(|layer| Block::new(&config, &store, layer).map(Arc::new));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let norm = store.get("model.norm.weight")?;
        Ok(Self {
            config,
            store,
            embedding,
            head,
            norm,
            blocks,
            rotation,
            prompt: None,
            checkpointing: false,
        })
    }

    /// A model on the CPU whose every weight is trained, in f32, from a flat vector in order of names.
    ///
    /// # Errors
    /// As [`Decoder::new`], and when the vector's length is not the model's.
    pub fn trained(config: ModelConfig, flat: &[f32]) -> Result<Self, Error> {
        config.validate()?;
        let store = Store::new(arrays(&config, flat, Hold::Trained)?, Precision::F32, &Device::Cpu)?;
        Self::new(config, store)
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's numbers.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its blocks.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().map(AsRef::as_ref)
    }

    /// Its blocks, to add to.
    pub fn blocks_mut(&mut self) -> impl Iterator<Item = &mut Block> {
        self.blocks.iter_mut().map(Arc::make_mut)
    }

    /// Embedding, final norm and output layer.
    #[must_use]
    pub fn ends(&self) -> (&Weight, &Weight, &Weight) {
        (&self.embedding, &self.norm, &self.head)
    }

    /// The turns of its positions.
    #[must_use]
    pub fn rotation(&self) -> &Arc<Rotation> {
        &self.rotation
    }

    /// Rows before each sequence, if any.
    #[must_use]
    pub fn prompt(&self) -> Option<&Weight> {
        self.prompt.as_ref()
    }

    /// Positions of the context that learnt rows, or learnt keys and values, take before each sequence.
    #[must_use]
    pub fn before(&self) -> usize {
        let rows = |weight: &Weight| weight.shape().dims().first().copied().unwrap_or(0);
        let prefix = self.blocks().next().and_then(Block::prefix).map_or(0, |prefix| rows(&prefix.keys));
        self.prompt.as_ref().map_or(0, rows) + prefix
    }

    /// Puts rows `[positions, hidden]` before each sequence.
    pub fn set_prompt(&mut self, prompt: Weight) {
        self.prompt = Some(prompt);
    }

    /// How many tokens it can see: the context, without what a method put before them.
    #[must_use]
    pub fn context(&self) -> usize {
        self.config.max_position_embeddings.saturating_sub(self.before())
    }

    /// Whether each block keeps only its input for backward, and is done again there: less memory, a third
    /// more work.
    pub fn set_checkpointing(&mut self, checkpointing: bool) {
        self.checkpointing = checkpointing;
    }

    /// The final hidden states `[batch * time, hidden]` of `tokens`, row by row. Dropout is drawn from
    /// `dropout`; `None`: none.
    ///
    /// # Errors
    /// When a token is outside the vocabulary or a sequence longer than the context.
    pub fn hidden(
        &self,
        tape: &mut Tape,
        tokens: &[u32],
        rows: &Rows,
        dropout: Option<u64>,
    ) -> Result<Value, Error> {
        if tokens.len() != rows.count() || tokens.is_empty() {
            return Err(Error::Tokens(format!(
                "{} tokens for {} sequences of {}",
                tokens.len(),
                rows.batch,
                rows.time
            )));
        }
        let before =
            self.prompt.as_ref().map_or(Ok(0), |prompt| prompt.shape().dims2().map(|(before, _)| before))?;
        let context = self.config.max_position_embeddings;
        if before + rows.time > context {
            return Err(Error::Tokens(format!(
                "a sequence of {} is longer than the context of {context}",
                before + rows.time
            )));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.config.vocab_size) {
            return Err(Error::Tokens(format!(
                "token {token} is outside the vocabulary of {}",
                self.config.vocab_size
            )));
        }
        let mut x = embedding(tape, tokens, &self.embedding, self.store.dtype(), self.store.device())?;
        let mut all = rows.clone();
        if let Some(prompt) = &self.prompt {
            if rows.starts.is_some() {
                return Err(Error::Tokens(
                    "a learnt prompt needs sequences of one document each, not packed ones".to_owned(),
                ));
            }
            x = prompt::precede(tape, &x, prompt, rows)?;
            all = Rows::new(rows.batch, before + rows.time);
        }
        let shape = Shape { heads: self.config.heads(), rows: all, rotation: Arc::clone(&self.rotation) };
        let pass = Pass { shape, dropout };
        for block in &self.blocks {
            x = if self.checkpointing {
                let (block, pass) = (Arc::clone(block), pass.clone());
                tape.checkpointed(&x, move |tape, x| match block.forward(tape, x, &pass) {
                    Ok(y) => Ok(y),
                    Err(Error::Tensor(error)) => Err(error),
                    Err(error) => bail!("{error}"),
                })?
            } else {
                block.forward(tape, &x, &pass)?
            };
        }
        let x = rms_norm(tape, &x, &self.norm, self.config.rms_norm_eps)?;
        Ok(if before > 0 { prompt::without(tape, &x, before, rows)? } else { x })
    }

    /// The cross-entropies in nats of predicting `targets`, times what each counts: their sum, and a value
    /// that backward can start from, with a gradient of 1.
    ///
    /// # Errors
    /// As [`Decoder::hidden`]; also when a target is outside the vocabulary.
    pub fn loss(
        &self,
        tape: &mut Tape,
        tokens: &[u32],
        targets: &Targets,
        rows: &Rows,
        dropout: Option<u64>,
    ) -> Result<(Value, f64), Error> {
        let hidden = self.hidden(tape, tokens, rows, dropout)?;
        Ok(head_loss(tape, &hidden, &self.head, targets)?)
    }

    /// As [`Decoder::loss`], and all the way back: the loss, and the gradients of the trained weights.
    /// `space` is a vector to use again.
    ///
    /// # Errors
    /// As [`Decoder::loss`].
    pub fn gradients(
        &self,
        tokens: &[u32],
        targets: &Targets,
        rows: &Rows,
        dropout: Option<u64>,
        space: Vec<f32>,
    ) -> Result<(f64, Gradients), Error> {
        let mut tape = Tape::recording(self.store.gradients(space)?);
        let (value, loss) = self.loss(&mut tape, tokens, targets, rows, dropout)?;
        let one = Tensor::new(1f32, self.store.device())?;
        Ok((loss, tape.backward(&value, one)?))
    }

    /// The cross-entropy in nats of each target; 0 where it is ignored. Computes no gradients.
    ///
    /// # Errors
    /// As [`Decoder::loss`].
    pub fn token_losses(&self, tokens: &[u32], targets: &[u32], rows: &Rows) -> Result<Vec<f32>, Error> {
        let hidden = self.hidden(&mut Tape::forgetful(), tokens, rows, None)?;
        Ok(head_loss::losses(hidden.data(), &self.head, targets)?)
    }

    /// The logits `[batch * time, vocab]`.
    ///
    /// # Errors
    /// As [`Decoder::hidden`].
    pub fn logits(&self, tokens: &[u32], rows: &Rows) -> Result<Tensor, Error> {
        let mut tape = Tape::forgetful();
        let hidden = self.hidden(&mut tape, tokens, rows, None)?;
        Ok(linear(&mut tape, &hidden, &self.head, None, None)?.data().clone())
    }
}
