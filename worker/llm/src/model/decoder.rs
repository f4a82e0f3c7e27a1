//! The forward pass: embedding, blocks, a final norm, and the output layer.

use super::layer::{DecoderLayer, ForwardContext};
use super::rope_scaling::frequencies;
use super::weights::split_flat;
use super::{Error, ModelConfig, Precision, WeightRole, WeightStore};
use crate::autograd::{GradientBuffer, Tape, Value, Weight};
use crate::device::Backend;
use crate::ops::BatchLayout;
use crate::ops::attention::AttentionShape;
use crate::ops::embedding::embedding;
use crate::ops::linear::linear;
use crate::ops::linear_cross_entropy::{self, LossTargets, linear_cross_entropy};
use crate::ops::prompt;
use crate::ops::rms_norm::rms_norm;
use crate::ops::rope::RotaryEmbedding;
use candle_core::{Device, Tensor, bail};
use std::sync::Arc;

/// A model: its configuration, its weights and its layers.
pub struct Decoder {
    config: ModelConfig,
    store: WeightStore,
    embedding: Weight,
    head: Weight,
    norm: Weight,
    layers: Vec<Arc<DecoderLayer>>,
    rotation: Arc<RotaryEmbedding>,
    prompt: Option<Weight>,
    checkpointing: bool,
}

