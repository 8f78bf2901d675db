"""Tokenized examples as bytes, for the cache."""

from __future__ import annotations

import io
from collections.abc import Sequence

from nat.core.cache import decode_json, encode_json
from nat.examples.tokenization import MASKED, Dropped
from nat.types import Example


def encode_examples(value: tuple[Sequence[Example], Sequence[Dropped]]) -> bytes:
    """Token ids of all examples in a row, which of them carry loss, and where each example ends; the rest as JSON."""
    import numpy as np

    examples, dropped = value
    names = [[example.class_name, example.trajectory_id] for example in examples]
    file = io.BytesIO()
    np.savez(
        file,
        input_ids=np.array([token for example in examples for token in example.input_ids], dtype=np.int32),
        trained=np.array([label != MASKED for example in examples for label in example.labels], dtype=np.bool_),
        ends=np.cumsum([len(example.input_ids) for example in examples], dtype=np.int64),
        rest=np.frombuffer(encode_json([names, dropped]), dtype=np.uint8),
    )
    return file.getvalue()


def decode_examples(payload: bytes) -> tuple[list[Example], list[Dropped]]:
    import numpy as np

    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        input_ids, trained, ends = arrays["input_ids"], arrays["trained"], arrays["ends"].tolist()
        names, dropped = decode_json(arrays["rest"].tobytes())
    labels = np.where(trained, input_ids, MASKED)
    examples = [
        Example(input_ids[start:end].tolist(), labels[start:end].tolist(), class_name, trajectory_id)
        for start, end, (class_name, trajectory_id) in zip([0, *ends], ends, names, strict=False)
    ]
    return examples, [Dropped(*fields) for fields in dropped]
