"""The report in words: `report.md`, and the text for a terminal. (`nat.reporting.write` writes the rest.)

Everything comes from the runs' files alone (`nat.comparison.cells`), so that it can be made again at any time and
anywhere.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nat.comparison import environments as elsewhere
from nat.comparison import losses
from nat.comparison.arms import mean_score, mean_success
from nat.comparison.means import outcome_shares
from nat.comparison.types import Arm, Comparison, Contrast, Environments
from nat.comparison.verdict import interval_note, no_verdict, p_text
from nat.core.methods import UNNAMED
from nat.core.statistics import wilson_interval
from nat.reporting.tables import aligned, markdown_table, safe

WIDTH = 110  # columns of the terminal's prose
SHOWN_MISSING = 8  # lines in the terminal; report.md has all
NO_RUN = "No finished run with roll-outs yet."
NOT_PLAYED = (
    "No verdict: nothing was played (evaluation=none), so how often the agent succeeds is not known. Measure it where "
    "the agent runs, and compare it here (report.external). What the texts change in the loss of unseen trajectories "
    "is below."
)
LOSSES = "Loss of unseen trajectories under each text"
LOSS_HEADER = ["arm", "seeds", "trajectories", "loss", "under another text"]


# ---- rows ----


def columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and one row an arm; what is the same for all arms, or in none of them, is left out."""
    arms, split = comparison.arms, comparison.split
    versus = {contrast.treatment.label: contrast for contrast in comparison.contrasts}
    text = {contrast.treatment.label: contrast for contrast in comparison.text_contrasts}
    settings = list(dict.fromkeys(key for arm in arms for key in arm.setting))
    graded = any(mean_score(arm, split) != mean_success(arm, split) for arm in arms)
    header = ["method", "strategy", "positives", "negatives", *(key.rpartition(".")[2] for key in settings), "seeds"]
    header += ["success"] + (["score"] if graded else [])
    header += (["vs successes alone", "p"] if versus else []) + (["vs no text", "p"] if text else [])
    rows = []
    for arm in arms:
        row = [arm.method, arm.strategy, _count(arm.positives), _count(arm.negatives)]
        row += [str(arm.setting.get(key, "-")) for key in settings]
        row += [str(len(arm.runs)), _rate(mean_success(arm, split))]
        row += [_rate(mean_score(arm, split))] if graded else []
        row += _difference(versus.get(arm.label)) if versus else []
        row += _difference(text.get(arm.label)) if text else []
        rows.append(row)
    return header, rows


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"


def _difference(contrast: Contrast | None) -> list[str]:
    if contrast is None:
        return ["-", "-"]
    low, high = contrast.difference.ci95
    points = f"{100 * contrast.difference.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return [points, p_text(contrast.p_holm).lstrip("= ")]


def environment_columns(environments: Environments) -> tuple[list[str], list[list[str]]]:
    """Header and one row an arm: its success in each environment, and their mean against the successes alone."""
    header = ["arm", "seeds", *environments.names, "mean"]
    header += ["vs successes alone", "p"] if environments.contrasts else []
    rows = []
    for arm in environments.arms:
        row = [arm.label, str(len(arm.runs)), *(_rate(mean_success(arm, split)) for split in environments.splits)]
        row.append(_rate(elsewhere.mean_over(arm, environments.splits)))
        rows.append(row + (_difference(elsewhere.contrast_of(environments, arm)) if environments.contrasts else []))
    return header, rows


def environment_legend(environments: Environments) -> list[str]:
    """How to read these columns, and what the table leaves out."""
    lines, contrasts = elsewhere.legend(environments), environments.contrasts
    if contrasts:
        compared = f"the {len(contrasts)} comparisons of this table (Holm)" if len(contrasts) > 1 else "1 comparison"
        lines.insert(
            2,
            f"vs successes alone: of the mean, {REFERENCE_MEANS}, same questions; 95% interval over "
            f"{_interval_is_over(contrasts)}; p is adjusted over {compared}. It holds no verdict.",
        )
    return lines


def _interval_is_over(contrasts: Sequence[Contrast]) -> str:
    several = {contrast.difference.n_seeds > 1 for contrast in contrasts}
    over = "questions and seeds" if True in several else "questions alone"
    return over + (" (questions alone where an arm has one seed)" if len(several) > 1 else "")


