"""How two tensors are held against each other, and where a directory's recordings lie.

`ours.safetensors`, beside the files that our code saved, is what `check` reads:

    tokens        [batch, time]         i64 (or i32, u32): the input
    logits        [batch, time, vocab]  f32: what our code computed, of the real tokens only (no virtual ones)
    loss          []                    f32, optional: mean cross-entropy of predicting tokens[:, 1:]
    grad.<name>   the weight's shape    f32, optional: the gradient of that loss, by Hugging Face or PEFT name
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file

OURS = "ours.safetensors"
TOLERANCE = 1e-4


def relative_error(ours, theirs):
    """max |a - b| / max |b| over one tensor."""
    if tuple(ours.shape) != tuple(theirs.shape):
        raise SystemExit(f"shapes differ: ours {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
    scale = theirs.abs().max().item() if theirs.numel() else 0.0
    worst = (ours.double() - theirs.double()).abs().max().item() if theirs.numel() else 0.0
    return worst / scale if scale > 0 else worst


def directories(root):
    """Every directory at or under `root` in which our code left a recording."""
    found = sorted(path.parent for path in pathlib.Path(root).rglob(OURS))
    if not found:
        raise SystemExit(f"there is no {OURS} under {root}: let our code write one first")
    return found


def hold(directory, logits, loss, gradients):
    """Prints the worst errors of one directory; returns whether all are within bounds."""
    ours = load_file(str(directory / OURS))
    errors = {"logits": relative_error(ours["logits"].float(), logits.detach())}
    if "loss" in ours:
        errors["loss"] = relative_error(ours["loss"].float().reshape(()), loss.detach())
    for name, tensor in ours.items():
        if name.startswith("grad."):
            if name[5:] not in gradients:
                raise SystemExit(f"{directory}: {name} is of no weight; there are {sorted(gradients)}")
            errors[name] = relative_error(tensor.float(), gradients[name[5:]])
    worst = max(errors, key=errors.get)
    sound = errors[worst] <= TOLERANCE
    count = len(errors)
    print(f"{'ok  ' if sound else 'FAIL'} {directory}: logits {errors['logits']:.1e}, worst of {count} {errors[worst]:.1e} ({worst})")
    return sound


def tokens_of(directory):
    return load_file(str(directory / OURS))["tokens"].long()


def finish(sound):
    sys.exit(0 if all(sound) else 1)


def deterministic(seed):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
