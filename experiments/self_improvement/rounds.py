"""Where the failures come from: models that train on their own roll-outs, round after round.

    python experiments/self_improvement/rounds.py --output outputs/rounds

    round 0   a model trained on 100 successes of the scripted policy, one a seed
    round 1   the base model trained anew on what that model did: its successes alone | and its failures (NUT) | and its
              failures, marked (NAT); counts, steps and test questions are those of experiment=self_improvement
    round 2   the base model trained anew on what the model of round 1 did, each method and seed a chain of its own; ...

The methods nut+teacher and nat+teacher (--methods) take the teacher's failures in place of the model's own, beside its
own successes: the teacher is the policy whose successes the first model learnt, the scripted one in a built-in world
and GPT-3.5 at the paper's scale. In round 1 the successes are the very same and the failures as many; later each chain
has the successes that it earned, and failures in the same ratio.

Each round asks QUESTIONS training questions that no round asked before, at the temperatures of conf/collect/model.yaml;
quality control drops repetitions. A chain with too few of its own successes or failures trains on as many as there are;
one without a success ends there. All of it is `nat` commands, printed as they run; the same command goes on wherever it
was killed. Below the output:

    round_2/method=nat,seed=0/                               a cell of `nat train`; own.json: what there was to train on
    round_1/method=nat,seed=0/rollouts_for_round_2.jsonl     what that was chosen from, filled by `nat collect`
    round_1/method=nat+teacher,seed=0/own_and_teacher_for_round_2.jsonl    its own successes and the teacher's failures
    rounds.csv, rounds.md, rounds.png, rounds.svg            a row a cell; means over seeds with intervals; a picture:
                                                             of the rounds, methods and seeds that the command names
    rounds.json                                              what the command asked for; another one is refused there
    report.md, results.csv, arms.csv, ...                    of `nat report`, over all rounds

KEY=VALUE go to every `nat train`, --collect KEY=VALUE to every `nat collect`. The models train in each other's folders:
files among the KEY=VALUE need absolute paths. At the paper's scale (its first model: 2000 successes of GPT-3.5):

    python experiments/self_improvement/rounds.py --output outputs/rounds --environment gsm8k --first 2000 \\
        --questions 1800 --collect environment.questions=data/dataset/gsm8k/train.json \\
        scale=paper environment.questions=$PWD/data/dataset/gsm8k/test.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nat
from nat.comparison.cells import read_runs
from nat.comparison.contrasts import paired
from nat.comparison.means import arm_mean
from nat.comparison.types import Arm, Pair, RunResult
from nat.core.files import write_json, write_text
from nat.core.methods import shown as shown_method
from nat.core.statistics import CrossedDifference, crossed_difference, holm, mean_interval
from nat.examples.mixing import ByRatio, parse_ratio, round_half_up
from nat.reporting.pictures.looks import LOOKS, STYLE, WIDTH
from nat.runs.directory import read_results, results_of
from nat.runs.packed import run_files
from nat.sweeps import composition
from nat.trajectories.formats import native
from nat.types import RequestError, Trajectory

if TYPE_CHECKING:
    from nat.config.tree import Config

FIRST = "positive_only"  # the method of round 0, and the one that the others are compared with
TEACHER = "+teacher"  # of a method: with failures of the policy that taught the first model, not the model's own
POOL = 2  # times the trajectories asked for: those that the scripted policy earns, for each seed to choose from
COLUMNS = (
    *("round", "method", "seed", "status", "episodes", "solved", "successes", "failures", "positives", "negatives"),
    *("success", "score", "seconds", "note"),
)


class ChainEnded(Exception):
    """Why a method and seed cannot go on; the others can."""


@dataclass(frozen=True)
class Request:
    """The command line."""

    output: Path
    rounds: int
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    environment: str
    first: int  # successes that the first model trains on
    questions: int  # training questions a round
    collect: tuple[str, ...]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Own:
    """What a model did, and what of it may train the next one: after quality control, without repetitions."""

    episodes: int
    solved: int
    successes: int
    failures: int  # the teacher's where those train


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 if every chain came to its end, or has no success left to go on with; else 1, or 2."""
    request = read_arguments(argv)
    try:
        for round in (0, 1):  # a mistake is told before anything is made
            for method in request.methods if round else (FIRST,):
                checked(train_arguments(request, round, method, request.seeds[0]))
        if any(method.endswith(TEACHER) for method in request.methods):
            failures_of_teacher(request)
        keep_settings(request)
        ended = play(request)
        rows = list(rows_of(request, ended))
        write_tables(request, rows)
        run_nat(["report", str(request.output)])
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    for row in rows:
        if row["note"]:
            print(f"round {row['round']}, {row['method']}, seed {row['seed']}: {row['note']}", file=sys.stderr)
    return int(any(row["status"] == "failed" for row in rows))