def legend(comparison: Comparison) -> list[str]:
    """How to read the columns."""
    lines = [f"success: share of the {comparison.split} questions solved, mean over seeds."]
    if any(arm.strategy == UNNAMED for arm in comparison.arms):
        lines.append(f"{UNNAMED}: a text that the file of results does not name.")
    families = ((comparison.contrasts, "vs successes alone", REFERENCE_MEANS),)
    families += ((comparison.text_contrasts, "vs no text", TEXT_MEANS),)
    for contrasts, name, means in families:
        if contrasts:
            lines.append(f"{name}: {means}, same questions; 95% interval over {_interval_is_over(contrasts)}.")
    counts = [f"{len(contrasts)} of {name!r}" for contrasts, name, _ in families if len(contrasts) > 1]
    if counts:
        lines.append(f"{EXPLORATORY} p is adjusted over the comparisons of its column: {', '.join(counts)} (Holm).")
    return lines


REFERENCE_MEANS = (
    "points more than positive_only (of as many positives where the arm has any; without a text if there is)"
)
TEXT_MEANS = "points more than on the same trajectories without a text (NUT)"
EXPLORATORY = "The table is exploratory and holds no verdict: a verdict's own comparisons are another family."


def loss_rows(comparison: Comparison) -> list[list[str]]:
    """A row an arm and group of trajectories; see `losses.LEGEND`."""
    return [
        [
            row.arm.label,
            str(len(row.arm.runs)),
            f"{row.trajectories} {row.group}",
            f"{row.loss:.4f}",
            "; ".join(map(other_text, row.others)) or "-",
        ]
        for row in losses.losses_of(comparison.measured)
    ]


def other_text(other: losses.OtherText) -> str:
    error = "" if other.standard_error is None else f" ± {other.standard_error:.4f}"
    return f"{other.class_name} {other.difference:+.4f}{error}"


# ---- report.md ----


def markdown(comparison: Comparison, drawn: Mapping[str, str]) -> str:
    """The whole report; `drawn` maps a picture's name to its file, beside the report."""
    lines = [f"# {safe(comparison.title)}", ""]
    if not comparison.runs:
        lines += [NO_RUN, ""]
    elif not comparison.arms:
        lines += [NOT_PLAYED, ""]
    elif not comparison.findings:
        lines += [no_verdict(comparison.arms), ""]
    for finding in comparison.findings:
        lines += [f"**{finding.question}** {safe(finding.answer)}", ""]
    if comparison.caveats:
        lines += ["## Before you believe it", "", *(f"- {safe(caveat.text)}" for caveat in comparison.caveats), ""]
    first = [name for name in ("negatives", "strategies", "methods") if name in drawn][:1]
    lines += [_picture(name, drawn) for name in first] + ([""] if first else [])
    if comparison.arms:
        header, rows = columns(comparison)
        lines += ["## Arms", "", *markdown_table(header, rows), "", *(f"- {line}" for line in legend(comparison)), ""]
    if comparison.environments is not None:
        header, rows = environment_columns(comparison.environments)
        notes = [f"- {safe(line)}" for line in environment_legend(comparison.environments)]
        lines += [f"## {IN_EACH}", "", *markdown_table(header, rows), "", *notes, ""]
    if rows_of_losses := loss_rows(comparison):
        notes = [f"- {line}" for line in losses.LEGEND]
        lines += [f"## {LOSSES}", "", *markdown_table(LOSS_HEADER, rows_of_losses), "", *notes, ""]
    single = [arm for arm in comparison.arms if len(arm.runs) == 1]
    if any(arm.method != "base" for arm in single):  # the untrained base needs no second seed
        header, rows = _run_table(single, comparison.split)
        lines += ["## Runs of arms with one seed", "", *markdown_table(header, rows), ""]
    if comparison.findings:
        header, rows = _evidence(comparison)
        lines += ["## Evidence of the verdict", "", *markdown_table(header, rows), "", *EVIDENCE, ""]
        contrasts = [each for finding in comparison.findings for each in (finding.evidence, *finding.also)]
        if notes := [f"- {safe(note)}" for each in contrasts if each is not None and (note := interval_note(each))]:
            lines += [*notes, ""]
    if comparison.arms and (table := _failures(comparison)):
        lines += ["## How episodes ended", "", *markdown_table(*table), ""]
    if rest := [name for name in drawn if name not in first]:
        lines += ["## Pictures", "", *(_picture(name, drawn) for name in rest), ""]
    if comparison.missing:
        lines += ["## Missing", "", *(f"- {safe(line)}" for line in comparison.missing), ""]
    return "\n".join(lines)


