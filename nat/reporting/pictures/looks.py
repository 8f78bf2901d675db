"""What the pictures share: sizes, colours and markers, names of arms, axes with a row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nat.comparison.arms import ALIKE, setting_of
from nat.comparison.means import Mean
from nat.comparison.types import Arm
from nat.core.methods import METHODS, Look
from nat.core.methods import shown as shown_method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

WIDTH = 5.2  # inches


MOST_ROWS = 24  # arms in a picture with a row each


MOST_PANELS = 6  # arms with a loss curve, or environments beside each other; the tables have all


# Fixed ids and no date, so that equal results give equal files; names from outside are never read as formulas.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nat",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
}


LOOKS = {method.name: method.look for method in METHODS if method.look is not None}


# For further strategies of a method, and for methods of others.
SPARE_LOOKS = (
    Look("#009E73", "v", (0, (5, 1, 1, 1)), "\\\\\\\\"),
    Look("#E69F00", "P", (0, (3, 1)), "++++"),
    Look("#56B4E9", "D", (0, (1, 1)), "xx"),
    Look("#000000", "*", "-.", "||||"),
    Look("#CC79A7", "p", (0, (8, 2)), "//"),
)


OUTCOME_LOOKS = {
    "success": ("#009E73", ""),
    "wrong_answer": ("#D55E00", "////"),
    "abstained": ("#F0E442", "//"),
    "unparsed_action": ("#CC79A7", "\\\\\\\\"),
    "tool_error": ("#0072B2", "xxxx"),
    "out_of_turns": ("#56B4E9", "----"),
    "no_answer": ("#E69F00", "||||"),
    "infrastructure": ("#6f6f6f", "++++"),
    "other": ("#c8c8c8", ""),
}


Row: TypeAlias = tuple[Arm, Mean]


class Picture(NamedTuple):
    """A figure and its words in report.html: for who cannot see it (without a full stop), and what stands below it."""

    figure: Figure
    alternative: str
    caption: str


def new_figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def draw_bar(axes: Axes, y: float, height: float, mean: Mean, look: Look, alpha: float, prefix: str) -> None:
    axes.barh(y, mean.value, height, color=look.colour, alpha=alpha, hatch=look.hatch, edgecolor="white", linewidth=0)
    low, high = mean.ci95 or (mean.value, mean.value)
    axes.plot([low, high], [y, y], color="black", lw=1.3, marker="|", ms=6)
    axes.annotate(
        f"{prefix}{mean.value:.3f}", (high, y), (5, 0), textcoords="offset points", va="center_baseline", fontsize=9.5
    )


def class_looks(count: int) -> list[Look]:
    looks = [LOOKS["nat"], LOOKS["nut"], *SPARE_LOOKS]
    return [looks[place % len(looks)] for place in range(count)]


def series_looks(arms: Iterable[Arm]) -> dict[tuple[str, str], Look]:
    """A look for each (method, strategy): a method's own for its first strategy, spare ones for the others."""
    looks: dict[tuple[str, str], Look] = {}
    spare = 0
    for method, strategy in dict.fromkeys((arm.method, arm.strategy) for arm in arms):
        is_first = method not in {other for other, _ in looks}
        # Positives alone look alike whatever text is around them: there is nothing to tell apart.
        if method in LOOKS and (is_first or method in ("base", "positive_only")):
            looks[method, strategy] = LOOKS[method]
        else:
            looks[method, strategy] = SPARE_LOOKS[spare % len(SPARE_LOOKS)]
            spare += 1
    return looks


def alike_counts(counts: Iterable[int | None]) -> dict[int | None, int | None]:
    """Each count to the largest that is taken for the same: a longer prompt may push a few trajectories out."""
    same: dict[int | None, int | None] = {None: None}
    largest = 0
    for count in sorted({count for count in counts if count is not None}, reverse=True):
        if count < (1 - ALIKE) * largest or not largest:
            largest = count
        same[count] = largest
    return same


def setting_text(arm: Arm) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(setting_of(arm).items()))


def spread_apart(items: list[Any], most: int) -> list[Any]:
    """All of them, or `most` spread evenly over their order, which no result decides."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def rows_axes(axes: Axes) -> None:
    """A row an arm: no y axis, and no tick beyond a rate of 1 (room for figures lies there)."""
    low, high = axes.get_xlim()
    axes.set_yticks([])
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= min(high, 1.0 + 1e-9)])
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def row_label(axes: Axes, y: float, text: str) -> Annotation:
    """A row's name above its row: beside it there is no room on a phone."""
    return axes.annotate(
        shown_text(text, 62), (0, y), (1, 1), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="bottom", fontsize=9.5,
    )  # fmt: skip


def shown_text(text: str, most: int = 40) -> str:
    """A name from outside on one line of at most `most` characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def draw_head(
    figure: Figure, title: str, handles: Sequence[Any] = (), names: Sequence[str] = (), columns: int = 4
) -> None:
    """The picture's title, and below it what its colours mean."""
    if not handles:
        figure.suptitle(title, x=0.012, horizontalalignment="left", fontsize=11, fontweight="bold")
        return
    # A name that begins with an underscore would be left out.
    by_name = {shown_text(name).lstrip("_") or "?": handle for name, handle in zip(names, handles, strict=True)}
    fitting = max(1, min(columns, 62 // (max(map(len, by_name)) + 8)))
    figure.legend(
        list(by_name.values()), list(by_name), loc="outside upper left", ncols=fitting, handlelength=2.6,
        columnspacing=1.2, title=title, alignment="left", title_fontproperties={"size": 11, "weight": "bold"},
    )  # fmt: skip


def success_label(rows: Sequence[Row], name: str = "success rate") -> str:
    counts = sorted({mean.n_questions for _, mean in rows})
    seeds = sorted({len(mean.per_seed) for _, mean in rows})
    questions = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    runs = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{name}\n{questions} questions, {runs} seed{'s' if seeds[-1] != 1 else ''}"


def series_name(key: tuple[str, str], several: set[str]) -> str:
    method, strategy = key
    return f"{shown_method(method)} {strategy}" if method in several else shown_method(method)


def methods_of_several_strategies(keys: Iterable[tuple[str, str]]) -> set[str]:
    counts = Counter(method for method, _ in dict.fromkeys(keys))
    return {method for method, count in counts.items() if count > 1 and method not in ("base", "positive_only")}


def pairs(setting: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{key.rpartition('.')[2]} {value}" for key, value in setting]


def lower_end(mean: Mean) -> float:
    return min(mean.per_seed + ((mean.ci95[0],) if mean.ci95 else ()))


def upper_end(mean: Mean) -> float:
    return max(mean.per_seed + ((mean.ci95[1],) if mean.ci95 else ()))
