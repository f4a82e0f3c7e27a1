"""Holds shards against datatrove, both ways: it reads our tokens, and writes the same files from the same texts.

Usage: datatrove_shards.py DIRECTORY

DIRECTORY holds, for each shard of plain texts, `<side>-<name>.bin`, `.idx`, `.json` (the index) and `.jsonl` (its texts, in order), and
`<name>.tokenizer.json`. datatrove's reader knows no `.idx`: it is given the `.bin`, and finds documents by the token that ends them. Its
writer of Megatron's layout must come to the same two files, byte for byte. The last line printed is one JSON object; the exit code is not 0
if anything differs.
"""

import json
import pathlib
import sys
import tempfile

import numpy
from datatrove.data import Document
from datatrove.pipeline.tokens import MegatronDocumentTokenizer
from datatrove.utils.dataset import DatatroveFileDataset
from loguru import logger

# One token more than this is a window of datatrove's.
POSITIONS = 63


def read(prefix, index, width):
    """Windows of our tokens as datatrove sees them, with positions; how many."""
    ours = numpy.fromfile(f"{prefix}.bin", numpy.uint16 if width == 2 else numpy.int32)
    assert len(ours) == index["tokens"], f"{prefix}.bin has {len(ours)} tokens"
    places = numpy.concatenate([numpy.arange(span["tokens"]) for span in index["documents"]])
    theirs = DatatroveFileDataset(f"{prefix}.bin", POSITIONS, width, return_positions=True, positions_from_eos_token_id=index["boundary"])
    assert len(theirs) == len(ours) // (POSITIONS + 1) > 0
    for number in range(len(theirs)):
        start = number * (POSITIONS + 1)
        window = theirs[number]
        assert numpy.array_equal(window["input_ids"], ours[start : start + POSITIONS + 1]), f"{prefix}: window {number} differs"
        # Its positions begin at 0 in each window.
        first = numpy.flatnonzero(places[start : start + POSITIONS + 1] == 0)
        wanted = places[start : start + POSITIONS + 1].copy()
        wanted[: first[0] if len(first) else None] -= wanted[0]
        assert numpy.array_equal(window["positions"], wanted), f"{prefix}: documents of window {number} lie elsewhere"
    return len(theirs)


def write(prefix, tokenizer, eos, width, out):
    """What datatrove writes from the texts of a shard, against the shard."""
    lines = pathlib.Path(f"{prefix}.jsonl").read_text().splitlines()
    texts = [Document(text=json.loads(line)["text"], id=str(number)) for number, line in enumerate(lines)]
    step = MegatronDocumentTokenizer(str(out), tokenizer_name_or_path=str(tokenizer), eos_token=eos)
    assert step.token_size == width, f"datatrove gives tokens of {tokenizer} {step.token_size} bytes, and we {width}"
    step.run(iter(texts))
    for ending in ["bin", "idx"]:
        theirs = (out / f"00000_tokens.{ending}").read_bytes()
        ours = pathlib.Path(f"{prefix}.{ending}").read_bytes()
        assert theirs == ours, f"{prefix}.{ending}: datatrove writes {len(theirs)} other bytes than our {len(ours)}"
    return len(texts)


def check(directory):
    found = {"shards": 0, "windows": 0, "documents": 0, "tokens": 0}
    for texts in sorted(directory.glob("*.jsonl")):
        prefix = texts.with_suffix("")
        index = json.loads(prefix.with_suffix(".json").read_text())
        tokenizer = directory / f"{prefix.name.rpartition('-')[2]}.tokenizer.json"
        added = json.loads(tokenizer.read_text())["added_tokens"]
        eos = next(token["content"] for token in added if token["id"] == index["boundary"])
        width = 2 if index["vocab_size"] <= 1 << 16 else 4
        found["windows"] += read(prefix, index, width)
        with tempfile.TemporaryDirectory(prefix="muster-datatrove-") as out:
            found["documents"] += write(prefix, tokenizer, eos, width, pathlib.Path(out))
        found["tokens"] += index["tokens"]
        found["shards"] += 1
    assert found["shards"] > 0, f"{directory} holds no texts beside its shards"
    return found


if __name__ == "__main__":
    logger.remove()
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