IN_EACH = "In each environment"
EVIDENCE = [
    "Interval of the family: simultaneous for the verdicts above, or for those elsewhere (Bonferroni). Standard errors",
    "(s.e.): due to questions, and due to training seeds; each holds the noise of single answers too.",
]


def _picture(name: str, drawn: Mapping[str, str]) -> str:
    return f"![{name}]({drawn[name]})"


def _run_table(arms: Sequence[Arm], split: str) -> tuple[list[str], list[list[str]]]:
    rows = []
    for arm in arms:
        for run in arm.runs:
            successes = [answer.success for answer in (run.answers.get(split) or {}).values()]
            low, high = wilson_interval(sum(successes), len(successes)) if successes else (0.0, 1.0)
            rate = sum(successes) / len(successes) if successes else None
            rows.append([run.name, str(run.seed), str(len(successes)), _rate(rate), f"[{low:.3f}, {high:.3f}]"])
    return ["run", "seed", "questions", "success", "95% interval (Wilson)"], rows


def _evidence(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["question", "verdict", "arm", "against", "on", "difference", "interval of the family", "p", "p adjusted"]
    header += ["s.e. questions", "s.e. seeds"]
    rows = []
    for finding in comparison.findings:
        for contrast in (finding.evidence, *finding.also):
            if contrast is None:
                continue
            difference = contrast.difference
            low, high = contrast.adjusted_ci
            seeds = "1 seed" if difference.n_seeds == 1 else f"{difference.n_seeds} seeds"
            rows.append(
                [
                    finding.question if contrast is finding.evidence else "elsewhere",
                    contrast.verdict,
                    contrast.treatment.label,
                    contrast.reference.label,
                    f"{difference.n_questions} {contrast.split} questions, {seeds}",
                    f"{difference.difference:+.3f}",
                    f"[{low:+.3f}, {high:+.3f}]",
                    p_text(difference.p_value).lstrip("= "),
                    p_text(contrast.p_holm).lstrip("= "),
                    f"{difference.question_se:.3f}",
                    "-" if difference.seed_se is None else f"{difference.seed_se:.3f}",
                ]
            )
    return header, rows


def _failures(comparison: Comparison) -> tuple[list[str], list[list[str]]] | None:
    """Share of the questions that ended in each way, mean over an arm's seeds as its success is."""
    shares = [outcome_shares(arm, comparison.split) for arm in comparison.arms]
    kinds = sorted({kind for of_arm in shares for kind in of_arm} - {"success"})
    if not kinds:
        return None
    rows = [
        [arm.label, *(_rate(of_arm.get(kind, 0.0) if of_arm else None) for kind in ("success", *kinds))]
        for arm, of_arm in zip(comparison.arms, shares, strict=True)
    ]
    return ["arm", "solved", *kinds], rows


# ---- the terminal ----


def terminal(comparison: Comparison, written: str) -> str:
    lines: list[str] = []
    if not comparison.runs:
        lines += [NO_RUN, ""]
    elif not comparison.arms:
        lines += [*textwrap.wrap(NOT_PLAYED, WIDTH), ""]
    elif not comparison.findings:
        lines += [no_verdict(comparison.arms), ""]
    for finding in comparison.findings:
        lines += [*textwrap.wrap(f"{finding.question} {finding.answer}", WIDTH, subsequent_indent="  "), ""]
    if comparison.caveats:
        lines += ["Before you believe it:", *_wrapped([caveat.text for caveat in comparison.caveats]), ""]
    if comparison.arms:
        header, rows = columns(comparison)
        lines += [*aligned(header, rows), *_wrapped(legend(comparison)), ""]
    if comparison.environments is not None:
        header, rows = environment_columns(comparison.environments)
        lines += [f"{IN_EACH}:", *aligned(header, rows), *_wrapped(environment_legend(comparison.environments)), ""]
    if rows_of_losses := loss_rows(comparison):
        lines += [f"{LOSSES}:", *aligned(LOSS_HEADER, rows_of_losses), *_wrapped(losses.LEGEND), ""]
    if comparison.missing:
        lines += ["Missing:", *_wrapped(comparison.missing[:SHOWN_MISSING])]
        more = len(comparison.missing) - SHOWN_MISSING
        lines += [f"  ... and {more} more (report.md)", ""] if more > 0 else [""]
    return "\n".join([*lines, written])


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
