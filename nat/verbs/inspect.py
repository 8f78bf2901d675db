"""`nat inspect`: training examples as the model sees them, trained tokens apart from masked ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nat.config.tree import Config
from nat.core.html import storable, templates
from nat.examples.mixing import AllMixing, NotFilled, RatioMixing, ReplacedMixing
from nat.examples.tokenization import MASKED, ChatFormat
from nat.run import prepare
from nat.stages.manifest import describe
from nat.types import Example, RequestError
from nat.verbs.request import configured, parse, show

HTML_FILE = Path("inspect.html")


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of an example that are all trained or all masked, as text."""

    text: str
    trained: bool
    tokens: int


def spans(example: Example, format: ChatFormat) -> Iterator[Span]:
    """The example's text in order, special tokens included."""
    pairs = zip(example.input_ids, example.labels, strict=True)
    for trained, group in itertools.groupby(pairs, key=lambda pair: pair[1] != MASKED):
        ids = [token for token, _ in group]
        yield Span(format.tokenizer.decode(ids, skip_special_tokens=False), trained, len(ids))


HELP = "usage: nat inspect [overrides]   also examples=N, format=html (writes inspect.html)"


@dataclass(frozen=True)
class ShownExample:
    """A training example as the model sees it."""

    class_name: str
    id: str  # of its trajectory
    tokens: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Inspection:
    """What `nat train` would train on, with some examples of each class."""

    lines: tuple[str, ...]  # what was chosen, in words
    classes: tuple[tuple[str, int, int, int], ...]  # name, examples, trained tokens, masked tokens
    examples: tuple[ShownExample, ...]

    def as_html(self) -> str:
        """One self-contained page, light and dark."""
        made = templates(lambda value: storable(value) if type(value) is str else value)
        return made.get_template("inspect.html.jinja").render(rows=self.classes, examples=self.examples)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.as_html()


def main(argv: Sequence[str]) -> int:
    request = parse(argv)
    if request.asks_for_help:
        print(HELP)
        return 0
    if request.only_shows:
        return show(argv)
    if request.multirun:
        raise RequestError("nat inspect shows one configuration; leave -m out.")
    # Nothing is searched where nothing is played.
    config = configured(request.overrides, request.config_dir, inputs=False)
    found = inspect(config)
    for line in found.lines:
        print(line)
    if config.format == "html":
        HTML_FILE.write_text(found.as_html(), encoding="utf-8")
        print(f"written: {HTML_FILE.absolute()}")
    else:
        _print(found)
    return 0


def inspect(config: Config) -> Inspection:
    """`config.examples` examples of each class of the mix that `nat train` would train on. Raises RequestError.

    Of all trajectories where there are too few for the mix.
    """
    not_filled: list[str] = []
    try:
        prepared = prepare(config)
    except NotFilled as error:
        if isinstance(config.mixing, AllMixing):
            raise
        said = [*str(error).splitlines(), "Shown is what there is, as mixing=all takes it:"]
        not_filled = [f"warning: {said[0]}", *(f"         {line}" for line in said[1:])]
        config = replace(config, mixing=AllMixing(kind="all", questions="any"))
        prepared = prepare(config)
    mixing = config.mixing
    ratio = [f"mixing.ratio={mixing.ratio}:"] if isinstance(mixing, RatioMixing | ReplacedMixing) else []
    rows = class_rows(prepared.examples)
    shown = [
        ShownExample(name, example.trajectory_id, len(example.input_ids), tuple(spans(example, prepared.format)))
        for name, *_ in rows
        for example in _first(prepared.examples, name, config.examples)
    ]
    return Inspection((*not_filled, *ratio, *describe(config, prepared)), tuple(rows), tuple(shown))


def class_rows(examples: Sequence[Example]) -> list[tuple[str, int, int, int]]:
    """Per class: name, examples, trained tokens, masked tokens."""
    names = dict.fromkeys(example.class_name for example in examples)
    rows = []
    for name in names:
        members = [example for example in examples if example.class_name == name]
        trained = sum(label != MASKED for example in members for label in example.labels)
        rows.append((name, len(members), trained, sum(len(example.labels) for example in members) - trained))
    return rows


def _first(examples: Sequence[Example], class_name: str, count: int) -> list[Example]:
    return [example for example in examples if example.class_name == class_name][:count]


def _print(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table("class", "examples", "trained tokens", "masked tokens", box=None, pad_edge=False)
    for name, *counts in found.classes:
        table.add_row(Text(name), *map(str, counts))
    console.print(table)
    # Where colours are lost (a pipe, a file), brackets still show what is trained.
    left, right = ("", "") if console.is_terminal else ("⟦", "⟧")
    for example in found.examples:
        title = Text(f"{example.class_name} · {example.id} · {example.tokens} tokens")
        console.rule(title, align="left")
        text = Text()
        for span in example.spans:
            if span.trained:
                text.append(f"{left}{span.text}{right}", style="bold green")
            else:
                text.append(span.text, style="dim")
        console.print(text, soft_wrap=True)
    console.print(Text("trained", style="bold green"), Text("masked", style="dim"), sep=" · ")
