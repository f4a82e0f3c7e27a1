#!/usr/bin/env python3
"""Adapters that peft wrote over a recorded base, with the logits and gradients that PyTorch computed; and the way back.

    adapters.py record --out DIR [--seed N]   DIR as models.py recorded it; writes DIR/adapters/<name>
    adapters.py check DIR                     every directory under DIR in which our code left adapter_config.json,
                                              adapter_model.safetensors and ours.safetensors (see compare.py);
                                              base_model_name_or_path is relative to that directory

A recorded directory holds an adapter in the PEFT layout, and `oracle.safetensors` (f32, eager attention, CPU):

    tokens           [batch, time] i64
    logits           [batch, time, vocab]   of the real tokens only: those of virtual tokens are left out
    merged.logits    the same, of the base with the adapter merged into it (LoRA only)
    loss             []                     mean cross-entropy of predicting tokens[:, 1:]; nothing is predicted from a virtual token
    grad.<name>      by the names of adapter_model.safetensors
"""

import argparse
import json
import pathlib
import warnings

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from transformers.utils import logging

import compare
from models import load, save

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BASE, QWEN = "llama-gqa-llama3", "qwen3-untied"

# name: (base, configuration)
ADAPTERS = {
    "lora-qv": (BASE, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])),
    "lora-all-rslora": (
        QWEN,
        LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, lora_dropout=0.0, use_rslora=True, target_modules=LINEAR),
    ),
    "prefix": (BASE, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, prefix_projection=False)),
    "prompt": (BASE, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)),
}
BATCH, TIME = 2, 16


def measure(model, tokens):
    """Logits of the real tokens, loss, and the gradient of every weight of the adapter, by the name it is saved under."""
    model.zero_grad(set_to_none=True)
    logits = model(input_ids=tokens).logits[:, -tokens.shape[1] :]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    # peft saves under names without the adapter's own; its keys tell which weight is which.
    gradients = {}
    if model.active_peft_config.is_prompt_learning:
        gradients["prompt_embeddings"] = model.prompt_encoder["default"].embedding.weight.grad
    else:
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                gradients[name.replace(".default.", ".")] = weight.grad
    saved = set(get_peft_model_state_dict(model))
    assert set(gradients) == saved, f"a gradient for each saved weight: {set(gradients) ^ saved}"
    return logits.detach(), loss.detach(), {name: gradient.clone() for name, gradient in gradients.items()}


def opened(base, directory):
    """The base with a saved adapter, whose weights get gradients."""
    prompt_learning = json.loads((directory / "adapter_config.json").read_text())["peft_type"] != "LORA"
    model = PeftModel.from_pretrained(base, directory, is_trainable=not prompt_learning).eval()
    if prompt_learning:
        # peft opens these for inference only.
        model.prompt_encoder["default"].embedding.weight.requires_grad_(True)
    return model


def record(out, seed):
    for place, (name, (base_name, config)) in enumerate(ADAPTERS.items()):
        compare.deterministic(seed * 1000 + 700 + place)
        directory = out / "adapters" / name
        directory.mkdir(parents=True, exist_ok=True)
        base = load(out / "models" / base_name)
        model = get_peft_model(base, config)
        with torch.no_grad():
            for weight_name, weight in model.named_parameters():
                # B begins as zeros, which would leave A without a gradient and the logits as they are.
                if weight.requires_grad and "lora_A" not in weight_name:
                    weight.copy_(0.3 * torch.randn_like(weight))
        model.save_pretrained(directory)
        (directory / "README.md").unlink(missing_ok=True)
        point_at(directory, f"../../models/{base_name}")
        model = opened(load(out / "models" / base_name), directory)
        tokens = torch.randint(0, base.config.vocab_size, (BATCH, TIME))
        logits, loss, gradients = measure(model, tokens)
        recorded = dict(tokens=tokens, logits=logits, loss=loss)
        recorded |= {f"grad.{weight}": gradient for weight, gradient in gradients.items()}
        with torch.no_grad():
            plain = load(out / "models" / base_name)(input_ids=tokens).logits
            assert compare.relative_error(plain, logits) > 1e-2, "the adapter changes something"
            if not config.is_prompt_learning:
                merged = model.merge_and_unload()
                recorded["merged.logits"] = merged(input_ids=tokens).logits
        save(recorded, directory / "oracle.safetensors")
        print(f"{name} on {base_name}: {sum(g.numel() for g in gradients.values())} weights, loss {loss:.4f}")


def point_at(directory, base):
    """Where the base lies, relative to the adapter."""
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base
    # peft holds these as a set, which has no order.
    if "target_modules" in config:
        config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def check(root):
    sound = []
    directories = [directory for directory in compare.directories(root) if (directory / "adapter_config.json").exists()]
    if not directories:
        raise SystemExit(f"there is no adapter_config.json beside an {compare.OURS} under {root}")
    for directory in directories:
        config = json.loads((directory / "adapter_config.json").read_text())
        base = load(directory / config["base_model_name_or_path"])
        model = opened(base, directory)
        sound.append(compare.hold(directory, *measure(model, compare.tokens_of(directory))))
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
    # peft looks for the base relative to the working directory, and says that it is not there.
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|torch")
    if arguments.verb == "record":
        record(arguments.out, arguments.seed)
    else:
        check(arguments.directory)


if __name__ == "__main__":
    main()