def read_arguments(argv: Sequence[str] | None) -> Request:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument(
        "--methods", default="positive_only,nut,nat", help="nut+teacher, nat+teacher: see above; default: %(default)s"
    )
    parser.add_argument("--environment", default="arithmetic", help="default: %(default)s")
    parser.add_argument("--first", type=int, default=100, help="successes of the first model (default: %(default)s)")
    parser.add_argument("--questions", type=int, default=300, help="training questions a round (default: %(default)s)")
    parser.add_argument("--collect", action="append", default=[], metavar="KEY=VALUE", help="of every nat collect")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every nat train")
    given = parser.parse_args(argv)
    if f"{FIRST}{TEACHER}" in given.methods.split(","):
        parser.error(f"--methods {FIRST}{TEACHER}: {FIRST} trains on no failures, whosesoever")
    return Request(
        given.output,
        given.rounds,
        tuple(map(int, given.seeds.split(","))),
        tuple(given.methods.split(",")),
        given.environment,
        given.first,
        given.questions,
        tuple(given.collect),
        tuple(given.overrides),
    )


# ---- the chains ----


def play(request: Request) -> dict[tuple[int, str, int], str]:
    """Train what is missing, a seed after the other; (round, method, seed) to why a chain failed there."""
    failed: dict[tuple[int, str, int], str] = {}
    for seed in request.seeds:
        left = list(request.methods)
        for round in range(request.rounds + 1):
            for method in list(left) if round else [FIRST]:
                try:
                    train(request, round, method, seed)
                except ChainEnded as error:
                    if str(error):
                        failed[round, method, seed] = str(error)
                    left = [other for other in left if round and other != method]
    return failed


def train(request: Request, round: int, method: str, seed: int) -> None:
    """One cell, and the roll-outs that it trains on. Raises ChainEnded; without a message for want of successes."""
    cell = cell_of(request.output, round, method, seed)
    arguments = train_arguments(request, round, method, seed)
    if results_of(run_files(cell, request.output)).status == "completed":
        return
    if round == 0:
        chosen, folder, run_dir = [], None, str(cell)
    else:
        own = own_of(request, round, method, seed, arguments)
        chosen = mixing_arguments(checked(arguments), own)
        folder = pool_of(request.output, round, method, seed).parent
        run_dir = os.path.relpath(cell, folder)
    if run_nat(["train", *arguments, *chosen, in_quotes("hydra.run.dir", run_dir)], folder):
        error = read_results(cell).error
        raise ChainEnded((error and error.first_line) or "nat train failed")


def own_of(request: Request, round: int, method: str, seed: int, arguments: Sequence[str]) -> Own:
    """Let the model of the round before play, if it has not; what that leaves to train on, written to own.json."""
    cell, rollouts = cell_of(request.output, round, method, seed), rollouts_of(request.output, round, method, seed)
    collect = [
        *(str(rollouts.parent / "model"), f"collect.seed={seed}", f"collect.n_questions={request.questions}"),
        # By default a model is called by its path, which is part of the episodes' ids, and those decide what is chosen.
        *(f"collect.skip_questions={round * request.questions}", f"collect.name=round_{round - 1}", *request.collect),
    ]
    if run_nat(["collect", *collect, in_quotes("collect.output", rollouts)]):
        raise ChainEnded("nat collect failed")
    if method.endswith(TEACHER):
        add_teacher(request, round, method, seed)
    own = count(arguments, rollouts, pool_of(request.output, round, method, seed))
    cell.mkdir(parents=True, exist_ok=True)
    write_json(cell / "own.json", vars(own))
    if not own.successes:
        raise ChainEnded
    return own


