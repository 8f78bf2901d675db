"""What a directory of finished runs says, on one page: `report.md`, `report.html`, tables as CSV, and pictures.

Everything comes from the runs' files alone (`nat.results`), so that it can be made again at any time and anywhere.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nat import elsewhere, pictures, report_page
from nat.arm_means import outcome_shares
from nat.caveats import caveats_of
from nat.comparison import (
    Arm,
    Comparison,
    Contrast,
    Environments,
    Pair,
    ReportConfig,
    RunResult,
    arms_of,
    contrasts_of,
    mean_score,
    mean_success,
    paired,
    reference_of,
    split_of,
    unmarked_of,
)
from nat.core.methods import UNNAMED
from nat.files import write_text
from nat.findings import findings_of, interval_note, no_verdict, p_text
from nat.results import read
from nat.runs.results import by_key
from nat.statistics import wilson_interval

WIDTH = 110  # columns of the terminal's prose
SHOWN_MISSING = 8  # lines in the terminal; report.md has all
NO_RUN = "No finished run with roll-outs yet."


def write(directory: Path, config: ReportConfig | None = None) -> str:
    """Write the report of all runs below a directory, or of a per-question results file; returns text for the terminal.

    The report of a file goes into a directory beside it, `NAME_report`. Without a config the values of
    conf/report/standard.yaml hold.

    Raises RequestError where there is no such directory, no run in it, or a wrong line in a per-question file.
    """
    config = standard() if config is None else config
    comparison = compare(directory, config)
    place = directory
    if directory.is_file():
        place = directory.with_name(f"{directory.stem}_report")
        place.mkdir(exist_ok=True)
    written = ["report.md"]
    drawn: Mapping[str, tuple[Path, Path]] = {}
    if comparison.runs:
        drawn = pictures.draw(comparison, place)
        write_text(place / "results.csv", as_csv(map(_run_row, comparison.runs)))
        write_text(place / "arms.csv", as_csv(_arm_row(comparison, arm) for arm in comparison.arms))
        write_text(place / "report.html", report_page.page(comparison, drawn, config.browser_questions))
        written += ["report.html", "results.csv", "arms.csv", *(f"{files[0].stem}.png/svg" for files in drawn.values())]
    write_text(place / "report.md", markdown(comparison, {name: files[1].name for name, files in drawn.items()}))
    return terminal(comparison, f"written to {place}: {', '.join(written)}")


def standard() -> ReportConfig:
    """The values of conf/report/standard.yaml."""
    import json

    import yaml
    from pydantic import TypeAdapter

    from nat.core.paths import CONF_DIR

    values = yaml.safe_load((CONF_DIR / "report" / "standard.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(ReportConfig).validate_json(json.dumps(values), strict=True)


def compare(directory: Path, config: ReportConfig) -> Comparison:
    """Read, group into arms, compare, conclude. Raises RequestError as `write` does."""
    external = [config.external] if isinstance(config.external, str) else config.external or []
    found = read(directory, [Path(path) for path in external])
    arms = arms_of(found.runs)
    split = split_of(arms)
    pairs, refused = _pairs(arms, [reference_of(arm, arms) for arm in arms], split)
    text_pairs, text_refused = _pairs(arms, [unmarked_of(arm, arms) for arm in arms], split)
    contrasts = contrasts_of(pairs, config.smallest_effect)
    text_contrasts = contrasts_of(text_pairs, config.smallest_effect)
    findings = findings_of(arms, text_contrasts, split, config)
    remarks = [*refused, *text_refused, *_left_out([*pairs, *text_pairs])]
    missing = tuple(without_paths(line) for line in found.missing)
    return Comparison(
        title=directory.resolve().stem if directory.is_file() else directory.resolve().name,
        arms=arms,
        contrasts=contrasts,
        findings=findings,
        caveats=caveats_of(arms, found.runs, findings, split, remarks, found.planned, missing, found.notes),
        missing=missing,
        runs=found.runs,
        text_contrasts=text_contrasts,
        split=split,
        environments=elsewhere.environments_of(arms, split, config.smallest_effect),
    )


def _pairs(arms: Sequence[Arm], references: Sequence[Arm | None], split: str) -> tuple[list[Pair], list[str]]:
    """Arms beside their references, and why some cannot be compared."""
    pairs, refused = [], []
    for arm, reference in zip(arms, references, strict=True):
        if reference is None:
            continue
        pair = paired(arm, reference, split)
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            refused.append(f"{arm.label} is not compared with {reference.label}: {pair}.")
    return pairs, refused


def _left_out(pairs: Sequence[Pair]) -> Iterator[str]:
    some = [pair for pair in pairs if pair.left_out]
    if some:
        most = max(pair.left_out for pair in some)
        yield (
            f"{len(some)} of {len(pairs)} comparisons are on the questions that both sides answered; "
            f"up to {most} questions are left out of one."
        )


def without_paths(text: str) -> str:
    """Absolute paths cut down to their last part: where a run lay tells a reader nothing and differs by machine."""
    return re.sub(r"(?<![\w.~:/-])/(?:[^\s/'\",:;()]+/)+", "", text)


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


def _run_row(run: RunResult) -> dict[str, Any]:
    """All scalars of a run, those of some mappings with their key before them."""
    row: dict[str, Any] = {"run": run.name, "method": run.method, "strategy": run.strategy}
    row |= {"positives": run.positives, "negatives": run.negatives, "seed": run.seed, **run.setting}
    elsewhere = {f"in_{name}": answers for name, answers in run.answers_in.items()}
    for split, answers in (*run.answers.items(), *elsewhere.items()):
        n = len(answers)
        row[f"{split}_success"] = round(sum(answer.success for answer in answers.values()) / n, 6)
        row[f"{split}_score"] = round(sum(answer.score for answer in answers.values()) / n, 6)
        row[f"{split}_questions"] = n
    if run.directory is None:
        return row
    results = run.results
    known = {"status": results.status, **_known(cell=results.cell), **by_key(results)}
    known |= {"git": None} if results.git is None else {}  # made outside a repository
    known |= _known(threads=results.threads, seconds=results.seconds)
    for key, value in known.items():
        if isinstance(value, Mapping) and key in ("failures", "training", "timing"):
            row |= {f"{key}.{name}": number for name, number in value.items()}
        elif _is_scalar(value) and key not in row:
            row[key] = value
    return row


def _known(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _arm_row(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm.label, "method": arm.method, "strategy": arm.strategy}
    row |= {"positives": arm.positives, "negatives": arm.negatives, **arm.setting}
    row |= {"n_seeds": len(arm.runs), "seeds": " ".join(str(run.seed) for run in arm.runs)}
    for split in dict.fromkeys((comparison.split, "validation")):
        row |= {f"{split}_success": mean_success(arm, split), f"{split}_score": mean_score(arm, split)}
    for contrasts, prefix in ((comparison.contrasts, "difference"), (comparison.text_contrasts, "text_difference")):
        for contrast in contrasts:
            if contrast.treatment is arm:
                row |= _contrast_row(contrast, prefix)
    if comparison.environments is not None:
        row |= _environments_row(comparison.environments, arm)
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def _environments_row(environments: Environments, arm: Arm) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for shown in environments.arms:
        if shown.label == arm.label:
            for split in environments.splits[1:]:
                row |= {f"{split}_success": mean_success(shown, split), f"{split}_score": mean_score(shown, split)}
            mean = elsewhere.mean_over(shown, environments.splits)
            row |= {"environments_success": mean, "environments_seeds": len(shown.runs)}
    contrast = elsewhere.contrast_of(environments, arm)
    return row | (_contrast_row(contrast, "environments_difference") if contrast else {})


def _contrast_row(contrast: Contrast, prefix: str) -> dict[str, Any]:
    difference = contrast.difference
    return {
        prefix: difference.difference,
        f"{prefix}_low": difference.ci95[0],
        f"{prefix}_high": difference.ci95[1],
        f"{prefix}_adjusted_low": contrast.adjusted_ci[0],
        f"{prefix}_adjusted_high": contrast.adjusted_ci[1],
        f"{prefix}_p": difference.p_value,
        f"{prefix}_p_holm": contrast.p_holm,
        f"{prefix}_reference": contrast.reference.label,
        f"{prefix}_questions": difference.n_questions,
        f"{prefix}_seeds": difference.n_seeds,
        f"{prefix}_question_se": difference.question_se,
        f"{prefix}_seed_se": difference.seed_se,
    }


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table whose columns some rows lack; they are empty there."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# ---- report.md ----


def markdown(comparison: Comparison, drawn: Mapping[str, str]) -> str:
    """The whole report; `drawn` maps a picture's name to its file, beside the report."""
    lines = [f"# {_safe(comparison.title)}", ""]
    if not comparison.runs:
        lines += [NO_RUN, ""]
    elif not comparison.findings:
        lines += [no_verdict(comparison.arms), ""]
    for finding in comparison.findings:
        lines += [f"**{finding.question}** {_safe(finding.answer)}", ""]
    if comparison.caveats:
        lines += ["## Before you believe it", "", *(f"- {_safe(line)}" for line in comparison.caveats), ""]
    first = [name for name in ("negatives", "strategies", "methods") if name in drawn][:1]
    lines += [_picture(name, drawn) for name in first] + ([""] if first else [])
    if comparison.arms:
        header, rows = columns(comparison)
        lines += ["## Arms", "", *markdown_table(header, rows), "", *(f"- {line}" for line in legend(comparison)), ""]
    if comparison.environments is not None:
        header, rows = environment_columns(comparison.environments)
        notes = [f"- {_safe(line)}" for line in environment_legend(comparison.environments)]
        lines += [f"## {IN_EACH}", "", *markdown_table(header, rows), "", *notes, ""]
    single = [arm for arm in comparison.arms if len(arm.runs) == 1]
    if any(arm.method != "base" for arm in single):  # the untrained base needs no second seed
        header, rows = _run_table(single, comparison.split)
        lines += ["## Runs of arms with one seed", "", *markdown_table(header, rows), ""]
    if comparison.findings:
        header, rows = _evidence(comparison)
        lines += ["## Evidence of the verdict", "", *markdown_table(header, rows), "", *EVIDENCE, ""]
        contrasts = [each for finding in comparison.findings for each in (finding.evidence, *finding.also)]
        if notes := [f"- {_safe(note)}" for each in contrasts if each is not None and (note := interval_note(each))]:
            lines += [*notes, ""]
    if comparison.arms and (table := _failures(comparison)):
        lines += ["## How episodes ended", "", *markdown_table(*table), ""]
    if rest := [name for name in drawn if name not in first]:
        lines += ["## Pictures", "", *(_picture(name, drawn) for name in rest), ""]
    if comparison.missing:
        lines += ["## Missing", "", *(f"- {_safe(line)}" for line in comparison.missing), ""]
    return "\n".join(lines)


