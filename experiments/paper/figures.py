"""The paper's published curves beside ours as shapes, and how far sampling error reaches in them.

    python experiments/paper/figures.py

prints the tables of README.md and draws figures.png and figures.svg beside this file. The paper's numbers are those of
figures.json; ours are read from the cells in experiments/ratio_sweep and experiments/hotpotqa. What is missing there is
named on stderr, and left out of the picture.

The two are never drawn on one axis: another model, other questions, other numbers of trajectories. What can be compared
is how a curve runs, so every curve is drawn as its difference to the successes alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nat.comparison.cells import read_runs
from nat.comparison.types import RunResult
from nat.core.methods import shown as shown_method
from nat.core.statistics import (
    Assumed,
    CrossedDifference,
    crossed_difference,
    mean_interval,
    minimum_detectable_effect,
    planning_advice,
    questions_needed,
    seeds_needed,
)
from nat.reporting.pictures.looks import LOOKS, STYLE
from nat.reporting.tables import markdown_table
from nat.reporting.write import standard
from nat.types import RequestError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
MATH = ("gsm8k", "asdiv", "svamp", "multiarith")
DISAGREEMENTS = (0.15, 0.25, 0.35)  # share of questions on which two runs differ in success
METHOD_OF = {"none": "nut", "suffix": "nat", "graded_4": "nat_graded"}  # our strategies
RATIO_SWEEP = [(s, p, r) for p in (50, 200) for s in ("none", "suffix") for r in (0.0, 1.0, 2.0, 4.0, 8.0)]
SEEDS = 3  # of each of our arms
HOTPOTQA = [(s, 500, r) for s in METHOD_OF for r in (0.0, 1.0, 2.0)]

Scores: TypeAlias = Mapping[str, float]  # question to success or F1
Cells: TypeAlias = Mapping[tuple[str, int, float], Mapping[int, Scores]]  # (strategy, positives, ratio) -> seed


@dataclass(frozen=True)
class Difference:
    """Of two published numbers, in points."""

    group: str
    first: float  # percent
    second: float
    questions: tuple[int, ...]  # of each test set that is averaged
    is_score: bool = False  # F1: graded, so that only the most that its error can be is known

    @property
    def points(self) -> float:
        return round(self.first - self.second, 1)


# ---- sampling error of the questions alone ----


def unpaired_error(first: float, second: float, questions: Sequence[int]) -> float:
    """Standard error of a difference of two rates (in [0, 1]) that are measured on questions of their own.

    With several test sets, of a difference of means over them; each is taken at the same two rates.
    """
    variances = [(first * (1 - first) + second * (1 - second)) / n for n in questions]
    return sum(variances) ** 0.5 / len(questions)


def paired_error(disagreement: float, questions: Sequence[int]) -> float:
    """The same on shared questions, where the runs differ in success on this share and neither is ahead."""
    return sum(disagreement / n for n in questions) ** 0.5 / len(questions)


def half_width(error: float) -> float:
    """Of a 95% interval."""
    from scipy.stats import norm

    return float(norm.ppf(0.975)) * error


def error_table(paper: Mapping[str, Any]) -> list[str]:
    """Standard error and 95% half width for each of the paper's test sets, in points."""
    counts = {name: entry["questions"] for name, entry in paper["test_questions"].items()}
    sets = [
        ("HotpotQA, exact match", [counts["hotpotqa"]], 0.29),
        ("StrategyQA", [counts["strategyqa"]], 0.5),
        ("GSM8K", [counts["gsm8k"]], 0.5),
        ("mean of the four mathematical sets", [counts[name] for name in MATH], 0.63),
    ]
    header = ["test set", "questions", "rate", "unpaired: s.e.", "half width"]
    rows = []
    for name, questions, rate in sets:
        unpaired = unpaired_error(rate, rate, questions)
        widths = [half_width(error) for error in [unpaired, *(paired_error(d, questions) for d in DISAGREEMENTS)]]
        asked = " + ".join(map(str, questions))
        rows.append([name, asked, f"{rate:.2f}", f"{100 * unpaired:.2f}", *(f"{100 * width:.1f}" for width in widths)])
    return markdown_table([*header, *(f"paired, {d:.0%} differ" for d in DISAGREEMENTS)], rows)


