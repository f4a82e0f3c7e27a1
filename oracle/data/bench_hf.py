"""Tokenizes JSON lines as Hugging Face's libraries do it: `datasets.map`, batched, in several processes, with a fast tokenizer.

Usage: bench_hf.py OUT.bin TOKENIZER.json BOUNDARY_ID PROCESSES FILE.jsonl...

Each line's `text` becomes its tokens and the boundary; all tokens go to OUT.bin as little-endian uint16 or int32, in the order of the lines.
The last line printed is one JSON object with the times. Text that spells a special token stays text, as in Muster.
"""

import json
import os
import sys
import tempfile
import time

# The processes are as many as there are cores to use: a thread pool in each would only be in the way.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import datasets  # noqa: E402
import numpy  # noqa: E402
import tokenizers  # noqa: E402

KNOWN = {}


def encode(batch, path, boundary):
    """The tokens of a batch; each process reads the tokenizer once."""
    if path not in KNOWN:
        tokenizer = tokenizers.Tokenizer.from_file(path)
        tokenizer.encode_special_tokens = True
        KNOWN[path] = tokenizer
    encodings = KNOWN[path].encode_batch_fast(batch["text"], add_special_tokens=False)
    return {"ids": [encoding.ids + [boundary] for encoding in encodings]}


def main():
    out, path, boundary, processes, *files = sys.argv[1:]
    boundary, processes = int(boundary), int(processes)
    datasets.disable_progress_bars()
    vocabulary = tokenizers.Tokenizer.from_file(path).get_vocab_size(with_added_tokens=True)
    kind = numpy.uint16 if vocabulary <= 1 << 16 else numpy.int32
    with tempfile.TemporaryDirectory(prefix="muster-bench-hf-") as cache:
        began = time.perf_counter()
        data = datasets.load_dataset("json", data_files=files, split="train", cache_dir=cache)
        loaded = time.perf_counter()
        keywords = {"path": path, "boundary": boundary}
        data = data.map(encode, batched=True, num_proc=processes, remove_columns=data.column_names, fn_kwargs=keywords)
        mapped = time.perf_counter()
        tokens = 0
        with open(out, "wb") as file:
            for batch in data.with_format("arrow").iter(batch_size=1000):
                flat = batch.column("ids").combine_chunks().flatten().to_numpy(zero_copy_only=False)
                flat.astype(kind).tofile(file)
                tokens += len(flat)
        written = time.perf_counter()
    found = {
        "rows": len(data),
        "tokens": tokens,
        "load_s": loaded - began,
        "map_s": mapped - loaded,
        "write_s": written - mapped,
        "versions": {"datasets": datasets.__version__, "tokenizers": tokenizers.__version__, "python": sys.version.split()[0]},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
