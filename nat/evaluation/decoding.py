"""The engine below roll-outs: many token sequences that grow together, each at its own length.

A row holds `known` tokens, of which the first `cached` went through the model; the others wait. Prompts, observations
and the model's own last token are all just waiting tokens. A step feeds one waiting token of every row; a row that has
none left after it gets a new token from the model. Long waiting stretches (prompts) are fed first, in blocks, so that

    row 0   P P P P P | g g g g o o o g g g          P  fed in a block
    row 1   P P P P | g g o o o g g g g g g          g  generated: the last waiting token's logits gave it
    row 2   P P P P P P | g g g g g o o o g          o  observation, fed one a step while the others generate

no row ever waits for another one's turn to end. The caller sees only the rows at which a turn may have ended.

The module imports torch on top: import it inside functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import numpy as np
import torch

from nat.evaluation.kv_cache import RowCache
from nat.types import RequestError

BLOCK_TOKENS = 8192  # at most, padding included, in one pass over waiting tokens
BLOCK_WIDTH = 512  # tokens of one row in one pass
# Below these, waiting tokens ride along with the other rows' steps: a pass of their own would cost more than it saves.
BLOCK_PASS_TOTAL = 256
BLOCK_PASS_ROW = 48
COMPACT_BELOW = 0.93  # share of rows in use, below which the others' places are filled


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 is greedy. `max_new_tokens` is the longest turn."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Rows:
    """The growing sequences of one batch. Plain arrays over rows, so that a step costs no Python per row.

    ids [rows, capacity] tokens; known, cached, turn_start [rows] counts; used [rows] whether a sequence lives there.
    """

    def __init__(
        self, model: Any, n_rows: int, capacity: int, context: int, sampling: Sampling, watched: Sequence[int]
    ):
        """`watched` are the tokens at which the caller wants to look at a row."""
        self.model, self.context, self.sampling = model, context, sampling
        self.device = model.device
        self.capacity = min(capacity, context)
        self.ids = np.zeros((n_rows, self.capacity), dtype=np.int64)
        self.known = np.ones(n_rows, dtype=np.int64)
        self.cached = np.zeros(n_rows, dtype=np.int64)
        self.turn_start = np.zeros(n_rows, dtype=np.int64)
        self.used = np.zeros(n_rows, dtype=bool)
        self.draws = np.zeros((n_rows, sampling.max_new_tokens if sampling.temperature else 0), dtype=np.float64)
        self.watched = np.zeros(model.get_input_embeddings().weight.shape[0], dtype=bool)
        self.watched[[token for token in watched if token < len(self.watched)]] = True
        self.cache = RowCache(model.config.get_text_config().num_hidden_layers, n_rows, self.capacity)
        self.prefix_length = 0
        self.started: list[int] = []  # rows that do not hold the prefix yet
        self.lowest = torch.finfo(model.dtype).min
        keeps = "logits_to_keep" in inspect.signature(_unwrapped(model).forward).parameters
        self.first_logits = {"logits_to_keep": torch.zeros(1, dtype=torch.long, device=self.device)} if keeps else {}

    def __len__(self) -> int:
        return len(self.known)

    def share(self, prefix: Sequence[int]) -> None:
        """Compute once what all sequences begin with; every one must be longer. To be called before the first start."""
        self._reserve(len(prefix))
        self.ids[0, : len(prefix)] = prefix
        for start in range(0, len(prefix), BLOCK_WIDTH):
            self.cached[0] = start
            self._forward(np.array([0]), np.array([min(BLOCK_WIDTH, len(prefix) - start)]), whole=False)
        self.cached[0] = 0
        self.cache.remember(len(prefix))
        self.prefix_length = len(prefix)

    def start(self, row: int, tokens: Sequence[int]) -> None:
        """Put a new sequence into an unused row."""
        self.used[row] = True
        self.known[row], self.cached[row] = 0, self.prefix_length
        self.started.append(row)
        self.extend(row, tokens)

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Append waiting tokens; the next turn starts after them. The caller keeps within the context."""
        end = int(self.known[row]) + len(tokens)
        self._reserve(end + 1)
        self.ids[row, self.known[row] : end] = tokens
        self.known[row] = self.turn_start[row] = end

    def replace_turn(self, row: int, tokens: Sequence[int]) -> None:
        """Write the row's last turn anew; what the model has already seen of it and stays the same is kept."""
        start, old = int(self.turn_start[row]), self.turn(row)
        same = len(commonprefix([old, list(tokens)]))
        self.cached[row] = min(self.cached[row], start + same)
        self.known[row] = start
        self.extend(row, tokens)

    def turn(self, row: int) -> list[int]:
        """Tokens generated since the turn's start."""
        return self.ids[row, self.turn_start[row] : self.known[row]].tolist()

    def release(self, row: int) -> None:
        self.used[row] = False
        self.known[row], self.cached[row] = 1, 0  # an unused row must not lengthen what attention reads

    def compact(self) -> np.ndarray:
        """Move the last used rows into unused ones' places, if there are many; returns the rows' old numbers."""
        order = np.arange(len(self))
        n_used = int(self.used.sum())
        if not 0 < n_used <= COMPACT_BELOW * len(self):
            return order
        holes = np.flatnonzero(~self.used[:n_used])
        order[holes] = n_used + np.flatnonzero(self.used[n_used:])
        moved = order[holes]
        order = order[:n_used]
        for name in ("ids", "known", "cached", "turn_start", "used", "draws"):
            setattr(self, name, getattr(self, name)[order])
        self.cache.move(self._tensor(moved), self._tensor(holes), n_used)
        return order

    def step(self) -> np.ndarray:
        """Feed one token of every row; returns the rows at which the caller must look.

        These are the rows whose new token is watched, or whose turn or context is full.
        """
        self._feed_blocks()
        self._reserve(int(self.known.max()) + 1)
        rows = np.arange(len(self))
        logits = self._forward(rows, np.ones(len(self), dtype=np.int64), whole=True)
        tokens = self._choose(logits)
        self.cached += self.used
        growing = self.used & (self.cached == self.known)
        grown = rows[growing]
        self.ids[grown, self.known[grown]] = tokens[growing]
        self.known[grown] += 1
        full = (self.known - self.turn_start >= self.sampling.max_new_tokens) | (self.known >= self.context)
        return rows[growing & (self.watched[tokens] | full)]

    def _feed_blocks(self) -> None:
        """Feed all but the last waiting token of rows where many wait (the last one's logits are the step's)."""
        if self.started and self.prefix_length:
            self.cache.recall(self._tensor(np.array(self.started)))
        self.started.clear()
        while True:
            waiting = np.where(self.used, self.known - self.cached - 1, 0)
            if waiting.sum() < BLOCK_PASS_TOTAL and waiting.max() < BLOCK_PASS_ROW:
                return
            order = np.argsort(-waiting, kind="stable")  # like lengths together: little padding
            longest = min(int(waiting[order[0]]), BLOCK_WIDTH)
            rows = order[: max(1, BLOCK_TOKENS // longest)]
            rows = rows[waiting[rows] > longest // 2]
            taken = np.minimum(waiting[rows], longest)
            self._forward(rows, taken, whole=False)
            self.cached[rows] += taken

    def _forward(self, rows: np.ndarray, taken: np.ndarray, whole: bool) -> torch.Tensor:
        """Feed the next `taken` tokens of `rows`; returns the logits after the first of them, [rows, vocabulary].

        Rows that take fewer than others are padded behind; the padding's entries lie beyond the row's length, where no
        query of its own looks and the row's next tokens overwrite them.
        """
        width = int(taken.max())
        start = self.cached[rows]
        self._reserve(int(start.max()) + width)
        offsets = np.arange(width)
        positions = self._tensor(start[:, None] + offsets)
        tokens = self._tensor(self.ids[rows[:, None], start[:, None] + np.minimum(offsets, taken[:, None] - 1)])
        seen = int(start.max()) + width
        hidden = torch.arange(seen, device=self.device) > positions[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=self.model.dtype, device=self.device).masked_fill_(hidden, self.lowest)
        self.cache.aim(self._tensor(rows), positions, seen, whole)
        output = self.model(
            input_ids=tokens,
            attention_mask=mask[:, None],
            position_ids=positions.clamp(max=self.context - 1),  # padding may lie behind the last position
            past_key_values=self.cache,
            use_cache=True,
            **self.first_logits,
        )
        return output.logits[:, 0]

    def _choose(self, logits: torch.Tensor) -> np.ndarray:
        """[rows, vocabulary] -> [rows] tokens."""
        if not self.sampling.temperature:
            return logits.argmax(dim=-1).cpu().numpy()
        turn_length = np.minimum(self.known - self.turn_start, self.draws.shape[1] - 1).clip(min=0)
        draws = self._tensor(self.draws[np.arange(len(self)), turn_length])
        return choose_token(logits, draws, self.sampling.temperature, self.sampling.top_p).cpu().numpy()

    def _reserve(self, length: int) -> None:
        """Grow all rows' room to `length` positions, by half more at least, since growing copies."""
        if length <= self.capacity:
            return
        self.capacity = max(length, min(self.context, self.capacity * 3 // 2))
        self.ids = np.pad(self.ids, ((0, 0), (0, self.capacity - self.ids.shape[1])))
        self.cache.grow(self.capacity)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def choose_token(logits: torch.Tensor, draws: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """[rows, vocabulary] and one number in [0, 1) a row -> [rows] tokens: the draw picks from the cumulative share.

    Only a row's own draw and logits decide, so a result does not depend on what shares the batch.
    """
    shares = torch.softmax(logits.double() / temperature, dim=-1)
    shares, order = shares.sort(dim=-1, descending=True, stable=True)
    cumulative = shares.cumsum(dim=-1)
    if top_p < 1:  # a token stays if those before it do not hold top_p yet; the first always does
        shares = shares.masked_fill(cumulative - shares >= top_p, 0.0)
        cumulative = shares.cumsum(dim=-1)
    aim = draws.double()[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, aim, right=True).clamp(max=shares.shape[-1] - 1)
    return order.gather(-1, index)[:, 0]


def context_length(model: Any) -> int:
    """Positions a model can take; a sliding window counts as the end, since attention here is full.

    Raises RequestError for layers that keep another state than keys and values.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        raise RequestError(f"model.name: roll-outs need attention layers, this model has {', '.join(sorted(kinds))}")
    length = getattr(config, "max_position_embeddings", None) or 1 << 20
    window = getattr(config, "sliding_window", None)
    if window and (getattr(config, "layer_types", None) is None or "sliding_attention" in kinds):
        length = min(length, window)
    return length


@contextmanager
def inference_mode(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients, with an attention that takes a ready mask; all as before afterwards."""
    training, attention = model.training, model.config._attn_implementation
    model.eval()
    if attention not in ("sdpa", "eager"):
        model.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            yield
    finally:
        if attention not in ("sdpa", "eager"):
            model.set_attn_implementation(attention)
        model.train(training)


def _unwrapped(model: Any) -> Any:
    """The model below PEFT's wrapper, whose own forward takes anything."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
