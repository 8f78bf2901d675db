"""`nat collect`: a policy plays episodes, the environment scores them, a file of trajectories grows.

    questions x temperatures x samples = episodes, each with an id that says which it is:
    gsm8k-17/qwen3-t0.7-s0 is sample 0 of question gsm8k-17 at temperature 0.7, by the policy called qwen3

The file says what is done: an episode whose id is in it is never played again, so the same command goes on wherever an
earlier one was killed. One that broke for reasons that are not the policy's is kept in a file of its own and played
again: what one may train on holds no failure that was not the policy's. One that the server's content filter ended
would end so each time; it is kept in another file, and left alone while it stands there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from nat.agents.actions import AgentConfig
from nat.collection import file as collection_file
from nat.collection import openai_policy, policies
from nat.collection.config import (
    CollectConfig,
    ModelCollecting,
    PromptedCollecting,
    ScriptedCollecting,
    ServerCollecting,
)
from nat.collection.episodes import REFUSED, Episode, Facts, as_trajectory, plan
from nat.collection.file import CollectionFile
from nat.collection.settings import settings
from nat.collection.summary import summary
from nat.config.tree import Config, check_search
from nat.core.progress import progress
from nat.core.rows.bad import DroppedRow
from nat.environments.config import EnvironmentConfig
from nat.environments.own import OwnConfig
from nat.examples.prompts import prompt_messages
from nat.examples.strategy import StrategyClass, StrategyConfig
from nat.model import ModelConfig
from nat.stages.environment import make_environment
from nat.stages.questions import questions_of
from nat.sweeps import cells, composition
from nat.trajectories import reading as files
from nat.trajectories.config import TrajectoriesConfig, files_of
from nat.types import Environment, Message, Question, RequestError, Rollout, StageError
from nat.verbs.request import configured, named, parse, show

BROKEN_IN_A_ROW = 3  # episodes, or as many as run at once: then the endpoint is down and the rest would break too


HELP = (
    "usage: nat collect [MODEL_DIR] [overrides]   plays questions x temperatures x samples, each episode appended\n"
    "to a file of trajectories; killed and started again, it goes on. The file trains as trajectories=jsonl.\n"
    "  nat collect environment=multihop collect.n_questions=50\n"
    "  nat collect outputs/runs/NAME/model              a model that nat trained, asked as it was trained to be\n"
    "  nat collect collect=model model=hub model.path=OWNER/NAME\n"
    "  nat collect environment=hotpotqa environment.questions=FILE search=bm25 search.path=CORPUS.jsonl \\\n"
    "    collect=openai collect.endpoint.model=NAME collect.endpoint.base_url=http://localhost:8000/v1\n"
    "collect can be scripted, model, openai; conf/collect/ has their keys (temperatures, samples, output, ...)"
)


def main(argv: Sequence[str]) -> int:
    has_model = bool(argv) and not argv[0].startswith("-") and ("=" not in argv[0] or Path(argv[0]).exists())
    request = parse(argv[1:] if has_model else argv)
    if request.asks_for_help:
        print(HELP)
        return 0
    if request.multirun:
        raise RequestError("nat collect fills one file; leave -m out, and name several values in collect.temperatures.")
    overrides = arguments(argv[0] if has_model else None, request.overrides, request.config_dir)
    if request.only_shows:
        return show([*request.flags, *overrides])
    found = collect(asked_of(overrides), lambda line: print(line, flush=True))
    return 1 if found.n_broken else 0


def arguments(model: str | None, overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """The overrides of a collection, with a saved model's own where one is given."""
    if model is None:
        return ["training=none", *composition.searchpath(config_dir), *overrides]
    given = named(overrides)
    # In its own environment, asked as it was trained to be; a policy that is scripted is asked nothing.
    as_trained = ["collect.as_class=inference"] if "collect=scripted" not in overrides else []
    own = [o for o in ("collect=model", *as_trained) if o.partition("=")[0] not in given]
    return cells.evaluation_arguments(Path(model), [*own, *overrides], config_dir, "collect")


