"""What a run decided before a model is loaded: `Prepared`, its manifest, and both in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nat.config.tree import Config
from nat.environments.worlds import worlds
from nat.examples.mixing import per_source
from nat.examples.prompts import Prompt, TrajectoryPrompt
from nat.examples.tokenization import ChatFormat, class_token_counts
from nat.quality.rules import Controlled
from nat.stages.examples import Examples
from nat.stages.questions import Elsewhere, SetApart
from nat.trajectories.foreign import foreign
from nat.trajectories.label_files import in_words
from nat.types import Environment, Example, Trajectory

LOOKED_AT = 200  # trajectories whose tools are compared with the environment's


@dataclass(frozen=True)
class Prepared:
    """Everything that a run decides before a model is loaded."""

    environment: Environment
    elsewhere: Mapping[str, Elsewhere]  # further environments to ask in, by their names in `also_in`
    apart: SetApart
    prompt: Prompt  # of a question
    trajectory_prompt: TrajectoryPrompt
    format: ChatFormat
    made: Examples | None  # None where nothing is trained
    manifest: dict[str, Any]
    unseen: Mapping[str, list[Trajectory]]  # to measure the loss of; empty lists for none

    @property
    def examples(self) -> list[Example]:
        return self.made.chosen if self.made else []


def counts(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    positives = sum(trajectory.outcome.success for trajectory in trajectories)
    return {"positives": positives, "negatives": len(trajectories) - positives}


def make_manifest(
    made: Examples, controlled: Controlled, held_out: Sequence[Trajectory], source: str | Sequence[str]
) -> dict[str, Any]:
    """What was selected, from where (`source`), what was not and why; the four counts add up to what was read."""
    mixed, dropped = made.mixed, made.dropped
    success = {trajectory.id: trajectory.outcome.success for trajectory in controlled.kept}
    reasons = sorted({drop.reason for drop in dropped})
    by_rule = {rule: {"positives": p, "negatives": n} for rule, (p, n) in controlled.counts.items()}
    by_quality = [{"trajectory_id": d.id, "reason": d.rule, "detail": d.detail} for d in controlled.dropped]
    return {
        "hash": mixed.hash,
        "trajectories": source,
        "selected": counts(list({t.id: t for t in mixed.selected}.values())),
        "repeats": len(mixed.selected) - len({t.id for t in mixed.selected}),  # with mixing.oversample
        "unused": counts(mixed.unused),
        "held_out": counts(held_out),
        "dropped": by_rule
        | {
            reason: {
                "positives": sum(success[d.trajectory_id] for d in dropped if d.reason == reason),
                "negatives": sum(not success[d.trajectory_id] for d in dropped if d.reason == reason),
            }
            for reason in reasons
        },
        "per_source": per_source(mixed.selected),
        "trained_tokens": class_token_counts(made.chosen),
        "preambles_replaced": sum("preamble_messages" in trajectory.metadata for trajectory in mixed.selected),
        "positives": [trajectory.id for trajectory in mixed.positives],
        "negatives": [trajectory.id for trajectory in mixed.negatives],
        "dropped_trajectories": by_quality + [drop._asdict() for drop in dropped],
    }


def listed(name: str, rows: Sequence[Any]) -> dict[str, list[dict[str, str]]]:
    """Rows of files that are left out, for the manifest; nothing where there are none."""
    return {name: [row._asdict() for row in rows]} if rows else {}


def describe(config: Config, prepared: Prepared) -> Iterator[str]:
    """What was chosen, for the terminal."""
    held_out = config.environment.questions == "held_out"
    origin = "held out of the trajectory files" if held_out else f"of {config.environment.name}"
    if prepared.environment.protocol == "own":
        n = sum(map(len, prepared.unseen.values()))
        yield f"environment   own: prompts and tools as in the files; nothing is played, the loss of {n} held-out"
        yield "              trajectories is measured under the text of each class"
        if not n and config.evaluation.n_class_losses:
            yield "warning: of so few tasks none is held out; raise environment.held_out to have some to measure"
    else:
        yield f"questions     {len(prepared.apart.questions)} {config.evaluation.split} questions {origin}"
    name = config.environment.name
    of_the_world = prepared.made and all(t.question_id.startswith(f"{name}-") for t in prepared.made.mixed.selected)
    if not config.generates and worlds.is_world(config.environment) and not of_the_world:
        yield f"warning: trained on your files, evaluated in the built-in {name} world (environment={name});"
        yield "         environment=gsm8k evaluates on questions held out of the files"
    if len(prepared.apart.questions) < config.evaluation.n_questions and config.evaluation.kind != "none":
        yield f"              (evaluation.n_questions={config.evaluation.n_questions}: there are no more)"
    manifest = prepared.manifest
    for what in ("questions", "documents"):
        for reason, number in Counter(row["reason"] for row in manifest.get(f"{what}_left_out", ())).items():
            yield f"              {number} rows of the files are no {what}: {reason} (listed in manifest.json)"
    for reason, number in sorted(Counter(row["reason"] for row in manifest.get("bad_rows", ())).items()):
        yield f"left out      {number} rows of the files: {reason} (listed in manifest.json)"
    if "labels" in manifest:
        yield f"labels        {in_words(manifest['labels'])}"
    if prepared.environment.protocol != "react" and any("Action" in class_.text for class_ in config.strategy.classes):
        is_own = prepared.environment.protocol == "own"
        who = "your agent may take none" if is_own else f"agent={config.agent.name} takes none"
        yield f"warning: strategy={config.strategy.name} tells of Action steps; {who}."
        yield "         strategy=prefix_correct marks the classes without a word about them"
    if prepared.made is None:
        return
    if prepared.environment.protocol == "react" and not config.generates:
        tools = [tool.name for tool in prepared.environment.tools]
        found = foreign(prepared.made.mixed.selected[:LOOKED_AT], tools)
        if found.with_tools:
            shown = ", ".join(found.tools[:5]) + (", ..." if len(found.tools) > 5 else "")
            yield f"warning: {found.with_tools} of the first {found.sampled} trajectories use tools that environment="
            yield f"         {name} has not ({shown}); environment=own keeps their own prompts and tools"
    selected, unused, held_out = (manifest[key] for key in ("selected", "unused", "held_out"))
    yield f"selected      {_counts_text(selected)}; unused {_counts_text(unused)}"
    if any(held_out.values()):
        yield f"held out      {_counts_text(held_out)}, on questions kept for evaluation"
    for reason, number in manifest["dropped"].items():
        yield f"dropped       {_counts_text(number)}: {reason} (listed in manifest.json)"
    tokens = ", ".join(f"{name} {count}" for name, count in manifest["trained_tokens"].items())
    yield f"trained tokens  {tokens}; manifest {manifest['hash']}"
    for leak in manifest.get("leaks", ()):
        yield f"warning: {leak}"


def _counts_text(number: Mapping[str, int]) -> str:
    return f"{number['positives']} positives, {number['negatives']} negatives"