def differences(paper: Mapping[str, Any]) -> Iterator[Difference]:
    """All that the digitised figures give."""
    counts = paper["test_questions"]
    asked = (counts["hotpotqa"]["questions"],)
    arms = {(arm["method"], arm["negatives"]): arm for arm in paper["hotpotqa"]["arms"]}
    alone = arms["positive_only", 0]
    for key, name in (("em", "exact match"), ("f1", "F1")):
        for arm in arms.values():
            if arm["negatives"]:
                group = f"HotpotQA {name}: each arm against successes alone"
                yield Difference(group, arm[key], alone[key], asked, key == "f1")
        for (method, negatives), arm in arms.items():
            if method in ("nat", "nat_graded"):
                group = f"HotpotQA {name}: NAT and graded NAT against NUT"
                yield Difference(group, arm[key], arms["nut", negatives][key], asked, key == "f1")
    asked = tuple(counts[name]["questions"] for name in MATH)
    curves = {(curve["positives"], curve["method"]): curve["values"] for curve in paper["math_average"]["curves"]}
    for positives in (2000, 5000):
        for first, second in zip(curves[positives, "nat"][1:], curves[positives, "nut"][1:], strict=True):
            yield Difference(f"math, {positives} successes: NAT against NUT, at each count", first, second, asked)
        for method in ("nut", "nat"):
            group = f"math, {positives} successes: {shown_method(method)} at each count against none"
            values = curves[positives, method]
            yield from (Difference(group, value, values[0], asked) for value in values[1:])


def inside_table(paper: Mapping[str, Any]) -> list[str]:
    """How many of the published differences lie within the 95% half width."""
    groups: dict[str, list[Difference]] = {}
    for difference in differences(paper):
        groups.setdefault(difference.group, []).append(difference)
    rows = []
    for group, members in groups.items():
        inside = [str(sum(_is_inside(member, None) for member in members))]
        for share in DISAGREEMENTS:
            inside.append("" if members[0].is_score else str(sum(_is_inside(member, share) for member in members)))
        smallest, largest = (end(member.points for member in members) for end in (min, max))
        rows.append([group, str(len(members)), f"{smallest:+.1f} to {largest:+.1f}", *inside])
    paired = [f"paired, {d:.0%} differ" for d in DISAGREEMENTS]
    return markdown_table(["differences", "how many", "points", "inside, unpaired", *paired], rows)


def _is_inside(difference: Difference, disagreement: float | None) -> bool:
    if disagreement is None:
        error = unpaired_error(difference.first / 100, difference.second / 100, difference.questions)
    else:
        error = paired_error(disagreement, difference.questions)
    return abs(difference.points) <= 100 * half_width(error)


# ---- what the curves say as wholes ----


def trend_table(paper: Mapping[str, Any]) -> list[str]:
    """Straight lines through the published curves: slope, rank correlation, scatter."""
    from scipy.stats import kendalltau, linregress, t

    thousands = [count / 1000 for count in paper["math_average"]["negatives"]]
    rows = []
    for curve in paper["math_average"]["curves"]:
        values = curve["values"]
        line: Any = linregress(thousands, values)
        half = float(t.ppf(0.975, len(values) - 2)) * line.stderr
        left = [y - line.intercept - line.slope * x for x, y in zip(thousands, values, strict=True)]
        scatter = (sum(rest**2 for rest in left) / (len(values) - 2)) ** 0.5
        tau: Any = kendalltau(thousands, values)
        name = f"{shown_method(curve['method'])}, {curve['positives']} successes"
        slope = f"{line.slope:+.2f} [{line.slope - half:+.2f}, {line.slope + half:+.2f}]"
        rows.append([name, slope, f"{tau.statistic:+.2f} (p {_p(tau.pvalue)})", f"{scatter:.2f}"])
    return markdown_table(["curve", "points per 1000 failures", "Kendall's tau", "scatter around the line"], rows)