def add_teacher(request: Request, round: int, method: str, seed: int) -> None:
    """Write what round `round` chooses from: the successes of the model before, and the teacher's failures."""
    rollouts = rollouts_of(request.output, round, method, seed)
    own = [trajectory for _, trajectory in native.read(rollouts) if trajectory.outcome.success]
    native.write(pool_of(request.output, round, method, seed), own + failures_of_teacher(request))


@cache
def failures_of_teacher(request: Request) -> list[Trajectory]:
    """The same for every round and seed. Raises RequestError where it has none."""
    from nat.run import trajectories_of

    seed = request.seeds[0]
    teaching = train_arguments(request, 0, FIRST, seed)
    if checked(teaching).trajectories.kind == "scripted":
        _, wanted = numbers_wanted(checked(train_arguments(request, 1, f"nut{TEACHER}", seed)))
        teaching.append(f"trajectories.failures={POOL * wanted}")
    failures = [trajectory for trajectory in trajectories_of(checked(teaching)) if not trajectory.outcome.success]
    if not failures:
        methods = ",".join(method for method in request.methods if method.endswith(TEACHER))
        raise RequestError(f"--methods {methods}: the trajectories that the first model learns from hold no failure.")
    return failures


def train_arguments(request: Request, round: int, method: str, seed: int) -> list[str]:
    """Of `nat train`, but for its directory and for how many of its own trajectories there are."""
    named = f"method={method.removesuffix(TEACHER)}"
    shared = [f"environment={request.environment}", named, f"seed={seed}", "tracking=none"]
    if round:
        return [
            *("experiment=self_improvement", "hydra.mode=RUN", *shared, *request.overrides),
            *(f"trajectories.path={pool_name(round, method)}", "training.save=true"),
        ]
    first = [*shared, *request.overrides, f"mixing.positives={request.first}", "training.save=true"]
    if checked(first).trajectories.kind == "scripted":
        first.append(f"trajectories.successes={POOL * request.first}")
    return first


def mixing_arguments(config: Config, own: Own) -> list[str]:
    """None where there are enough successes and failures of its own; else as many as there are."""
    positives, wanted = numbers_wanted(config, own.successes)
    negatives = min(wanted, own.failures) if config.mixing.kind != FIRST else wanted
    if (positives, negatives) == numbers_wanted(config):
        return []
    return [f"mixing.positives={positives}", f"mixing.ratio={positives}:{negatives}"]


def numbers_wanted(config: Config, successes: int | None = None) -> tuple[int, int]:
    """Positives and negatives that a round trains on, if there are `successes` and failures enough."""
    mixing = config.mixing
    ratio, positives = (mixing.ratio, mixing.positives) if isinstance(mixing, ByRatio) else (None, None)
    if ratio is None or positives is None:
        raise RequestError(
            "rounds.py needs mixing.positives and mixing.ratio, as experiment=self_improvement has them."
        )
    if successes is not None:
        positives = min(positives, successes)
    of_positives, of_negatives = parse_ratio(ratio)
    return positives, round_half_up(positives * of_negatives / of_positives)


def count(arguments: Sequence[str], rollouts: Path, pool: Path) -> Own:
    """Episodes of the roll-outs; and what `nat train` would have to choose from in the pool."""
    from nat.run import prepare

    everything = ("mixing=all", "mixing.positives=null", "mixing.ratio=null")
    config = checked([*arguments, in_quotes("trajectories.path", pool.absolute()), *everything])
    with open(rollouts, encoding="utf-8") as file:
        solved = [json.loads(line)["outcome"]["success"] for line in file]
    try:
        left = prepare(config).manifest["selected"]
    except RequestError:  # quality control leaves nothing
        left = {"positives": 0, "negatives": 0}
    return Own(len(solved), sum(solved), left["positives"], left["negatives"])


def checked(arguments: Sequence[str]) -> Config:
    return composition.checked(composition.compose(arguments), arguments)


