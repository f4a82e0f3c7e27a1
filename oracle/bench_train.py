#!/usr/bin/env python3
"""The peer of `cargo xtask bench train`: a plain llama in eager PyTorch, trained on drawn tokens.

In f32 on the CPU; a size whose "device" is "cuda" runs on the first GPU, and with "precision" "bf16" under autocast: products in bf16,
weights and AdamW's moments in f32. There `peak_bytes` is the allocator's greatest, and there are no `profile` and `gemm`.

    bench_train.py pick SIZE                   which of AdamW's implementations is the fastest here: {"adamw": ...}
    bench_train.py serve SIZE --adamw NAME     answers commands on standard input, one JSON object a line:

        (at the start)  {"peer": ..., "parameters": N}
        run K           K steps: {"steps": K, "seconds": S, "tokens": N, "loss": L, "peak_bytes": B}
        profile K       where K steps' time goes: {"steps": K, "seconds": S, "parts": {name: seconds}}
        gemm            the best rate of a large product of matrices: {"gflops": G}

worker/llm/examples/bench_train.rs answers the same, so that the bench can let both take turns. SIZE is a key of
bench_train.json. `peak_bytes` is the greatest resident size over all steps so far, less that before the model was made;
before that, a tiny model has trained a step, so that the libraries' own pages are not counted.
"""

import argparse
import json
import math
import pathlib
import re
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

PLAN = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
KINDS = {"fused": dict(fused=True), "foreach": dict(foreach=True), "loop": dict(foreach=False)}


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.key_heads = c["num_attention_heads"], c["num_key_value_heads"]
        hidden, inner, self.eps = c["hidden_size"], c["intermediate_size"], c["rms_norm_eps"]
        self.head = hidden // self.heads
        self.norm1, self.norm2 = (nn.Parameter(torch.ones(hidden)) for _ in range(2))
        self.q, self.o = (nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(hidden, self.key_heads * self.head, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(hidden, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, time_, hidden = x.shape
        h = F.rms_norm(x, (hidden,), self.norm1, self.eps)
        split = lambda y, heads: y.view(batch, time_, heads, self.head).transpose(1, 2)
        q, k = rotate(split(self.q(h), self.heads), cos, sin), rotate(split(self.k(h), self.key_heads), cos, sin)
        v = split(self.v(h), self.key_heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.key_heads)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, time_, hidden))
        h = F.rms_norm(x, (hidden,), self.norm2, self.eps)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.hidden, self.eps = c["hidden_size"], c["rms_norm_eps"]
        self.embedding = nn.Embedding(c["vocab_size"], self.hidden)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(self.hidden))
        head = self.hidden // c["num_attention_heads"]
        pairs = c["rope_theta"] ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
        angles = torch.outer(torch.arange(c["max_position_embeddings"], dtype=torch.float64), pairs)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=c["initializer_range"])

    def forward(self, tokens, targets):
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        x = F.rms_norm(x, (self.hidden,), self.norm, self.eps)
        logits = F.linear(x, self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Run:
    """A model, its optimizer, and its tokens, on the device of its size."""

    def __init__(self, size, adamw):
        torch.manual_seed(PLAN["seed"])
        self.size, o = size, PLAN["optimizer"]
        self.device = size.get("device", "cpu")
        self.bf16 = torch.autocast(self.device, dtype=torch.bfloat16, enabled=size.get("precision") == "bf16")
        self.model = Llama(size["model"]).to(self.device)
        weights = list(self.model.parameters())
        groups = [
            dict(params=[w for w in weights if w.dim() > 1], weight_decay=o["weight_decay"]),
            dict(params=[w for w in weights if w.dim() == 1], weight_decay=0.0),
        ]
        betas = (o["beta1"], o["beta2"])
        self.optimizer = torch.optim.AdamW(groups, lr=o["learning_rate"], betas=betas, eps=o["epsilon"], **KINDS[adamw])
        vocab, shape = size["model"]["vocab_size"], (size["batch"], size["context"] + 1)
        self.batches = [torch.randint(0, vocab, shape).to(self.device) for _ in range(8)]
        self.done = 0

    def step(self):
        tokens = self.batches[self.done % len(self.batches)]
        self.done += 1
        self.optimizer.zero_grad(set_to_none=True)
        with self.bf16:
            loss = self.model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), PLAN["optimizer"]["clip_norm"])
        self.optimizer.step()
        return loss.item()

    def steps(self, count):
        begun = time.perf_counter()
        for _ in range(count):
            loss = self.step()
        if self.device != "cpu":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
        assert math.isfinite(loss)
        return dict(steps=count, seconds=seconds, tokens=count * self.size["batch"] * self.size["context"], loss=loss)


def status(key):
    """A size in /proc/self/status, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024


def forget_peak():
    """Lets the greatest resident size (VmHWM) begin again from the present one."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def profile(run, count):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiler:
        measured = run.steps(count)
    times = sorted(((event.self_cpu_time_total / 1e6, event.key) for event in profiler.key_averages()), reverse=True)
    return dict(steps=count, seconds=measured["seconds"], parts={key: seconds for seconds, key in times[:20]})


def gemm(side=2048, repeats=12):
    a, b = torch.randn(side, side), torch.randn(side, side)
    best = math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begun)
    return dict(gflops=2 * side**3 / best / 1e9)


def pick(size):
    """The fastest AdamW for this model on this machine: best of several steps each, in turns."""
    runs = {kind: Run(size, kind) for kind in KINDS}
    best = dict.fromkeys(KINDS, math.inf)
    runs["loop"].step()
    for run in runs.values():
        for weight in run.model.parameters():
            weight.grad = torch.randn_like(weight)
    for _ in range(6):
        for kind, run in runs.items():
            begun = time.perf_counter()
            run.optimizer.step()
            best[kind] = min(best[kind], time.perf_counter() - begun)
    return dict(adamw=min(best, key=best.get), seconds=best)


def say(answer):
    print(json.dumps(answer), flush=True)


def serve(size, adamw):
    tiny = size | dict(batch=2, context=16, model=size["model"] | dict(vocab_size=64, num_hidden_layers=1))
    Run(tiny, adamw).step()
    base = status("VmRSS")
    forget_peak()
    run = Run(size, adamw)
    say(dict(peer=f"torch {torch.__version__}", adamw=adamw, parameters=sum(w.numel() for w in run.model.parameters())))
    for line in sys.stdin:
        words = line.split()
        if words[0] == "run":
            answer = run.steps(int(words[1]))
            peak = status("VmHWM") - base if run.device == "cpu" else torch.cuda.max_memory_allocated()
            say(answer | dict(peak_bytes=peak))
        elif words[0] == "profile":
            say(profile(run, int(words[1])))
        elif words[0] == "gemm":
            say(gemm())
        else:
            raise SystemExit(f"unknown command {line!r}: there are run K, profile K and gemm")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["pick", "serve"])
    parser.add_argument("size", choices=list(PLAN["sizes"]))
    parser.add_argument("--adamw", choices=list(KINDS), default="fused")
    arguments = parser.parse_args()
    torch.set_num_threads(PLAN["threads"])
    size = PLAN["sizes"][arguments.size]
    if arguments.verb == "pick":
        say(pick(size))
    else:
        serve(size, arguments.adamw)


if __name__ == "__main__":
    main()