def asked_of(overrides: Sequence[str]) -> Config:
    """The checked configuration; here episodes are played, whatever `evaluation` says."""
    config = configured(overrides, None)
    if isinstance(config.environment, OwnConfig):
        raise RequestError(
            "nat collect: environment=own plays nothing, since your agent's tools are not here; name an environment to "
            "play in."
        )
    check_search(config.search, [config.environment], config.agent, plays=True)
    return config


@dataclass(frozen=True)
class Collected:
    """What a collection came to. Episodes that broke are played again by the same command, refused ones are not."""

    path: Path
    n_new: int  # episodes appended now
    n_broken: int  # for reasons that are not the policy's
    n_refused: int  # by the server's content filter
    episodes: tuple[Facts, ...]  # all planned ones that are in the file


def collect(config: Config, say: Callable[[str], None]) -> Collected:
    """Play what is missing of the planned episodes and append it to `collect.output`.

    Raises:
        RequestError: the configuration or the file cannot be used, the server refuses the key or the model.
        StageError: episode after episode broke, the endpoint being down.
    """
    left_out: list[DroppedRow] = []
    asked, world = config.collect, config.environment
    environment = make_environment(world, config.agent, config.search, left_out)
    prompt = prompt_maker(asked, environment, config.agent, config.strategy, getattr(world, "few_shot", None))
    episodes = plan(asked, questions_to_ask(asked, world, environment, config.trajectories, left_out), world.questions)
    play = policy(asked, world, environment, prompt, config.model, config.training.device, config.seed)
    setting = settings(asked, world, environment, config.search, config.model, prompt)
    output = Path(asked.output)
    with collection_file.opened(output, setting, episodes, say) as file:
        there = sum(episode.id in file.known for episode in episodes)
        n_asked = len({episode.question.id for episode in episodes})
        who = f"{n_asked} questions of {environment.name} by {asked.name}"
        say(f"collecting    {len(episodes)} episodes on {who}")
        source = world.questions
        if source not in (None, "held_out"):
            which = "all " if asked.n_questions is None and not asked.skip_questions else ""
            no_splits = "(it has no splits; collect.split chooses nothing)"
            say(f"              {which}{n_asked} questions of {source} {no_splits}")
        collection_file.list_left_out(output, left_out, say)
        if there:
            say(f"              {there} of them are in {output} already")
        try:
            broken = _play_all(asked, play, episodes, file)
        except RequestError as error:
            raise RequestError(f"{error}\n{_safe(file, episodes)}") from None
        except StageError as error:
            raise StageError(f"{error}\n{_safe(file, episodes)}") from None
        found = [file.known[episode.id] for episode in episodes if episode.id in file.known]
        for line in summary(found):
            say(line)
        refused = sum(episode.id in file.refused for episode in episodes)
        if refused:
            say(f"refused       {refused} by the server's content filter; remove {file.refused_path} to ask them again")
        say(f"written to    {output} ({len(found) - there} episodes now)")
        if broken:
            say(
                f"warning: {broken} episodes broke (infrastructure), see {file.broken_path}; run the same command again"
            )
    return Collected(output, len(found) - there, broken, refused, tuple(found))


def _play_all(asked: CollectConfig, play: Any, episodes: Sequence[Episode], file: CollectionFile) -> int:
    """Play and append what is missing; returns how many broke. Raises StageError where one after another does."""
    missing = [episode for episode in episodes if episode.id not in file.known and episode.id not in file.refused]
    there = len(episodes) - len(missing)
    # Refused connections break all episodes that run at once, one reason or not; then a row of them says enough.
    at_once = asked.turns.at_once if isinstance(asked, PromptedCollecting) else 1
    limit = max(BROKEN_IN_A_ROW, min(at_once, len(missing)))
    so_far = Counter(file.known[e.id].success for e in episodes if e.id in file.known)
    tokens = broken = in_a_row = played = 0
    start = time.monotonic()
    with progress(len(episodes), "collecting", "episodes", there) as advance:

        def done(episode: Episode, rollout: Rollout, details: Mapping[str, Any]) -> None:
            nonlocal tokens, broken, in_a_row, played
            trajectory = as_trajectory(asked, file.settings_hash, episode, rollout, details)
            if details.get(REFUSED):
                file.append_refused(trajectory)
            elif rollout.outcome.failure == "infrastructure":
                file.append_broken(trajectory)
                broken, in_a_row = broken + 1, in_a_row + 1
                if in_a_row >= limit:
                    reason = rollout.outcome.prediction
                    raise StageError(f"{in_a_row} episodes in a row broke (infrastructure), the last one by: {reason}")
            else:
                file.append(trajectory)
                in_a_row = 0
                so_far[rollout.outcome.success] += 1
            played += 1
            tokens += details.get("tokens") or 0
            rate = played / max(time.monotonic() - start, 1e-9)
            share = so_far[True] / max(so_far.total(), 1)
            pace = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
            advance(there + played, f"{pace}/s, success {share:.2f}" + (f", {tokens:,} tokens" if tokens else ""))

        if missing:
            play(missing, done)
    return broken