def lead_table(paper: Mapping[str, Any]) -> list[str]:
    """NAT minus NUT over all counts."""
    from scipy.stats import tstd

    curves = {(curve["positives"], curve["method"]): curve["values"] for curve in paper["math_average"]["curves"]}
    rows = []
    for positives in (2000, 5000):
        leads = [a - b for a, b in zip(curves[positives, "nat"][1:], curves[positives, "nut"][1:], strict=True)]
        mean, (low, high) = mean_interval(leads)
        ahead = sum(lead > 0.05 for lead in leads)
        spread = float(tstd(leads))
        rows.append(
            [
                f"{positives} successes",
                f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]",
                f"{ahead} of {len(leads)}",
                f"{spread:.2f}",
            ]
        )
    return markdown_table(["NAT minus NUT", "mean over 12 counts", "ahead", "standard deviation"], rows)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# ---- ours ----


def read_cells(folder: Path, measure: str, expected: Sequence[tuple[str, int, float]]) -> tuple[Cells, list[str]]:
    """Scores ("success" or "score") of a sweep's cells, and one line for each arm that lacks some."""
    try:
        runs, _ = read_runs(folder)
    except RequestError:
        return {}, [f"{folder.parent.name}/{folder.name}: there are no cells."]
    cells: dict[tuple[str, int, float], dict[int, Scores]] = {}
    for run in runs:
        if run.positives and run.negatives is not None and "test" in run.answers:
            key = (run.strategy, run.positives, round(run.negatives / run.positives, 1))
            cells.setdefault(key, {})[run.seed] = _scores(run, measure)
    missing = [
        f"{folder.parent.name}/{folder.name}: {_said(key)} has {len(cells.get(key, {}))} of {SEEDS} seeds."
        for key in expected
        if len(cells.get(key, {})) < SEEDS
    ]
    return {key: seeds for key, seeds in cells.items() if key in expected}, missing


def _scores(run: RunResult, measure: str) -> Scores:
    return {question: float(getattr(answer, measure)) for question, answer in run.answers["test"].items()}


def _said(key: tuple[str, int, float]) -> str:
    strategy, positives, ratio = key
    return f"strategy={strategy} with {positives} successes at 1:{ratio:g}"


def gain(first: Mapping[int, Scores], second: Mapping[int, Scores]) -> CrossedDifference:
    """First minus second, over the seeds that both have."""
    seeds = sorted(first.keys() & second.keys())
    return crossed_difference([first[seed] for seed in seeds], [second[seed] for seed in seeds])


def our_table(cells: Cells) -> list[str]:
    """The gain of the most failures over none, and the rank correlation, of our curves."""
    from scipy.stats import kendalltau

    rows = []
    for positives in (50, 200):
        for strategy in ("none", "suffix"):
            line = [(ratio, cells[key]) for key in RATIO_SWEEP if key[:2] == (strategy, positives) for ratio in key[2:]]
            last = gain(line[-1][1], line[0][1])
            means = [_mean(seeds) for _, seeds in line]
            tau: Any = kendalltau([ratio for ratio, _ in line], means)
            low, high = (100 * end for end in last.ci95)
            name = f"{shown_method(METHOD_OF[strategy])}, {positives} successes"
            rows.append([name, f"{100 * last.difference:+.1f} [{low:+.1f}, {high:+.1f}]", f"{tau.statistic:+.2f}"])
    return markdown_table(["ours (ratio_sweep)", "1:8 against 1:0, points", "Kendall's tau, 5 ratios"], rows)


def _mean(seeds: Mapping[int, Scores]) -> float:
    return sum(sum(scores.values()) / len(scores) for scores in seeds.values()) / len(seeds)


# ---- a sweep of one's own ----


def plan_table() -> list[str]:
    """Smallest difference that 80% of sweeps find, by questions and seeds, for one comparison named in advance."""
    config = standard()
    assumed = Assumed(config.assumed.disagreement, config.assumed.seed_sd)
    seeds = (3, 5, 10)
    rows = []
    for n in (300, 500, 1319, 5000):
        found = [minimum_detectable_effect(n, s, assumed, power=config.power) for s in seeds]
        rows.append([str(n), *(f"{100 * effect:.1f}" for effect in found)])
    return markdown_table(["questions", *(f"{s} seeds an arm" for s in seeds)], rows)


