"""Opens shards with NVIDIA's own reader (megatron-core) and with plain numpy, and compares what both see with the shards' index.

Usage: read_shards.py DIRECTORY

DIRECTORY holds `<name>.bin`, `<name>.idx`, `<name>.json` (the index) and, where not every token is learnt from, `<name>-mask.bin/.idx`.
megatron-core comes from PyPI, without its dependencies: `pip install --no-deps megatron-core` beside torch and numpy. The last line printed
is one JSON object; the exit code is not 0 if anything differs.
"""

import json
import pathlib
import struct
import sys
import warnings

import numpy

warnings.filterwarnings("ignore")
from megatron.core.datasets.indexed_dataset import IndexedDataset  # noqa: E402

KINDS = {1: numpy.uint8, 4: numpy.int32, 8: numpy.uint16}


def plain(prefix):
    """Sequences and document marks, read by hand as Megatron-LM and datatrove lay them out."""
    idx = pathlib.Path(f"{prefix}.idx").read_bytes()
    assert idx[:9] == b"MMIDIDX\x00\x00", f"{prefix}.idx does not begin as it should"
    version, code, count, marks = struct.unpack("<QBQQ", idx[9:34])
    assert version == 1, f"{prefix}.idx is of version {version}"
    sizes = numpy.frombuffer(idx, numpy.int32, count, 34)
    places = numpy.frombuffer(idx, numpy.int64, count, 34 + 4 * count)
    documents = numpy.frombuffer(idx, numpy.int64, marks, 34 + 12 * count)
    elements = numpy.fromfile(f"{prefix}.bin", KINDS[code])
    width = elements.dtype.itemsize
    sequences = [elements[place // width :][:size] for place, size in zip(places, sizes)]
    return sequences, documents


def check(directory):
    """Compares every shard of a directory; what was found."""
    found = {"shards": 0, "sequences": 0, "documents": 0, "tokens": 0, "learnt": 0, "masked_shards": 0}
    for path in sorted(directory.glob("*.json")):
        index = json.loads(path.read_text())
        if "held_out" not in index:
            continue
        prefix = path.with_suffix("")
        theirs = IndexedDataset(str(prefix))
        sequences, documents = plain(prefix)
        assert len(theirs) == len(sequences)
        assert list(theirs.document_indices) == list(documents)
        assert len(documents) == len(index["documents"]) + 1
        learnt = sum(len(sequence) for sequence in sequences)
        masks = None
        if index.get("mask_files"):
            masks = IndexedDataset(f"{prefix}-mask")
            learnt = int(sum(masks[number].sum() for number in range(len(masks))))
            found["masked_shards"] += 1
        for number, sequence in enumerate(sequences):
            assert numpy.array_equal(theirs[number], sequence), f"{prefix}: sequence {number} differs"
            assert masks is None or len(masks[number]) == len(sequence), f"{prefix}: mask {number} has another length"
        for span, first, end in zip(index["documents"], documents, documents[1:]):
            tokens = sum(len(sequence) for sequence in sequences[first:end])
            assert tokens == span["tokens"], f"{prefix}: {span['path']} has {tokens} tokens"
        tokens = sum(len(sequence) for sequence in sequences)
        assert (tokens, learnt) == (index["tokens"], index["learnt"]), f"{prefix}: {tokens} tokens, {learnt} learnt"
        found["shards"] += 1
        found["sequences"] += len(sequences)
        found["documents"] += len(documents) - 1
        found["tokens"] += tokens
        found["learnt"] += learnt
    assert found["shards"] > 0, f"{directory} holds no shard"
    return found


if __name__ == "__main__":
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