def _safe(file: CollectionFile, episodes: Sequence[Episode]) -> str:
    there = sum(episode.id in file.known for episode in episodes)
    if not there:
        return f"Nothing was collected into {file.path} so far."
    return f"{there} of {len(episodes)} episodes are safe in {file.path}; the same command goes on from there."


# ---- what is to be played ----


def questions_to_ask(
    asked: CollectConfig,
    world: EnvironmentConfig,
    environment: Environment,
    trajectories: TrajectoriesConfig,
    left_out: list[DroppedRow],
) -> list[Question]:
    """The `n_questions` of `split` after the first `skip_questions`; of a file, which has no splits, of all it holds.

    Rows of files that cannot be used are added to `left_out` (on_bad_row=drop; else an error). Raises
    RequestError where there are none, and in a world without end when all are asked for.
    """
    source, end = world.questions, None if asked.n_questions is None else asked.skip_questions + asked.n_questions
    if source is None and end is None:
        raise RequestError(
            f"collect.n_questions=null: environment={environment.name} makes questions without end; give a number."
        )
    pool = list(files.read(files_of(trajectories), left_out)) if source == "held_out" else []
    found, dropped = questions_of(world, environment, asked.split, end or 0, pool)
    left_out += dropped
    chosen = list(islice(found, asked.skip_questions, end))
    if not chosen:
        raise RequestError(
            f"collect.skip_questions={asked.skip_questions}: environment.questions={source} has {len(found)} questions "
            f"of {asked.split}; none is left to ask."
        )
    return chosen


def prompt_maker(
    asked: CollectConfig, environment: Environment, agent: AgentConfig, strategy: StrategyConfig, examples: str | None
) -> Callable[[str], tuple[Message, ...]]:
    """From a question's text to everything before the first turn: instructions, solved examples, question, condition.

    No condition text unless `collect.as_class` asks for it.

    Args:
        examples: those that the environment brings along, for `collect.few_shot=environment`.
    """
    prompted = isinstance(asked, PromptedCollecting)
    few_shot, wanted = (asked.few_shot, asked.as_class) if prompted else (None, None)
    if few_shot == "environment":
        few_shot = examples
    if wanted is None:
        class_ = StrategyClass(name="none", text="")
    else:
        class_ = strategy.class_named(strategy.infer_as if wanted == "inference" else wanted)
    instructions = environment.instructions if not few_shot else f"{environment.instructions}\n\n{few_shot.strip()}\n"
    return lambda question: prompt_messages(agent.system, instructions, question, strategy, class_)


def policy(
    asked: CollectConfig,
    world: EnvironmentConfig,
    environment: Environment,
    prompt: Callable[[str], tuple[Message, ...]],
    model: ModelConfig,
    device: Literal["auto", "cpu", "cuda"],
    seed: int,
) -> Callable[[Sequence[Episode], Callable[[Episode, Rollout, Mapping[str, Any]], None]], None]:
    """A function (episodes, done) that plays the episodes and calls `done(episode, rollout, details)` as each ends.

    Raises RequestError where the configuration cannot be played; no model is loaded before there is something to play.
    """
    match asked:
        case ServerCollecting():
            return openai_policy.policy(asked, environment, prompt)
        case ModelCollecting():
            return partial(policies.play_model, asked, model, device, seed, environment, prompt)
        case ScriptedCollecting():
            played = policies.check_scripted(world, environment)
            return partial(policies.play_scripted, asked.seed, played, environment)
