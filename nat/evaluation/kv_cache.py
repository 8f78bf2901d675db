"""A key/value cache whose rows stand at different lengths.

transformers' own caches append the same positions to all rows, so that a row that ends its turn, gets a long
observation or makes room for another question must wait for the others or be padded. Here each row has a length of its
own: new entries are written at given positions, attention sees a view of the buffer, and to forget a row's last tokens
is to lower a number that the caller holds.

The module imports torch on top: import it inside functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, CacheLayerMixin


class RowCache(Cache):
    """Fits `past_key_values` of causal models with full attention. Call `aim` before every forward pass."""

    def __init__(self, n_layers: int, n_rows: int, capacity: int):
        self.n_rows = n_rows
        self.capacity = capacity  # positions per row
        self.whole = True
        self.rows = self.positions = torch.empty(0, dtype=torch.long)
        self.seen = 0
        self.row_layers = [_RowLayer(self) for _ in range(n_layers)]
        super().__init__(layers=list(self.row_layers))

    def clear(self) -> None:
        """Let go of the tensors now: cache and layers hold each other, and the collector of cycles comes late."""
        for layer in self.row_layers:
            layer.keys = layer.values = None
            layer.remembered = None

    def aim(self, rows: torch.Tensor, positions: torch.Tensor, seen: int, whole: bool) -> None:
        """Say what the next forward pass computes.

        Args:
            rows: [b], which rows of the cache.
            positions: [b, q], where their new entries go; below `capacity`.
            seen: how many positions, counted from the first, attention gets to see.
            whole: `rows` are all rows in order, so that attention can read the buffer without a copy.
        """
        self.rows, self.positions, self.seen, self.whole = rows, positions, seen, whole

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` positions per row."""
        self.capacity = capacity
        for layer in self.row_layers:
            layer.grow(capacity)

    def remember(self, length: int) -> None:
        """Keep a copy of the first row's first `length` positions, for `recall`."""
        for layer in self.row_layers:
            layer.remember(length)

    def recall(self, rows: torch.Tensor) -> None:
        """Write what was remembered into these rows."""
        for layer in self.row_layers:
            layer.recall(rows)

    def move(self, sources: torch.Tensor, targets: torch.Tensor, n_rows: int) -> None:
        """Write rows `sources` over rows `targets`, then keep only the first `n_rows`."""
        self.n_rows = n_rows
        for layer in self.row_layers:
            layer.move(sources, targets, n_rows, self.seen)


class _RowLayer(CacheLayerMixin):
    is_sliding = False

    def __init__(self, cache: RowCache):
        super().__init__()
        self.cache = cache
        self.remembered: tuple[torch.Tensor, torch.Tensor] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        # Zeros, because a masked position still takes part as 0 x value, and what is not a number would spread.
        shape = (self.cache.n_rows, key_states.shape[1], self.cache.capacity)
        self.keys = key_states.new_zeros((*shape, key_states.shape[3]))
        self.values = value_states.new_zeros((*shape, value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[b, heads, q, width] in, [b, heads, seen, width] out."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        aim = self.cache
        index = (aim.rows[:, None], slice(None), aim.positions)
        self.keys[index] = key_states.transpose(1, 2)
        self.values[index] = value_states.transpose(1, 2)
        keys, values = self.keys[:, :, : aim.seen], self.values[:, :, : aim.seen]
        return (keys, values) if aim.whole else (keys[aim.rows], values[aim.rows])

    def grow(self, capacity: int) -> None:
        if self.keys is not None and self.values is not None:
            more = (0, 0, 0, capacity - self.keys.shape[2])
            self.keys, self.values = pad(self.keys, more), pad(self.values, more)

    def remember(self, length: int) -> None:
        assert self.keys is not None and self.values is not None
        self.remembered = self.keys[0, :, :length].clone(), self.values[0, :, :length].clone()

    def recall(self, rows: torch.Tensor) -> None:
        assert self.keys is not None and self.values is not None and self.remembered is not None
        keys, values = self.remembered
        self.keys[rows, :, : keys.shape[1]] = keys
        self.values[rows, :, : keys.shape[1]] = values

    def move(self, sources: torch.Tensor, targets: torch.Tensor, n_rows: int, seen: int) -> None:
        if self.keys is not None and self.values is not None:
            for entries in (self.keys, self.values):
                entries[targets, :, :seen] = entries[sources, :, :seen]
            self.keys, self.values = self.keys[:n_rows], self.values[:n_rows]

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        return self.cache.seen, 0

    def get_seq_length(self, *args: Any) -> int:
        return self.cache.seen

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:  # the name before transformers 5.20
        return -1
