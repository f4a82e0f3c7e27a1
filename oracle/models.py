#!/usr/bin/env python3
"""Tiny checkpoints that transformers wrote, with the logits, losses and gradients that PyTorch computed from them.

    models.py record --out DIR [--seed N]   one directory per configuration, and dpo/ beside them
    models.py check DIR                     loads what our code saved under DIR, and compares (see compare.py)

A recorded directory holds a checkpoint in the Hugging Face layout, and `oracle.safetensors` (f32, eager attention, CPU):

    tokens, tokens2     [batch, time] i64         two batches
    labels2             [batch, time] i64         the second batch's labels; -100 is ignored
    logits, logits2     [batch, time, vocab]
    loss, loss2         []                        mean cross-entropy of predicting labels[:, 1:] (labels = tokens in the first)
    grad.*, grad2.*     as the weights            gradient of loss, of loss2

and some hold `fifty.json` (parameters, and losses, norms and rates of 50 steps of AdamW) with `fifty.safetensors`
(`tokens` [batches, batch, time]; step s reads batch s mod batches).
"""

import argparse
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config
from transformers.utils import logging

import compare

SMALL = dict(
    vocab_size=48,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.25,
    attention_dropout=0.0,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


def plain(theta):
    return dict(rope_type="default", rope_theta=theta)


# Wavelengths of a head of 8 at this base: 6, 63, 628 and 6283 positions. 64 original positions put one of them in each of the
# three bands of llama3's scaling, and the second in the one between.
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)

# name: (configuration, size of a shard)
MODELS = {
    "llama-tied": (
        LlamaConfig(**SMALL | dict(num_key_value_heads=4, tie_word_embeddings=True, rope_parameters=plain(10000.0))),
        "1GB",
    ),
    "llama-gqa-llama3": (
        LlamaConfig(
            **SMALL
            | dict(
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=512,
                tie_word_embeddings=False,
                rms_norm_eps=1e-5,
                rope_parameters=LLAMA3,
            )
        ),
        "8KB",
    ),
    "llama-linear-headdim": (
        LlamaConfig(
            **SMALL
            | dict(
                head_dim=6,
                tie_word_embeddings=True,
                rope_parameters=dict(rope_type="linear", rope_theta=500000.0, factor=4.0),
            )
        ),
        "1GB",
    ),
    "llama-bias": (
        LlamaConfig(
            **SMALL
            | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=False, num_key_value_heads=1, rope_parameters=plain(10000.0))
        ),
        "1GB",
    ),
    "llama-yarn": (LlamaConfig(**SMALL | dict(head_dim=8, tie_word_embeddings=True, rope_parameters=YARN)), "1GB"),
    "qwen2-tied": (
        Qwen2Config(**SMALL | dict(tie_word_embeddings=True, rope_parameters=plain(1000000.0), use_sliding_window=False)),
        "1GB",
    ),
    "qwen3-untied": (
        Qwen3Config(
            **SMALL
            | dict(head_dim=8, tie_word_embeddings=False, rope_parameters=plain(1000000.0), use_sliding_window=False)
        ),
        "12KB",
    ),
}
BATCH, TIME = 2, 24

FIFTY = ["llama-gqa-llama3", "qwen3-untied"]
RUN = dict(
    steps=50,
    learning_rate=1e-2,
    warmup_steps=5,
    final_rate=0.05,
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    clip_norm=1.0,
)
FIFTY_BATCHES, FIFTY_BATCH, FIFTY_TIME = 10, 4, 16

DPO_POLICY, DPO_BETA, DPO_PAIRS, DPO_TIME = "llama-gqa-llama3", 0.3, 3, 16


def fresh(config):
    """A model whose norms and biases are not ones and zeros, so that each of them counts."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.add_(0.3 * torch.randn_like(weight))
            elif name.endswith(".bias"):
                weight.add_(0.3 * torch.randn_like(weight))
    return model.eval()


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32).eval()


def measure(model, tokens, labels):
    """Logits, loss, and the gradient of every weight, by name."""
    model.zero_grad(set_to_none=True)
    out = model(input_ids=tokens, labels=labels, use_cache=False)
    out.loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    return out.logits.detach(), out.loss.detach(), gradients


def record_model(name, directory):
    config, shard = MODELS[name]
    model = fresh(config)
    model.save_pretrained(directory, max_shard_size=shard)
    (directory / "generation_config.json").unlink(missing_ok=True)
    model = load(directory)
    tokens, tokens2 = (torch.randint(0, config.vocab_size, (BATCH, TIME)) for _ in range(2))
    # A prompt that is not learnt from, holes, and a tail that is padding.
    labels2 = tokens2.clone()
    labels2[0, :7] = -100
    labels2[1, 5:8] = -100
    labels2[1, -6:] = -100
    logits, loss, gradients = measure(model, tokens, tokens)
    logits2, loss2, gradients2 = measure(model, tokens2, labels2)
    recorded = dict(tokens=tokens, tokens2=tokens2, labels2=labels2, logits=logits, logits2=logits2, loss=loss, loss2=loss2)
    recorded |= {f"grad.{weight}": gradient for weight, gradient in gradients.items()}
    recorded |= {f"grad2.{weight}": gradient for weight, gradient in gradients2.items()}
    save(recorded, directory / "oracle.safetensors")
    print(f"{name}: {sum(p.numel() for p in model.parameters())} weights, loss {loss:.4f}, {loss2:.4f}")


def save(tensors, path):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path))


def learning_rate(step):
    """A linear rise, then half a cosine down to `final_rate`, as worker/llm's."""
    if step < RUN["warmup_steps"]:
        return RUN["learning_rate"] * (step + 1) / RUN["warmup_steps"]
    done = min((step - RUN["warmup_steps"]) / max(RUN["steps"] - RUN["warmup_steps"], 1), 1.0)
    height = 0.5 * (1.0 + math.cos(math.pi * done))
    return RUN["learning_rate"] * (RUN["final_rate"] + (1.0 - RUN["final_rate"]) * height)


