//! One layer of a decoder: attention and the gated feed-forward, each after an RMSNorm and added to the
//! residual stream.

use super::{Error, ModelConfig, WeightStore};
use crate::autograd::{Tape, Value, Weight};
use crate::ops::attention::{AttentionShape, KeyValuePrefix, attention};
use crate::ops::dropout::dropout;
use crate::ops::linear::linear;
use crate::ops::rms_norm::rms_norm;
use crate::ops::scale::scale;
use crate::ops::swiglu::swiglu;

/// What all layers of a forward pass share.
#[derive(Clone)]
pub struct ForwardContext {
    /// Heads, sequences and rotary positions.
    pub shape: AttentionShape,
    /// Seed of dropout; `None` for no dropout, as in evaluation.
    pub dropout: Option<u64>,
}

/// A low-rank addition to a projection: `y += scale * (dropout(x) A^T) B^T` (LoRA, Hu et al. 2021).
#[derive(Clone)]
pub struct LoraAdapter {
    /// `[rank, in]`.
    pub a: Weight,
    /// `[out, rank]`.
    pub b: Weight,
    /// `alpha / rank`, or `alpha / sqrt(rank)`.
    pub scale: f64,
    /// The probability that an element of `x` is dropped.
    pub dropout: f64,
    /// Identifies it in the seed of dropout.
    pub site: u64,
}

/// A linear layer with its optional bias and LoRA.
#[derive(Clone)]
pub struct Projection {
    /// `[out, in]`.
    pub weight: Weight,
    /// `[out]`.
    pub bias: Option<Weight>,
    /// A low-rank addition.
    pub lora: Option<LoraAdapter>,
}

/// The projections of a layer, in the order of [`DecoderLayer::projections`].
pub const PROJECTIONS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// One layer.
#[derive(Clone)]
pub struct DecoderLayer {
    input_norm: Weight,
    post_norm: Weight,
    head_norms: Option<(Weight, Weight)>,
    projections: [Projection; 7],
    prefix: Option<KeyValuePrefix>,
    eps: f64,
}

/// The full name of a projection in a layer: `model.layers.3.self_attn.q_proj`.
#[must_use]
pub fn projection_name(layer: usize, part: &str) -> String {
    let of = if matches!(part, "gate_proj" | "up_proj" | "down_proj") { "mlp" } else { "self_attn" };
    format!("model.layers.{layer}.{of}.{part}")
}

impl Projection {
    fn new(store: &WeightStore, name: &str, bias: bool) -> Result<Self, Error> {
        let bias = bias.then(|| store.get(&format!("{name}.bias"))).transpose()?;
        Ok(Self { weight: store.get(&format!("{name}.weight"))?, bias, lora: None })
    }

    /// Applies it to each row of `x [rows, in]`, and adds `residual [rows, out]`.
    fn apply(
        &self,
        tape: &mut Tape,
        x: &Value,
        residual: Option<&Value>,
        pass: &ForwardContext,
    ) -> Result<Value, Error> {
        let y = linear(tape, x, &self.weight, self.bias.as_ref(), residual)?;
        let Some(lora) = &self.lora else { return Ok(y) };
        let given = match pass.dropout {
            Some(seed) if lora.dropout > 0.0 => dropout(tape, x, lora.dropout, seed, lora.site)?,
            Some(_) | None => x.clone(),
        };
        let narrow = linear(tape, &given, &lora.a, None, None)?;
        let narrow = scale(tape, &narrow, lora.scale)?;
        Ok(linear(tape, &narrow, &lora.b, None, Some(&y))?)
    }
}

impl DecoderLayer {
    /// The layer number `layer` of a model.
    ///
    /// # Errors
    /// When a weight is absent.
    pub fn new(config: &ModelConfig, store: &WeightStore, layer: usize) -> Result<Self, Error> {
        let weight = |part: &str| store.get(&format!("model.layers.{layer}.{part}.weight"));
        let head_norms = config
            .has_head_norms()
            .then(|| Ok::<_, Error>((weight("self_attn.q_norm")?, weight("self_attn.k_norm")?)));
        let bias = |part: &str| match part {
            "q_proj" | "k_proj" | "v_proj" => config.has_qkv_bias(),
            "o_proj" => config.has_o_bias(),
            _ => config.mlp_bias,
        };
        let projection = |part: &str| Projection::new(store, &projection_name(layer, part), bias(part));
        let [q, k, v, o, gate, up, down] = PROJECTIONS;
        Ok(Self {
            input_norm: weight("input_layernorm")?,
            post_norm: weight("post_attention_layernorm")?,
            head_norms: head_norms.transpose()?,
            projections: [
                projection(q)?,
                projection(k)?,
                projection(v)?,
                projection(o)?,
                projection(gate)?,
                projection(up)?,
                projection(down)?,
            ],
            prefix: None,
            eps: config.rms_norm_eps,
        })
    }

    /// Its projections, in the order of [`PROJECTIONS`].
    #[must_use]
    pub fn projections(&self) -> &[Projection; 7] {
        &self.projections
    }

    /// Its projections, to modify.
    pub fn projections_mut(&mut self) -> &mut [Projection; 7] {
        &mut self.projections
    }

    /// The norms before attention, before the feed-forward, and of the heads' queries and keys.
    #[must_use]
    pub fn norms(&self) -> (&Weight, &Weight, Option<&(Weight, Weight)>) {
        (&self.input_norm, &self.post_norm, self.head_norms.as_ref())
    }

    /// Learnt keys and values before all positions, if any.
    #[must_use]
    pub fn prefix(&self) -> Option<&KeyValuePrefix> {
        self.prefix.as_ref()
    }

    /// Puts learnt keys and values before all positions.
    pub fn set_prefix(&mut self, prefix: KeyValuePrefix) {
        self.prefix = Some(prefix);
    }

    /// Maps `x [rows, hidden]` to the same shape.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn forward(&self, tape: &mut Tape, x: &Value, pass: &ForwardContext) -> Result<Value, Error> {
        let [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] = &self.projections;
        let h = rms_norm(tape, x, &self.input_norm, self.eps)?;
        let mut q = q_proj.apply(tape, &h, None, pass)?;
        let mut k = k_proj.apply(tape, &h, None, pass)?;
        let v = v_proj.apply(tape, &h, None, pass)?;
        if let Some((q_norm, k_norm)) = &self.head_norms {
            q = rms_norm(tape, &q, q_norm, self.eps)?;
            k = rms_norm(tape, &k, k_norm, self.eps)?;
        }
        let attended = attention(tape, &q, &k, &v, &pass.shape, self.prefix.as_ref())?;
        let x = o_proj.apply(tape, &attended, Some(x), pass)?;

        let h = rms_norm(tape, &x, &self.post_norm, self.eps)?;
        let gate = gate_proj.apply(tape, &h, None, pass)?;
        let up = up_proj.apply(tape, &h, None, pass)?;
        let gated = swiglu(tape, &gate, &up)?;
        down_proj.apply(tape, &gated, Some(&x), pass)
    }
}
