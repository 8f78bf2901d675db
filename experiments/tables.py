"""The tables of experiments/**/README.md that hold measured numbers: which they are and where each number comes from.

    python experiments/tables.py            (`make tables`) write them
    python experiments/tables.py --check    change nothing; exit 1 and name those that differ

Below, a function is a table. It is written between `<!-- table NAME -->` and `<!-- end -->` in a README, where NAME is
the function's; `@table` has the head, and what the function yields are its rows. Of `scarcity`:

    sweep = Sweep("scarcity")                                        results.csv and arms.csv of that folder
    nut = sweep.arm(strategy="none", positives=50, negatives=200)    the runs that have these values, one a seed
    mean(nut.each())                                                 success, 0.229
    points(nut.difference())                                         to the successes alone, +16.4 [11.9, 20.7]

More of such cells: measured.py. Texts, and what was counted by hand, stand here as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache, partial

from measured import EXPERIMENTS, TABLES, Sweep, main, mean, mean_and_each, points, points_of_each, table
from paper import figures

Rows = Iterator[tuple[str, ...]]
TEXTS = {"NUT": "none", "NAT": "suffix"}  # method: the strategy that marks its failures
METHODS = {"successes alone": "positive_only", "NUT": "nut", "NAT": "nat"}
WORLDS = ("arithmetic", "multihop", "strategic")

# ---- sweeps: how many ----


@table("successes", "method", "1:0", "1:1", "1:2", "1:4", "1:8")
def ratio_sweep() -> Rows:
    sweep = Sweep("ratio_sweep")
    for positives in (50, 200):
        for method, strategy in TEXTS.items():
            arms = [
                sweep.arm(strategy=strategy, positives=positives, negatives=failures * positives)
                for failures in (0, 1, 2, 4, 8)
            ]
            yield str(positives), method, *(mean(arm.each()) for arm in arms)


@table("successes", "alone", "NUT", "NAT", "NUT, difference in points", "NAT, difference in points")
def scarcity() -> Rows:
    sweep = Sweep("scarcity")
    for positives in (25, 50, 100, 200):
        alone = sweep.arm(strategy="none", positives=positives, negatives=0)
        marked = [sweep.arm(strategy=text, positives=positives, negatives=4 * positives) for text in TEXTS.values()]
        means = (mean(arm.each()) for arm in (alone, *marked))
        yield str(positives), *means, *(points(arm.difference()) for arm in marked)


@table("failure rate", "positives only", "NUT", "NAT", "NUT, points", "NAT, points")
def failure_rates() -> Rows:
    sweep = Sweep("failure_rates")
    for rate in (0.1, 0.15, 0.3):
        alone, *others = (sweep.arm(method=method, failure_rate=rate) for method in METHODS.values())
        means = (mean(arm.each()) for arm in (alone, *others))
        yield f"{rate:.2f}", *means, *(points(arm.minus(alone)) for arm in others)


@table("failures of a policy that errs at", "NUT", "NAT", "NUT, against 5%", "NAT, against 5%")
def quality_of_negatives() -> Rows:
    sweep = Sweep("quality_of_negatives")
    strong = [sweep.arm(strategy=text, failures_rate=0.05) for text in TEXTS.values()]
    yield "5%", *(mean_and_each(arm.each()) for arm in strong), "0", "0"
    for name, rate in (("15%", "null"), ("60%", 0.6)):
        arms = [sweep.arm(strategy=text, failures_rate=rate) for text in TEXTS.values()]
        differences = (points(arm.minus(reference)) for arm, reference in zip(arms, strong, strict=True))
        yield name, *(mean_and_each(arm.each()) for arm in arms), *differences


# ---- sweeps: which text ----


@table("text", "success", "NAT - NUT, points", "asked for the other class")
def strategies() -> Rows:
    sweep = Sweep("strategies")
    yield "`none` (NUT)", mean(sweep.arm(strategy="none").each()), "-", "-"
    marks = ("suffix", "suffix_plain", "prefix_correct", "prefix_good", "prefix_letters", "prefix_objects")
    for text in (*marks, "random_sentence", "inverse"):
        arm = sweep.arm(strategy=text)
        other_class = points_of_each(arm.each("success_rate_as_incorrect"), arm.each())
        yield f"`{text}`", mean(arm.each()), points(arm.difference("text_difference")), other_class


# ---- sweeps: which task, which agent ----


@table("failures", "NUT, EM", "NAT, EM", "graded NAT, EM", "NUT, F1", "NAT, F1", "graded NAT, F1")
def hotpotqa() -> Rows:
    sweep = Sweep("hotpotqa")
    for negatives in (0, 500, 1000):
        arms = [sweep.arm(strategy=text, negatives=negatives) for text in ("none", "suffix", "graded_4")]
        yield str(negatives), *(mean(arm.each(score)) for score in ("test_success", "test_score") for arm in arms)


@table("", "NUT", "NAT", "graded NAT")
def hotpotqa_differences() -> Rows:
    sweep = Sweep("hotpotqa")
    for negatives in (500, 1000):
        arms = [sweep.arm(strategy=text, negatives=negatives) for text in ("none", "suffix", "graded_4")]
        yield f"{negatives} failures", *(points(arm.difference()) for arm in arms)


@table("trained on", "success", "difference to the successes alone, points", 'ends in "unknown"')
def strategyqa() -> Rows:
    sweep = Sweep("strategyqa")
    for name, method in METHODS.items():
        arm = sweep.arm(method=method)
        yield name, mean_and_each(arm.each()), points(arm.difference()), f"{arm.share('abstained'):.0%}"


@table(
    *("trained on", "arithmetic", "larger", "longer", "other verbs"),
    "mean over the four, difference in points",
)
def methods_by_benchmark() -> Rows:
    sweep = Sweep("methods_by_benchmark")
    for name, method in METHODS.items():
        arm = sweep.arm(method=method)
        columns = ("test_success", "in_larger_success", "in_longer_success", "in_other_verbs_success")
        yield name, *(mean(arm.each(column)) for column in columns), points(arm.difference("environments_difference"))


@table("agent", "successes alone", "successes alone, marked", "NUT", "NAT")
def agent_style() -> Rows:
    sweep = Sweep("agent_style")
    for agent in ("react", "cot"):
        arms = (
            sweep.arm(agent=agent, negatives=negatives, strategy=text)
            for negatives in (0, 200)
            for text in ("none", "prefix_correct")
        )
        yield agent, *(mean(arm.each()) for arm in arms)


@table("trained on (100 successes; 400 failures)", "success", "to the successes alone, points")
def agent_style_easy() -> Rows:
    sweep = Sweep("agent_style_easy")
    for name, negatives, text in (
        ("successes alone", 0, "none"),
        ("successes alone, marked", 0, "prefix_correct"),
        ("NUT", 400, "none"),
        ("NAT", 400, "prefix_correct"),
    ):
        arm = sweep.arm(negatives=negatives, strategy=text)
        yield name, mean_and_each(arm.each()), points(arm.difference())


# ---- sweeps: why ----


@table("", *WORLDS)
def controls() -> Rows:
    sweeps = [Sweep(f"controls_{world}") for world in WORLDS]
    for name, values in {
        "successes alone": {"method": "positive_only"},
        "NUT": {"method": "nut"},
        "NAT": {"strategy": "suffix"},
        "NAT, marks shuffled": {"strategy": "shuffled"},
        "failures replaced by successes": {"method": "replaced"},
    }.items():
        yield name, *(mean_and_each(sweep.arm(**values).each()) for sweep in sweeps)


@table("world", "trained on", "30 steps", "300 steps", "equal steps (300), points", "equal passes, points")
def equal_epochs() -> Rows:
    for world in WORLDS:
        sweep = Sweep(f"equal_epochs_{world}")
        alone = sweep.arm(method="positive_only", max_steps=30)
        for name, method in METHODS.items():
            short, long = (sweep.arm(method=method, max_steps=steps) for steps in (30, 300))
            rates = (mean_and_each(arm.each()) for arm in (short, long))
            yield world, name, *rates, points(long.difference()), points(long.minus(alone))


# ---- a model's own failures ----


@table("trained on", "test success: mean (each seed)", "token F1", "difference to its own successes alone, points")
def self_improvement() -> Rows:
    first = Sweep("self_improvement_first").arm()
    yield "50 successes of the scripted policy (the first model)", mean(first.each()), mean(first.each("f1")), ""
    sweep = Sweep("self_improvement")
    for name, method in (
        ("80 successes of its own", "positive_only"),
        ("and 160 failures of its own, unmarked (NUT)", "nut"),
        ("and 160 failures of its own, marked (NAT)", "nat"),
    ):
        arm = sweep.arm(method=method)
        yield name, mean_and_each(arm.each()), mean(arm.each("f1")), points(arm.difference())


def tables_of_rounds() -> list[list[str]]:
    """Those that rounds.py wrote into rounds.md."""
    text = (EXPERIMENTS / "self_improvement_rounds" / "rounds.md").read_text(encoding="utf-8")
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [lines for lines in blocks if lines[0].startswith("|")]


TABLES["rounds"] = lambda: tables_of_rounds()[0]
TABLES["rounds_of_teachers"] = lambda: tables_of_rounds()[1]


# ---- all of them, in experiments/README.md ----


@table("question", "answer", "effect, points", "command", "minutes")
def experiments() -> Rows:
    ratios = Sweep("ratio_sweep")
    yield (
        "How many failures, with 50 successes? (NAT, 1:8)",
        "As many as there are: success rises with each doubling. [ratio_sweep](ratio_sweep/README.md)",
        points(ratios.arm(strategy="suffix", positives=50, negatives=400).difference()),
        "`nat train experiment=ratio_sweep`",
        "153",
    )
    yield (
        "How many failures, with 200 successes? (NAT, 1:8)",
        "None is seen to help.",
        points(ratios.arm(strategy="suffix", positives=200, negatives=1600).difference()),
        "the same",
        "",
    )
    scarce = Sweep("scarcity")
    yield (
        "How scarce must successes be? (NUT, 100 successes, 1:4)",
        "A gain at 50 (NUT: adjusted p 0.041); not shown at 25, 100 and 200. [scarcity](scarcity/README.md)",
        points(scarce.arm(strategy="none", positives=100, negatives=400).difference()),
        "`nat train experiment=scarcity`",
        scarce.minutes(),
    )
    benchmarks = Sweep("methods_by_benchmark")
    yield (
        "Do other benchmarks gain? (NAT, mean over four)",
        "Yes where anything is solved at all: other verbs, not larger numbers or longer questions. "
        "[methods_by_benchmark](methods_by_benchmark/README.md)",
        points(benchmarks.arm(method="nat").difference("environments_difference")),
        "`nat train experiment=methods_by_benchmark`",
        benchmarks.minutes(),
    )
    search = Sweep("hotpotqa")
    yield (
        "HotpotQA's task (NAT, 500 + 500)",
        "Failures cost; marks and grades change nothing. [hotpotqa](hotpotqa/README.md)",
        points(search.arm(strategy="suffix", negatives=500).difference()),
        "`nat train experiment=hotpotqa`",
        search.minutes(),
    )
    yes_or_no = Sweep("strategyqa")
    yield (
        "StrategyQA's task (NAT, 500 + 1000)",
        "Failures cost: models learn to give up. [strategyqa](strategyqa/README.md)",
        points(yes_or_no.arm(method="nat").difference()),
        "`nat train experiment=strategyqa`",
        yes_or_no.minutes(),
    )
    texts = Sweep("strategies")
    yield (
        "Which text? (`prefix_correct` against none)",
        "None is shown to differ with 200 successes, where failures do not help either: eight texts lie within -1.5 "
        "and +4.3 points of none. [strategies](strategies/README.md)",
        points(texts.arm(strategy="prefix_correct").difference("text_difference")),
        "`nat train experiment=strategies`",
        texts.minutes(),
    )
    weak, strong = (Sweep("quality_of_negatives").arm(strategy="none", failures_rate=rate) for rate in (0.6, 0.05))
    yield (
        "Whose failures? (NUT: errs at 60% against 5%)",
        "Not a very weak policy's; between 5% and 15% nothing is shown (unadjusted). "
        "[quality_of_negatives](quality_of_negatives/README.md)",
        points(weak.minus(strong)),
        "`nat train experiment=quality_of_negatives`",
        Sweep("quality_of_negatives").minutes(),
    )
    react, thoughts = (
        Sweep("agent_style").arm(agent=agent, negatives=200, strategy="prefix_correct") for agent in ("react", "cot")
    )
    yield (
        "Chains of thought? (NAT, ReAct)",
        "ReAct as before. [agent_style](agent_style/README.md)",
        points(react.difference()),
        "`nat train experiment=agent_style`",
        Sweep("agent_style").minutes(),
    )
    yield (
        "Chains of thought? (NAT, CoT)",
        "Nothing can be told: a floor of 0.3%, and guessing (6 to 7%) where sums are easy.",
        points(thoughts.difference()),
        "the same; the easy world's stands there",
        Sweep("agent_style_easy").minutes(),
    )
    yield (
        "The model's own failures, one round? (NAT, against its own successes)",
        "Its own successes help (0.150 to 0.226), its failures cost that again (multi-hop world). "
        "[self_improvement](self_improvement/README.md)",
        points(Sweep("self_improvement").arm(method="nat").difference()),
        "three commands",
        "20",
    )
    rounds = Sweep("self_improvement_rounds")
    own, alone = (rounds.arm(method=method, path="rollouts_for_round_3.jsonl") for method in ("nat", "positive_only"))
    yield (
        "The model's own failures, three rounds? (NAT, against its own successes; over seeds)",
        "Rounds on its own successes alone collapse (0.251 to 0.048), with its failures less (0.182); "
        "p = 0.38 adjusted (arithmetic). "
        "[self_improvement](self_improvement/README.md#one-round-and-three-its-own-failures-and-its-teachers)",
        points(own.minus(alone)),
        "`python experiments/self_improvement/rounds.py ...`",
        rounds.minutes(),
    )
    own, teachers = (
        rounds.arm(method="nat", path=pool)
        for pool in ("rollouts_for_round_1.jsonl", "own_and_teacher_for_round_1.jsonl")
    )
    yield (
        "Its own failures or its teacher's? (NAT, round 1, against the scripted policy's; over seeds)",
        "Not told apart at equal counts. After three rounds own failures are 10 points ahead, with more trajectories "
        "by then; p = 0.21 adjusted.",
        points(own.minus(teachers)),
        "the same",
        "",
    )
    rates = Sweep("failure_rates")
    yield (
        "Failures made at another rate? (NAT, 30%)",
        "Help at 10, 15 and 30%, with 100 successes. [failure_rates](failure_rates/README.md)",
        points(rates.arm(method="nat", failure_rate=0.3).difference()),
        "`nat train experiment=failure_rates`",
        rates.minutes(),
    )
    for question, world, answer, command in (
        (
            "Why? Arithmetic (NAT)",
            "arithmetic",
            "More data, not the mark; 900 more successes are worth 43 points. [controls](controls/README.md)",
            "`nat train experiment=controls environment=arithmetic`",
        ),
        (
            "Why? Multi-hop (NAT)",
            "multihop",
            "Mostly giving up: 7.7 of the 9.8 points are abstentions.",
            "`... environment=multihop`",
        ),
        ("Why? Yes/no (NAT)", "strategic", "Giving up is imitated.", "`... environment=strategic`"),
    ):
        control = Sweep(f"controls_{world}")
        yield question, answer, points(control.arm(strategy="suffix").difference()), command, control.minutes()
    yield (
        "Equal steps (NAT, 300 steps)",
        "At equal passes the same comparison shows 51 points: about half of them are more steps. "
        "[equal_epochs](equal_epochs/README.md)",
        points(Sweep("equal_epochs_arithmetic").arm(method="nat", max_steps=300).difference()),
        "`nat train experiment=equal_epochs environment=arithmetic`",
        "8",
    )
    for question, world, answer, minutes in (
        ("Equal passes, multi-hop", "multihop", "A gain that is none: at equal steps it is -9.8.", "5"),
        ("Equal passes, yes/no", "strategic", "Failures cost either way.", "6"),
    ):
        sweep = Sweep(f"equal_epochs_{world}")
        long, short = sweep.arm(method="nat", max_steps=300), sweep.arm(method="positive_only", max_steps=30)
        question += " (NAT, 300 steps against 30; over seeds)"
        yield question, answer, points(long.minus(short)), f"`... environment={world}`", minutes


# ---- of scripts that write JSON ----


def read_json(path: str) -> dict:
    return json.loads((EXPERIMENTS / path).read_text(encoding="utf-8"))


@table("", "arms", "of the success rate", "of the model (`seed_sd`)", "questions on which two seeds differ")
def seed_variation() -> Rows:
    variation = read_json("seed_variation/variation.json")
    for name in ("all arms", "up to 100 successes alone", "more successes alone", "with failures"):
        group = variation[name]
        least, largest = (f"{100 * group[f'{end}_disagreement']:.0f}" for end in ("least", "largest"))
        sds = (f"{100 * group[key]:.1f}" for key in ("sd_of_the_success_rate", "seed_sd"))
        yield name, str(group["arms"]), *sds, f"{group['disagreement']:.0%} ({least} to {largest})"


@table("threads", "loop, episodes/s", "batch 128", "batch 300", "times the loop")
def rollouts() -> Rows:
    measured = read_json("benchmarks/results.json")["rollouts"]
    pace, times = measured["episodes_per_second"], measured["times_the_loop"]
    batched = (f"{pace[batch]:.1f}" for batch in ("batch_128", "batch_300"))
    ahead = f"{times['batch_128']} and **{times['batch_300']}**"
    yield f"{measured['threads']} (committed)", f"{pace['loop']:.1f}", *batched, ahead
    yield "1 (`--threads 1`)", "8.3", "70.5", "83.2", "8.7 and 9.7"


@table(
    *("rows", "MB", "CPU s", "clock s", "peak memory, MB", "exact duplicates", "near, same question"),
    *("near, other question", "evaluation overlap, exact and near"),
)
def audit_scale() -> Rows:
    def seconds(number: float) -> str:
        return f"{number:.1f}" if number < 100 else f"{number:.0f}"

    def count(number: int) -> str:
        return f"{number:,}" if number >= 10_000 else str(number)

    for size in read_json("benchmarks/results.json")["audit_scale"]:
        kinds = (
            *("exact_duplicates", "near_same_question", "near_other_question"),
            *("evaluation_overlap", "evaluation_near_overlap"),
        )
        found = [f"{count(size['found'][kind])} of {count(size['planted'][kind])}" for kind in kinds]
        used = (seconds(size["cpu_seconds"]), seconds(size["seconds"]), str(size["peak_mb"]))
        yield count(size["rows"]), str(size["mb"]), *used, *found[:3], f"{found[3]}, {found[4]}"


@table("`results.json`", "")
def tiny_model() -> Rows:
    made = read_json("tiny_model/results.json")
    yield "parameters, vocabulary", f"{made['parameters']:,}; {made['vocabulary']} tokens"
    yield "folder", f"{made['folder_bytes'] / 1e6:.2f} MB (weights in float16, loaded as float32)"
    yield (
        "training",
        f"{made['steps']} steps of {made['batch_size']} problems at learning rate {made['lr']}; "
        f"{made['seconds']:.0f} s on one thread of a busy machine",
    )
    for name, share in (
        ("problems in its own plain wording", "accuracy_plain"),
        ("problems in mixed prompts, instructions included", "accuracy_mixed_prompts"),
        ("the world's test questions, not fine-tuned", "accuracy_world_not_fine_tuned"),
    ):
        yield name, f"{made[share]:.1%} of {made['n_problems']}"


@table("successes", "distinct ones", "success")
def tiny_model_difficulty() -> Rows:
    for cell in read_json("tiny_model/difficulty.json")["cells"]:
        yield str(cell["successes"]), str(cell["distinct_successes"]), f"{cell['success']:.1%}"


@table("", "`results_first.json`", "`results.json` (shipped)")
def tiny_search() -> Rows:
    both = first, shipped = read_json("tiny_search/results_first.json"), read_json("tiny_search/results.json")
    yield "parameters, vocabulary", "", f"{shipped['parameters']:,}; {shipped['vocabulary']} tokens"
    yield "folder", "", f"{shipped['folder_bytes'] / 1e6:.2f} MB (weights in float16, loaded as float32)"
    falling = [f"falling from step {made['steps'] * (1 - made['decay']):.0f} on" for made in both]
    yield (
        "training, on one thread of a busy machine",
        f"{first['steps']} steps of {first['batch_size']}, learning rate {first['lr']}, {falling[0]}; "
        f"{first['seconds']:.0f} s",
        f"{shipped['steps']} more, {shipped['lr']}, {falling[1]}; {shipped['seconds']:.0f} s",
    )
    for name, kind in (
        ("a value after one to three searches", "value"),
        ("which of two comes first", "first"),
        ("yes or no", "yes"),
    ):
        shares = (f"{made['accuracy_plain'][kind]:.1%} of {made['n_problems']}" for made in both)
        yield f"plain wording: {name}", *shares
    mixed = (f"{made['accuracy_mixed_prompts']:.1%} of {made['n_problems']}" for made in both)
    yield "mixed prompts, instructions included", *mixed
    worlds = shipped["accuracy_world_not_fine_tuned"]
    solved = ", ".join(f"{world} {share:.1%}" for world, share in worlds.items())
    yield "the worlds' test questions, not fine-tuned", "", f"{solved} of {shipped['n_problems']}"


# ---- of paper/figures.py ----


@cache
def tables_of_paper() -> dict[str, list[str]]:
    cells, missing = figures.read_cells(EXPERIMENTS / "ratio_sweep", "success", figures.RATIO_SWEEP)
    if missing:
        raise ValueError("; ".join(missing))
    return figures.tables(read_json("paper/figures.json"), cells)


def of_paper(name: str) -> list[str]:
    return tables_of_paper()[name]


PAPER = ("sampling_error", "inside", "trends", "leads", "ours", "smallest_difference", "advice")
TABLES.update({f"paper_{name}": partial(of_paper, name) for name in PAPER})

if __name__ == "__main__":
    sys.exit(main())
