"""Writes small Parquet tables, as pyarrow writes them, for the tests of the reader. Run: python rows.py DIRECTORY"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq

directory = sys.argv[1]
texts = pa.table({"id": [1, 2, 3, 4, 5], "text": ["one", "caf\u00e9", None, "four\nlines", ""]})
for compression in ["none", "snappy", "gzip", "zstd"]:
    pq.write_table(texts, f"{directory}/texts.{compression}.parquet", row_group_size=2, compression=compression)
turn = lambda role, content: {"role": role, "content": content}
chats = pa.table({"source": ["a", "b"], "messages": [[turn("user", "why"), turn("assistant", "so")], [turn("user", "alone")]]})
pq.write_table(chats, f"{directory}/chats.snappy.parquet", compression="snappy")
pairs = pa.table({"prompt": ["why"], "chosen": ["yes"], "rejected": ["no"], "score": [0.5]})
pq.write_table(pairs, f"{directory}/pairs.snappy.parquet", compression="snappy")
pq.write_table(pa.table({"body": ["a"], "n": [1]}), f"{directory}/other.snappy.parquet", compression="snappy")