def record_fifty(name, directory):
    model = load(directory)
    vocab = model.config.vocab_size
    batches = torch.randint(0, vocab, (FIFTY_BATCHES, FIFTY_BATCH, FIFTY_TIME))
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [dict(params=matrices, weight_decay=RUN["weight_decay"]), dict(params=vectors, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(RUN["beta1"], RUN["beta2"]), eps=RUN["epsilon"], foreach=False)
    losses, norms, rates = [], [], []
    for step in range(RUN["steps"]):
        tokens = batches[step % FIFTY_BATCHES]
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        # The clip of torch adds 1e-6 to the norm: by hand, so that it is exactly the definition.
        norm = math.sqrt(sum(weight.grad.double().pow(2).sum().item() for weight in model.parameters()))
        scale = RUN["clip_norm"] / norm if norm > RUN["clip_norm"] else 1.0
        for weight in model.parameters():
            weight.grad.mul_(scale)
        rates.append(learning_rate(step))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    save(dict(tokens=batches), directory / "fifty.safetensors")
    record = dict(run=RUN, losses=losses, gradient_norms=norms, learning_rates=rates)
    (directory / "fifty.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name}: {RUN['steps']} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}")


def response_log_probability(model, tokens, mask):
    """The sum of log p(token | those before) over the tokens that `mask` counts."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    chosen = F.log_softmax(logits, dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)
    return (chosen * mask[:, 1:]).sum(1)


def record_dpo(models, directory):
    """One step of direct preference optimisation (Rafailov et al. 2023, equation 7), by its formula."""
    policy = load(models / DPO_POLICY)
    reference = load(models / DPO_POLICY)
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    reference.save_pretrained(directory / "reference")
    (directory / "reference" / "generation_config.json").unlink(missing_ok=True)
    vocab = policy.config.vocab_size
    prompts = torch.randint(0, vocab, (DPO_PAIRS, 5))
    recorded, sums = {}, {}
    for side in ("chosen", "rejected"):
        tokens = torch.cat([prompts, torch.randint(0, vocab, (DPO_PAIRS, DPO_TIME - 5))], dim=1)
        mask = torch.zeros(DPO_PAIRS, DPO_TIME)
        for row, length in enumerate(torch.randint(8, DPO_TIME + 1, (DPO_PAIRS,)).tolist()):
            mask[row, 5:length] = 1.0
            tokens[row, length:] = 0
        sums[side] = response_log_probability(policy, tokens, mask)
        with torch.no_grad():
            sums["reference_" + side] = response_log_probability(reference, tokens, mask)
        recorded |= {f"{side}.tokens": tokens, f"{side}.mask": mask.long()}
    chosen = DPO_BETA * (sums["chosen"] - sums["reference_chosen"])
    rejected = DPO_BETA * (sums["rejected"] - sums["reference_rejected"])
    loss = -F.logsigmoid(chosen - rejected).mean()
    loss.backward()
    recorded |= {f"log_probability.{side}": value.detach() for side, value in sums.items()}
    recorded |= {"reward.chosen": chosen.detach(), "reward.rejected": rejected.detach()}
    recorded |= dict(loss=loss.detach(), beta=torch.tensor(DPO_BETA, dtype=torch.float64))
    recorded |= {f"grad.{name}": weight.grad for name, weight in policy.named_parameters()}
    save(recorded, directory / "dpo.safetensors")
    (directory / "dpo.json").write_text(json.dumps(dict(policy=f"../models/{DPO_POLICY}", reference="reference", beta=DPO_BETA)) + "\n")
    print(f"dpo: loss {loss:.4f}")


def record(out, seed):
    models, dpo = out / "models", out / "dpo"
    for place, name in enumerate(MODELS):
        compare.deterministic(seed * 1000 + place)
        (models / name).mkdir(parents=True, exist_ok=True)
        record_model(name, models / name)
        if name in FIFTY:
            record_fifty(name, models / name)
    older_layout(models / "llama-linear-headdim")
    compare.deterministic(seed * 1000 + 500)
    dpo.mkdir(parents=True, exist_ok=True)
    record_dpo(models, dpo)


def older_layout(directory):
    """Says the rotary parameters as releases before 5 wrote them: most checkpoints in the world do."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    before = measure(load(directory), torch.arange(8)[None], torch.arange(8)[None])[0]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    after = measure(load(directory), torch.arange(8)[None], torch.arange(8)[None])[0]
    assert AutoConfig.from_pretrained(directory).rope_parameters["factor"] == scaling["factor"]
    assert torch.equal(before, after), "both layouts mean the same"


def check(root):
    sound = []
    for directory in compare.directories(root):
        tokens = compare.tokens_of(directory)
        sound.append(compare.hold(directory, *measure(load(directory), tokens, tokens)))
    compare.finish(sound)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("--out", type=pathlib.Path, required=True)
    recording.add_argument("--seed", type=int, default=1)
    verbs.add_parser("check").add_argument("directory", type=pathlib.Path)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    if arguments.verb == "record":
        record(arguments.out, arguments.seed)
    else:
        check(arguments.directory)


if __name__ == "__main__":
    main()