impl Decoder {
    /// A model of `config` with the weights of `store`, which may hold more than those of the configuration.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a weight is absent or misshapen.
    pub fn new(config: ModelConfig, store: WeightStore) -> Result<Self, Error> {
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
        let rotation = Arc::new(RotaryEmbedding::new(&frequencies, config.max_position_embeddings, factor));
        let embedding = store.get("model.embed_tokens.weight")?;
        let head =
            if config.tie_word_embeddings { embedding.clone() } else { store.get("lm_head.weight")? };
        let layers = (0..config.num_hidden_layers)
            .map(|layer| DecoderLayer::new(&config, &store, layer).map(Arc::new));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = store.get("model.norm.weight")?;
        Ok(Self {
            config,
            store,
            embedding,
            head,
            norm,
            layers,
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
        let store =
            WeightStore::new(split_flat(&config, flat, WeightRole::Trained)?, Precision::F32, &Device::Cpu)?;
        Self::new(config, store)
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's weights.
    #[must_use]
    pub fn store(&self) -> &WeightStore {
        &self.store
    }

    /// Its layers.
    pub fn layers(&self) -> impl Iterator<Item = &DecoderLayer> {
        self.layers.iter().map(AsRef::as_ref)
    }

    /// Its layers, to modify.
    pub fn layers_mut(&mut self) -> impl Iterator<Item = &mut DecoderLayer> {
        self.layers.iter_mut().map(Arc::make_mut)
    }

    /// Embedding, final norm and output layer.
    #[must_use]
    pub fn embedding_norm_head(&self) -> (&Weight, &Weight, &Weight) {
        (&self.embedding, &self.norm, &self.head)
    }

    /// Its rotary position embedding.
    #[must_use]
    pub fn rotation(&self) -> &Arc<RotaryEmbedding> {
        &self.rotation
    }

    /// Learnt embeddings `[positions, hidden]` before each sequence, if any (prompt tuning).
    #[must_use]
    pub fn prompt(&self) -> Option<&Weight> {
        self.prompt.as_ref()
    }

    /// Positions of the context that learnt embeddings, or learnt keys and values, take before each sequence
    /// (PEFT's virtual tokens).
    #[must_use]
    pub fn virtual_tokens(&self) -> usize {
        let rows = |weight: &Weight| weight.shape().dims().first().copied().unwrap_or(0);
        let prefix =
            self.layers().next().and_then(DecoderLayer::prefix).map_or(0, |prefix| rows(&prefix.keys));
        self.prompt.as_ref().map_or(0, rows) + prefix
    }

    /// Puts learnt embeddings `[positions, hidden]` before each sequence.
    pub fn set_prompt(&mut self, prompt: Weight) {
        self.prompt = Some(prompt);
    }

    /// Tokens that fit: the context without virtual tokens.
    #[must_use]
    pub fn context(&self) -> usize {
        self.config.max_position_embeddings.saturating_sub(self.virtual_tokens())
    }

    /// Gradient checkpointing: each layer keeps only its input, and is computed again in the backward pass.
    /// Less memory, a third more work.
    pub fn set_checkpointing(&mut self, checkpointing: bool) {
        self.checkpointing = checkpointing;
    }

    /// Sets how its operations are computed; see [`WeightStore::set_backend`].
    pub fn set_backend(&mut self, backend: Backend) {
        self.store.set_backend(backend);
    }

    /// A tape for a forward pass alone.
    #[must_use]
    pub fn no_grad(&self) -> Tape {
        Tape::no_grad(self.store.backend())
    }

    /// The final hidden states `[batch * time, hidden]` of `tokens`, row by row. `dropout` is the seed of
    /// dropout; `None` for no dropout.
    ///
    /// # Errors
    /// When a token is outside the vocabulary or a sequence longer than the context.
    pub fn hidden(
        &self,
        tape: &mut Tape,
        tokens: &[u32],
        rows: &BatchLayout,
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
            x = prompt::prepend(tape, &x, prompt, rows)?;
            all = BatchLayout::new(rows.batch, before + rows.time);
        }
        let shape =
            AttentionShape { heads: self.config.heads(), rows: all, rotation: Arc::clone(&self.rotation) };
        let pass = ForwardContext { shape, dropout };
        for block in &self.layers {
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
        Ok(if before > 0 { prompt::drop_prefix(tape, &x, before, rows)? } else { x })
    }

    /// The weighted sum of the cross-entropies in nats of predicting `targets`, and a value that the backward
    /// pass can start from, with a gradient of 1.
    ///
    /// # Errors
    /// As [`Decoder::hidden`]; also when a target is outside the vocabulary.
    pub fn loss(
        &self,
        tape: &mut Tape,
        tokens: &[u32],
        targets: &LossTargets,
        rows: &BatchLayout,
        dropout: Option<u64>,
    ) -> Result<(Value, f64), Error> {
        let hidden = self.hidden(tape, tokens, rows, dropout)?;
        Ok(linear_cross_entropy(tape, &hidden, &self.head, targets)?)
    }

    /// The loss of [`Decoder::loss`], and the gradients of the trained weights. `space` is a vector to use
    /// again.
    ///
    /// # Errors
    /// As [`Decoder::loss`].
    pub fn gradients(
        &self,
        tokens: &[u32],
        targets: &LossTargets,
        rows: &BatchLayout,
        dropout: Option<u64>,
        space: Vec<f32>,
    ) -> Result<(f64, GradientBuffer), Error> {
        let mut tape = Tape::recording(self.store.gradients(space)?, self.store.backend());
        let (value, loss) = self.loss(&mut tape, tokens, targets, rows, dropout)?;
        let one = Tensor::new(1f32, self.store.device())?;
        Ok((loss, tape.backward(&value, one)?))
    }

    /// The cross-entropy in nats of each target; 0 where it is [`linear_cross_entropy::IGNORE_INDEX`].
    /// Computes no gradients.
    ///
    /// # Errors
    /// As [`Decoder::loss`].
    pub fn token_losses(
        &self,
        tokens: &[u32],
        targets: &[u32],
        rows: &BatchLayout,
    ) -> Result<Vec<f32>, Error> {
        let hidden = self.hidden(&mut self.no_grad(), tokens, rows, None)?;
        Ok(linear_cross_entropy::losses(hidden.data(), &self.head, targets, self.store.backend())?)
    }

    /// The logits `[batch * time, vocab]`.
    ///
    /// # Errors
    /// As [`Decoder::hidden`].
    pub fn logits(&self, tokens: &[u32], rows: &BatchLayout) -> Result<Tensor, Error> {
        let mut tape = self.no_grad();
        let hidden = self.hidden(&mut tape, tokens, rows, None)?;
        Ok(linear(&mut tape, &hidden, &self.head, None, None)?.data().clone())
    }
}