def plan_lines() -> list[str]:
    """The advice that `nat train` prints before a sweep of as many questions as the paper's, and what 4 points take."""
    config = standard()
    assumed = Assumed(config.assumed.disagreement, config.assumed.seed_sd)
    lines = planning_advice(500, 3, assumed, 1, config.wanted_effect, config.power)
    for effect in (0.04, 0.02):
        seeds = seeds_needed(effect, 500, assumed, power=config.power)
        questions = questions_needed(effect, 5, assumed, power=config.power)
        needed = "no number of questions is enough" if questions is None else f"{questions} questions"
        lines.append(f"{100 * effect:g} points: {seeds} seeds an arm with 500 questions; with 5 seeds {needed}.")
    return lines


# ---- the picture ----


def draw(paper: Mapping[str, Any], ratio_sweep: Cells, exact: Cells, f1: Cells, directory: Path) -> None:
    """Write figures.png and figures.svg: the paper on the left, ours on the right, a row each experiment."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 9.4), layout="constrained")
        grid = figure.subplots(3, 2)
        _paper_curves(grid[0, 0], paper)
        _our_lines(grid[0, 1], ratio_sweep, (50, 200), "own")
        for row, key, cells in ((1, "em", exact), (2, "f1", f1)):
            _paper_arms(grid[row, 0], paper, key)
            _our_lines(grid[row, 1], cells, (500,), "none")
        titles = ["mathematics", "HotpotQA, exact match", "HotpotQA, F1"]
        ours = ["arithmetic world", "multihop world, exact match", "multihop world, F1"]
        for row in range(3):
            grid[row, 0].set_title(f"paper: {titles[row]}")
            grid[row, 1].set_title(f"ours: {ours[row]}")
            grid[row, 0].set_ylabel("points more than\nwithout failures")
            grid[row, 1].set_xlabel("failures for each success")
        grid[0, 0].set_xlabel("failures, thousands")
        grid[0, 0].set_xticks(range(0, 13, 2))
        grid[1, 0].set_xlabel("failures (500 successes)")
        grid[2, 0].set_xlabel("failures (500 successes)")
        handles = {
            shown_method(method): Line2D(
                [], [], color=LOOKS[method].colour, linestyle=LOOKS[method].line, marker=LOOKS[method].marker, ms=6
            )
            for method in ("nut", "nat", "nat_graded")
        }
        handles["fewer successes (2000; 50)"] = Line2D([], [], color="#6f6f6f", marker="o", ms=6)
        handles["more successes (5000; 200)"] = Line2D([], [], color="#6f6f6f", marker="o", ms=6, mfc="white", lw=1)
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper left", ncols=3, handlelength=2.6,
            title="The same question, two scales: shapes, not levels", alignment="left",
            title_fontproperties={"size": 11, "weight": "bold"},
        )  # fmt: skip
        figure.savefig(directory / "figures.png", dpi=150, facecolor="white", metadata={"Software": None})
        figure.set_layout_engine("none")  # laid out by now
        figure.savefig(directory / "figures.svg", facecolor="white", metadata={"Date": None, "Creator": None})


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float], method: str, open_marker: bool) -> None:
    look = LOOKS[method]
    face = {"mfc": "white", "mec": look.colour, "lw": 1.1} if open_marker else {"mec": "white", "mew": 0.7, "lw": 1.8}
    axes.plot(xs, ys, color=look.colour, linestyle=look.line, marker=look.marker, ms=5.5, **face)


def _paper_curves(axes: Axes, paper: Mapping[str, Any]) -> None:
    asked = [paper["test_questions"][name]["questions"] for name in MATH]
    _band(axes, half_width(unpaired_error(0.63, 0.63, asked)))
    thousands = [count / 1000 for count in paper["math_average"]["negatives"]]
    for curve in paper["math_average"]["curves"]:
        gains = [value - curve["values"][0] for value in curve["values"]]
        _line(axes, thousands, gains, curve["method"], curve["positives"] == 5000)


def _paper_arms(axes: Axes, paper: Mapping[str, Any], key: str) -> None:
    arms = {(arm["method"], arm["negatives"]): arm[key] for arm in paper["hotpotqa"]["arms"]}
    alone = arms["positive_only", 0]
    _band(
        axes, half_width(unpaired_error(alone / 100, alone / 100, [paper["test_questions"]["hotpotqa"]["questions"]]))
    )
    for method in ("nut", "nat", "nat_graded"):
        _line(axes, (0, 500, 1000), [0, *(arms[method, count] - alone for count in (500, 1000))], method, False)
    axes.set_xticks([0, 500, 1000])


def _band(axes: Axes, half: float) -> None:
    axes.axhspan(-100 * half, 100 * half, color="#6f6f6f", alpha=0.12, lw=0)
    axes.annotate(
        "within the error of the questions", (1, -100 * half), (-3, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", fontsize=8, color="#4f4f4f",
    )  # fmt: skip


def _our_lines(axes: Axes, cells: Cells, sizes: Sequence[int], reference: str) -> None:
    """A line a strategy and number of successes; `reference`: successes alone under its "own" text, or under "none"."""
    drawn = False
    for positives in sizes:
        for strategy, method in METHOD_OF.items():
            alone = cells.get((strategy if reference == "own" else "none", positives, 0.0))
            points = sorted((ratio, seeds) for (s, p, ratio), seeds in cells.items() if (s, p) == (strategy, positives))
            if alone is None or len(points) < 2:
                continue
            gains = [gain(seeds, alone) if seeds is not alone else None for _, seeds in points]
            xs, ys = [ratio for ratio, _ in points], [100 * g.difference if g else 0.0 for g in gains]
            ends = [tuple(100 * end for end in g.ci95) if g else (0.0, 0.0) for g in gains]
            axes.fill_between(
                xs, [e[0] for e in ends], [e[1] for e in ends], color=LOOKS[method].colour, alpha=0.1, lw=0
            )
            _line(axes, xs, ys, method, positives != sizes[0])
            axes.set_xticks(xs)
            drawn = True
    axes.axhline(0, color="#6f6f6f", lw=0.8)
    if not drawn:
        axes.annotate("not measured yet", (0.5, 0.55), xycoords="axes fraction", ha="center")
        axes.set_xticks([])
        axes.set_yticks([])


# ---- all of it ----


def tables(paper: Mapping[str, Any], ratio_sweep: Cells) -> dict[str, list[str]]:
    """The Markdown that README.md holds: lines of each block by its name; `ours` only where all its cells are."""
    blocks = {
        "sampling_error": error_table(paper),
        "inside": inside_table(paper),
        "trends": trend_table(paper),
        "leads": lead_table(paper),
        "smallest_difference": plan_table(),
        "advice": [f"- {line}" for line in plan_lines()],
    }
    if all(key in ratio_sweep for key in RATIO_SWEEP):
        blocks["ours"] = our_table(ratio_sweep)
    return blocks


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=Path, default=HERE.parent, help="holds ratio_sweep/ and hotpotqa/")
    parser.add_argument("--output", type=Path, default=HERE, help="the folder of figures.png and figures.svg")
    options = parser.parse_args(arguments)
    paper = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))
    ratio_sweep, missing = read_cells(options.experiments / "ratio_sweep", "success", RATIO_SWEEP)
    exact, none_of_hotpotqa = read_cells(options.experiments / "hotpotqa", "success", HOTPOTQA)
    f1, _ = read_cells(options.experiments / "hotpotqa", "score", HOTPOTQA)
    for line in (*missing, *none_of_hotpotqa):
        print(line, file=sys.stderr)
    if missing or none_of_hotpotqa:
        print(
            "Arms of 0 seeds are not drawn; `nat train experiment=NAME hydra.sweep.dir=experiments/NAME` makes them.",
            file=sys.stderr,
        )
    print("\n\n".join("\n".join(lines) for lines in tables(paper, ratio_sweep).values()))
    draw(paper, ratio_sweep, exact, f1, options.output)


if __name__ == "__main__":
    main()