def keep_settings(request: Request) -> None:
    """Write rounds.json, which says how the cells are made; RequestError where they were made otherwise before."""
    path = request.output / "rounds.json"
    settings = {
        "environment": request.environment,
        "first": request.first,
        "questions": request.questions,
        "collect": list(request.collect),
        "train": list(request.overrides),
    }
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else settings
    if other := [
        f"{key}: {earlier.get(key)}, now {settings[key]}" for key in settings if earlier.get(key) != settings[key]
    ]:
        raise RequestError(
            f"--output {request.output} was made otherwise ({'; '.join(other)}).\nName another directory."
        )
    request.output.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def in_quotes(key: str, path: Path | str) -> str:
    """Double ones, for Hydra: a shell's line puts single ones around them."""
    return f'{key}="{path}"'


def run_nat(arguments: Sequence[str], folder: Path | None = None) -> int:
    """Print a command and run it, in a folder if one is given; its exit code."""
    command = shlex.join(["nat", *arguments])
    print(f"\n$ (cd {shlex.quote(str(folder))} && {command})" if folder else f"\n$ {command}", flush=True)
    here = str(Path(nat.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-m", "nat", *arguments], cwd=folder, env=environment).returncode


def cell_of(output: Path, round: int, method: str, seed: int) -> Path:
    return output / f"round_{round}" / f"method={method if round else FIRST},seed={seed}"


def rollouts_of(output: Path, round: int, method: str, seed: int) -> Path:
    """What the model of the round before did, beside it."""
    return cell_of(output, round - 1, method, seed) / pool_name(round, FIRST)


def pool_of(output: Path, round: int, method: str, seed: int) -> Path:
    """What round `round` chooses from: those roll-outs, or their successes and the teacher's failures."""
    return rollouts_of(output, round, method, seed).with_name(pool_name(round, method))


def pool_name(round: int, method: str) -> str:
    """The same for every seed: the runs of an arm may differ in nothing but their seed."""
    return f"{'own_and_teacher' if method.endswith(TEACHER) else 'rollouts'}_for_round_{round}.jsonl"


# ---- what came of them ----


def rows_of(request: Request, failed: Mapping[tuple[int, str, int], str]) -> Iterator[dict[str, Any]]:
    """A row of rounds.csv a cell, those of chains that ended early included."""
    for round in range(request.rounds + 1):
        for method in request.methods if round else (FIRST,):
            for seed in request.seeds:
                yield row_of(request, round, method, seed, failed.get((round, method, seed)))


def row_of(request: Request, round: int, method: str, seed: int, failed: str | None) -> dict[str, Any]:
    files = run_files(cell_of(request.output, round, method, seed), request.output)
    results = results_of(files)
    row = dict.fromkeys(COLUMNS, "") | {"round": round, "method": method, "seed": seed}
    own_text = files.read_text("own.json")
    own = Own(**json.loads(own_text)) if own_text is not None else None
    row |= vars(own) if own else {}
    if results.status != "completed":
        ended = own is not None and not own.successes
        reason = "no success of its own to train on" if ended else failed
        return row | {"status": "failed" if failed else "ended" if ended else "not run", "note": reason or ""}
    place, figures = results.coordinates, results.inference
    assert place is not None and figures is not None
    row |= {"status": results.status, "positives": place.positives, "negatives": place.negatives}
    row |= {"seconds": results.seconds, "success": figures.success_rate, "score": figures.mean_score}
    all_of = []
    if own and own.successes == row["positives"]:
        all_of.append(f"{own.successes} successes of its own")
    if own and own.failures == row["negatives"] and method != FIRST:
        all_of.append(f"{own.failures} failures of {'its teacher' if method.endswith(TEACHER) else 'its own'}")
    return row | {"note": f"all that there are: {', '.join(all_of)}" if all_of else ""}


def write_tables(request: Request, rows: Sequence[Mapping[str, Any]]) -> None:
    """rounds.csv, rounds.md, rounds.png and rounds.svg."""
    with open(request.output / "rounds.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if arms := arms_of(request.output, rows):
        write_text(request.output / "rounds.md", table(arms, rows))
        draw(arms, request.output / "rounds")


Arms = dict[tuple[int, str], Arm]  # (round, method): its seeds


def arms_of(output: Path, rows: Sequence[Mapping[str, Any]]) -> Arms:
    """The completed cells. Unlike those of `nat report`, an arm's seeds may have trained on other numbers."""
    completed = [row for row in rows if row["status"] == "completed"]
    runs = {run.name: run for run in read_runs(output)[0]} if completed else {}
    arms: dict[tuple[int, str], list[RunResult]] = {}
    for row in completed:
        run = runs[cell_of(output, row["round"], row["method"], row["seed"]).relative_to(output).as_posix()]
        arms.setdefault((row["round"], row["method"]), []).append(run)
    return {
        (round, method): Arm(f"round {round}, {method}", method, "", None, None, {}, tuple(members))
        for (round, method), members in arms.items()
    }


def table(arms: Arms, rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: success of each round and method, and its difference to successes alone and to the first model.

    Where teachers' failures trained too, a second table compares them with a model's own.
    """
    to_alone = differences(arms, lambda method: FIRST)
    names = {key: name_of(key[1]) if key[0] else "successes of the scripted policy" for key in arms}
    teachers = [key for key in arms if key[1].endswith(TEACHER)]
    lines = [
        "| round | trained on | own: successes, failures | success | 95% interval | to positives only, points | p | "
        "to the first model, points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (round, method), arm in arms.items():
        mean = arm_mean(arm, "test")
        assert mean is not None
        own = [row for row in rows if (row["round"], row["method"]) == (round, method) and row["episodes"] != ""]
        columns = ("successes",) if (round, method) in teachers else ("successes", "failures")
        counts = [", ".join(str(row[column]) for column in columns) for row in own]
        cells_of_row = [
            *(str(round), names[round, method]),
            "; ".join(counts) or "-",
            f"{mean.value:.3f} ({', '.join(f'{rate:.3f}'.removeprefix('0') for rate in mean.per_seed)})",
            "[{:.3f}, {:.3f}]".format(*mean.ci95) if mean.ci95 else "-",
            *shown(to_alone.get((round, method))),
            to_first(arm, arms.get((0, FIRST))) if round else "0",
        ]
        lines.append(f"| {' | '.join(cells_of_row)} |")
    lines += [
        "",
        "own: what the model of the round before did, after quality control, each seed. success: mean over seeds (each",
        "seed); its 95% interval and that of the difference to positives only are over test questions and seeds. p is",
        "Holm's over all these comparisons. The difference to the first model has Student's 95% interval over seeds.",
        "",
    ]
    return "\n".join(lines + table_of_teachers(arms))


def table_of_teachers(arms: Arms) -> list[str]:
    """A model's own failures against its teacher's: of each round and method that trained on both; [] without any."""
    compared = differences(arms, lambda method: f"{method}{TEACHER}")
    if not compared:
        return []
    lines = [
        "| round | method | own minus the teacher's, each seed | points | p |",
        "|---|---|---|---|---|",
    ]
    for (round, method), found in compared.items():
        pair = paired_seeds(arms[round, method], arms[round, f"{method}{TEACHER}"])
        assert pair is not None
        each = ", ".join(points(difference, None) for difference in by_seed(pair))
        lines.append(f"| {' | '.join([str(round), name_of(method), each, *shown(found)])} |")
    return [
        *lines,
        "",
        "Failures of the model itself against those of the policy that taught the first one, beside successes of its",
        "own: in round 1 the same successes and as many failures, later what each chain earned, in the same ratio.",
        "points: 95% interval over test questions and seeds; p: Holm's over this table.",
        "",
    ]


def name_of(method: str) -> str:
    plain = method.removesuffix(TEACHER)
    return shown_method(plain) + (", teacher's failures" if plain != method else "")


Differences = dict[tuple[int, str], tuple[CrossedDifference, float]]


def differences(arms: Arms, other: Callable[[str], str]) -> Differences:
    """Each arm minus that of the method `other` in its round, where there is one; p-values are Holm's over them all."""
    found = {}
    for (round, method), arm in arms.items():
        if round and method != other(method) and (round, other(method)) in arms:
            pair = paired_seeds(arm, arms[round, other(method)])
            if pair is not None:
                found[round, method] = crossed_difference(pair.first, pair.second)
    adjusted = holm([difference.p_value for difference in found.values()])
    return {key: (difference, p) for (key, difference), p in zip(found.items(), adjusted, strict=True)}


def paired_seeds(arm: Arm, other: Arm) -> Pair | None:
    """The seeds that both have; None without one. (`paired` would take all of them, as independent ones.)"""
    seeds = {run.seed for run in arm.runs} & {run.seed for run in other.runs}
    if not seeds:
        return None
    kept = [replace(one, runs=tuple(run for run in one.runs if run.seed in seeds)) for one in (arm, other)]
    pair = paired(kept[0], kept[1], "test")
    return None if isinstance(pair, str) else pair


def shown(compared: tuple[CrossedDifference, float] | None) -> list[str]:
    """Points with their interval, and the p-value."""
    if compared is None:
        return ["-", "-"]
    difference, p_holm = compared
    return [points(difference.difference, difference.ci95), f"{p_holm:.3f}"]


def to_first(arm: Arm, first: Arm | None) -> str:
    """In points, with Student's interval over the seeds that both have."""
    pair = paired_seeds(arm, first) if first else None
    if pair is None:
        return "-"
    each = by_seed(pair)
    if len(each) < 2:
        return points(each[0], None)
    return points(*mean_interval(each))


def by_seed(pair: Pair) -> list[float]:
    """Differences of the success rates."""
    return [
        sum(ours.values()) / len(ours) - sum(theirs.values()) / len(theirs)
        for ours, theirs in zip(pair.first, pair.second, strict=True)
    ]


def points(difference: float, interval: tuple[float, float] | None) -> str:
    return f"{100 * difference:+.1f}" + (
        " [{:.1f}, {:.1f}]".format(*(100 * end for end in interval)) if interval else ""
    )


def draw(arms: Arms, path: Path) -> None:
    """Success over rounds, a line a method from the first model on; bands are 95% intervals, small marks seeds.

    Methods with the teacher's failures have hollow marks on a thin line of their method's colour, and no band.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    means = {key: mean for key, arm in arms.items() if (mean := arm_mean(arm, "test"))}
    n_seeds = max(len(mean.per_seed) for mean in means.values())
    n_questions = max(mean.n_questions for mean in means.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        handles = []
        methods = dict.fromkeys(method for round, method in means if round) or {FIRST: None}
        for method in methods:
            look = LOOKS.get(method.removesuffix(TEACHER), LOOKS["base"])
            teachers = method.endswith(TEACHER)
            line = {round: mean for (round, of), mean in means.items() if of == method or round == 0}
            bands = [mean.ci95 or (mean.value, mean.value) for mean in line.values()]
            if not teachers:
                axes.fill_between(
                    list(line), [low for low, _ in bands], [high for _, high in bands],
                    color=look.colour, alpha=0.14, lw=0,
                )  # fmt: skip
            for round, mean in line.items():
                axes.plot(
                    [round] * len(mean.per_seed), mean.per_seed, look.marker, color=look.colour, alpha=0.4, ms=3.5
                )
            handles += axes.plot(
                list(line), [mean.value for mean in line.values()], color=look.colour, linestyle=look.line,
                marker=look.marker, ms=6.5, lw=1 if teachers else 2, mew=0.8,
                mfc="white" if teachers else look.colour, mec=look.colour if teachers else "white",
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round (0: trained on the scripted policy's successes)")
        axes.set_ylabel(f"success rate\n{n_questions} questions, {n_seeds} seed{'s' if n_seeds != 1 else ''}")
        figure.legend(
            handles, [name_of(method) for method in methods], loc="outside upper left",
            ncols=3 if len(methods) < 4 else 2, handlelength=2.6, alignment="left",
            title="Success by rounds on its own roll-outs", title_fontproperties={"size": 11, "weight": "bold"},
        )  # fmt: skip
        figure.savefig(path.with_suffix(".png"), dpi=150, facecolor="white", metadata={"Software": None})
        figure.set_layout_engine("none")  # laid out by now
        figure.savefig(path.with_suffix(".svg"), facecolor="white", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception ends the command that is running, too
    sys.exit(main())