IN_EACH = "In each environment"
EVIDENCE = [
    "Interval of the family: simultaneous for the verdicts above, or for those elsewhere (Bonferroni). Standard errors",
    "(s.e.): due to questions, and due to training seeds; each holds the noise of single answers too.",
]


def _picture(name: str, drawn: Mapping[str, str]) -> str:
    return f"![{name}]({drawn[name]})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(_safe(cell).replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def _safe(text: str) -> str:
    """Text whose names are no Markdown: on one line, no HTML, links or pictures; intervals keep their brackets."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    text = re.sub(r"<(?=[^\s\d])|\[(?![-+]?\d)", r"\\\g<0>", text)
    return text.replace("](", "]\\(")


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
    elif not comparison.findings:
        lines += [no_verdict(comparison.arms), ""]
    for finding in comparison.findings:
        lines += [*textwrap.wrap(f"{finding.question} {finding.answer}", WIDTH, subsequent_indent="  "), ""]
    if comparison.caveats:
        lines += ["Before you believe it:", *_wrapped(comparison.caveats), ""]
    if comparison.arms:
        header, rows = columns(comparison)
        lines += [*aligned(header, rows), *_wrapped(legend(comparison)), ""]
    if comparison.environments is not None:
        header, rows = environment_columns(comparison.environments)
        lines += [f"{IN_EACH}:", *aligned(header, rows), *_wrapped(environment_legend(comparison.environments)), ""]
    if comparison.missing:
        lines += ["Missing:", *_wrapped(comparison.missing[:SHOWN_MISSING])]
        more = len(comparison.missing) - SHOWN_MISSING
        lines += [f"  ... and {more} more (report.md)", ""] if more > 0 else [""]
    return "\n".join([*lines, written])


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A plain-text table: words to the left, numbers to the right."""
    header, rows = ([" ".join(cell.split()) for cell in header], [[" ".join(c.split()) for c in row] for row in rows])
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    numeric = [all(row[column][:1] in "+-.<0123456789[" for row in rows) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
