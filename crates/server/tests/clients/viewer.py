"""A viewer on Python's `websockets`: reads until a comment says "end".

usage: viewer.py URL ENCODING
Prints one JSON object: the position it joined at, and the id and text of every comment.
"""

import gzip
import json
import sys
import zlib

from websockets.sync.client import connect


def main(url, encoding):
    inflater = zlib.decompressobj(-15)
    comments = []
    with connect(f"{url}?encoding={encoding}", compression=None, max_size=None) as socket:
        joined = json.loads(socket.recv(timeout=180))
        assert joined["type"] == "joined", joined
        position = joined["after"]
        while not comments or comments[-1][1] != "end":
            message = socket.recv(timeout=180)
            if encoding == "identity":
                assert isinstance(message, str)
                text = message
            elif encoding == "gzip":
                text = gzip.decompress(message).decode()
            else:
                # The batch is whole with its own bytes, or this has no newline at its end.
                text = inflater.decompress(message).decode()
                assert text.endswith("\n") and text.count("\n") == 1, text
            batch = json.loads(text)
            assert batch["type"] == "batch" and batch["after"] == position, (batch, position)
            identity = batch["after"]
            steps = batch.get("ids") or [1] * len(batch["comments"])
            for comment, step in zip(batch["comments"], steps, strict=True):
                identity += step
                comments.append([identity, comment["text"]])
            position = batch["seq"]
    json.dump({"joined": joined["after"], "comments": comments}, sys.stdout)


main(*sys.argv[1:])
