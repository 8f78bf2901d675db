"""Where a run's numbers go: `metrics.jsonl` always, W&B as configured. Tracking never fails a run.

One line of `metrics.jsonl` is one logged step; what is no number (a diverged loss) is null:

    {"step": 10, "loss": 0.412, "loss/correct": 0.398, "loss/incorrect": 0.431, "learning_rate": 0.001, "tokens": 17210}

In W&B the same numbers are plotted over `training_step`, a number in each row, and not over W&B's own step counter.
That counter only ever grows, and a run that is resumed from a checkpoint or started from the beginning again logs some
steps a second time under the same id. Seen with wandb 0.31.0 against a stand-in server: with `log(step=...)` an online
run ignores every row up to the last step that the server has, one printed warning a row; offline, each process writes
an `offline-run-*` directory of its own, `wandb sync` sends those of one id oldest first into one run, and gives rows
whose step was used before the next free numbers (30, 40, 50 became 51, 52, 53). Rows with a step of their own are all
kept in both cases, and what was logged twice lies on the same place of the axis.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass as plain_dataclass
from dataclasses import field as _field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from nat.core.files import write_text
from nat.core.schema import STRICT
from nat.runs.results import Results, by_key
from nat.types import Failure

METRICS_FILE = "metrics.jsonl"
STEP = "training_step"  # the x axis of what a training logs
START_SECONDS = 30  # for W&B to answer when a run starts; wandb's own default is 90
FINISH_SECONDS = 60  # for the last of a run's data to be sent; wandb's own default is without end
SUMMARIES = {
    "loss": "min,last",
    "token_accuracy": "max,last",
}  # of a metric, overall and per class; else the last value


@dataclass(frozen=True, config=STRICT, kw_only=True)
class NoTracking:
    """metrics.jsonl alone."""

    kind: Literal["none"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class WandbTracking:
    """Values and their meaning: conf/tracking/wandb.yaml."""

    kind: Literal["wandb"]
    mode: Literal["auto", "online", "offline", "disabled"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    rollouts: int


TrackingConfig: TypeAlias = Annotated[NoTracking | WandbTracking, Field(discriminator="kind")]


@plain_dataclass
class Tracker:
    """What `track` yields. Its methods warn, once each, where W&B fails, and never raise."""

    metrics_path: Path
    run: Any = None  # a W&B run, or None
    warn: Callable[[str], None] = lambda text: print(f"warning: {text}", file=sys.stderr)
    _warned: set[str] = _field(default_factory=set)
    _defined: set[str] = _field(default_factory=set)  # metrics whose axis and summary W&B has been told

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One logged step."""
        numbers = {name: value for name, value in metrics.items() if name != "step"}
        line = json.dumps({"step": step, **{name: _finite(value) for name, value in numbers.items()}})
        self._try("metrics.jsonl", lambda: _append(self.metrics_path, line))

        def log(run: Any) -> None:
            for name in numbers.keys() - self._defined:
                # One by one: of two patterns that fit a name, W&B would take either.
                run.define_metric(name, step_metric=STEP, summary=SUMMARIES.get(name.partition("/")[0]))
                self._defined.add(name)
            run.log({STEP: step, **numbers})

        self._with_run("log", log)

    def summary(self, results: Results) -> None:
        """The run's results: what a table of runs shows. Nested mappings are W&B's `outer.inner`.

        Numbers are logged as well as summarised: W&B offers a bar chart the names that a run has logged.
        """

        def summarise(run: Any) -> None:
            values = summary_of(results)
            run.log(_numbers(values))
            run.summary.update(values)

        self._with_run("summary", summarise)

    def rollouts(self, rows: Sequence[Mapping[str, Any]], limit: int | None = None) -> None:
        """A table of roll-outs, one row each; the first row's keys are the columns."""
        if not rows:
            return

        def log_table(run: Any) -> None:
            import wandb

            columns: list[Any] = list(rows[0])
            data: list[Any] = [[_cell(row.get(column)) for column in columns] for row in rows[:limit]]
            run.log({"rollouts": wandb.Table(columns=columns, data=data)})

        self._with_run("rollouts", log_table)

    def artifact(self, path: Path, kind: str) -> None:
        """A file of the run (its manifest), kept with the run under the file's name."""

        def log_artifact(run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(name=f"{path.stem}-{run.id}", type=kind)
            artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._with_run("artifact", log_artifact)

    def rewind(self, step: int) -> None:
        """Forget the lines after `step`: a resumed training logs these steps again, a fresh one all of them."""

        def keep() -> None:
            if not self.metrics_path.exists():
                return
            kept = []
            for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except (ValueError, KeyError):
                    break  # cut off when the earlier process was killed
            write_text(self.metrics_path, "".join(kept))

        self._try("metrics.jsonl", keep)

    def finish(self, exit_code: int) -> None:
        """Send what is left, for `FINISH_SECONDS` at most; what was not sent stays on the disk for `wandb sync`."""
        run = self.run
        if run is not None and not self._try("W&B finish", lambda: run.finish(exit_code=exit_code)):
            _unreachable.add(_server())
            _stop_wandb()
        self.run = None

    def _with_run(self, what: str, use: Callable[[Any], Any]) -> None:
        run = self.run
        if run is not None:
            self._try(f"W&B {what}", lambda: use(run))

    def _try(self, what: str, action: Callable[[], Any]) -> bool:
        try:
            action()
        except Exception as error:  # whatever a tracker raises, the run goes on
            if what.startswith("W&B") and _is_gone(error):
                self.run = None
                _stop_wandb()
            if what not in self._warned:
                self._warned.add(what)
                self.warn(f"tracking: {what} failed ({_one_line(error)}); the run goes on")
            return False
        return True


def summary_of(results: Results) -> dict[str, Any]:
    """What W&B shows of a run: `nat.runs.results.by_key` without the last metrics of the training, which were logged.

    Every kind of failure gets its number, 0 too: W&B's mean over runs leaves out a run without a value.
    """
    values = {key: value for key, value in by_key(results).items() if key != "training"}
    if results.inference is not None:
        values["failures"] = {**dict.fromkeys(get_args(Failure), 0), **(results.inference.failures or {})}
    return values


@contextmanager
def track(
    config: TrackingConfig,
    run_dir: Path,
    resolved_config: Mapping[str, Any],
    *,
    group: str | None,
    job_type: str,
    name: str,
    tags: Sequence[str] = (),
    negatives_per_positive: float | None = None,
    selected: Mapping[str, int] | None = None,
    run_id: str | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Iterator[Tracker]:
    """Track one run. An exception inside marks the W&B run failed and goes on its way.

    Args:
        resolved_config: logged under `nat`, apart from what libraries write into a run's config.
        group: the sweep; `tracking.group` wins.
        job_type: the method; logged as `nat.method` too.
        negatives_per_positive: the ratio as a number, to plot against; logged as `nat.mixing.negatives_per_positive`.
        selected: how many `positives` and `negatives` really were chosen; logged under `nat.selected`.
        run_id: a stable id (see `tracking_id`), so that a resumed run goes on in its W&B run; None: a new run.
        say: takes the line that says where the W&B run is.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(run_dir / METRICS_FILE)
    if isinstance(config, WandbTracking) and config.mode != "disabled":
        settings = {**_nested(resolved_config), "method": job_type}
        if selected is not None:
            settings["selected"] = dict(selected)
        if negatives_per_positive is not None:
            settings.setdefault("mixing", {})["negatives_per_positive"] = float(negatives_per_positive)

        def init() -> None:
            of_group = config.group or group
            tracker.run = _init_wandb(
                config, run_dir, settings, of_group, job_type, name, tags, run_id, tracker.warn, say
            )

        tracker._try("W&B init", init)
    try:
        yield tracker
    except BaseException:
        tracker.finish(exit_code=1)
        raise
    tracker.finish(exit_code=0)


def tracking_id(cell: str, group: str | None) -> str:
    """The id of a cell's W&B run: the cell's hash and, where there is a group, eight digits of the group's.

    The same cell in the same sweep is the same W&B run, however often it is resumed or started again. The group belongs
    to it because ids are unique in a whole W&B project: two sweeps that share a cell (the baseline, as a rule) would
    otherwise share a run, and the later sweep would take it out of the earlier one's group. For a run outside a sweep
    give what makes it a run of its own, e.g. its directory's name.

    W&B never gives the id of a deleted run to another: a sweep whose runs were deleted there needs another
    `sweep.name` or `tracking.group`, and has another id by that.
    """
    return cell if group is None else f"{cell}-{hashlib.sha256(group.encode()).hexdigest()[:8]}"


_unreachable: set[str] = set()  # servers that did not answer this process: its later cells do not wait for them again


def _init_wandb(
    config: WandbTracking,
    run_dir: Path,
    settings: Mapping[str, Any],
    group: str | None,
    job_type: str,
    name: str,
    tags: Sequence[str],
    run_id: str | None,
    warn: Callable[[str], None],
    say: Callable[[str], None],
) -> Any:
    """Start the W&B run; offline, with one warning, where the server does not take it."""
    mode = wandb_mode(config.mode)
    if mode == "disabled":
        return None
    import wandb

    # W&B prints through its own logger and terminal writer; one line of ours says where the run is.
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    quiet = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        init_timeout=START_SECONDS,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
    )
    wandb.setup(settings=quiet)  # the login before a run is silent too

    def start(mode: Literal["online", "offline"]) -> Any:
        return wandb.init(
            project=config.project,
            entity=config.entity,
            group=group,
            job_type=job_type,
            name=name,
            tags=[*config.tags, *tags],
            config={"nat": settings},
            dir=str(run_dir),
            mode=mode,
            id=run_id,
            resume="allow" if run_id else None,
            reinit="finish_previous",
            settings=quiet,
        )

    if mode == "online" and _server() in _unreachable:
        mode = "offline"
    try:
        run = start(mode)
    except Exception as error:
        if mode == "offline":
            raise
        _unreachable.add(_server())
        mode = "offline"
        _stop_wandb()  # it would not give the id to another start
        later = f"wandb sync {run_dir}/wandb/offline-run-*"
        warn(f"tracking: W&B init failed ({_one_line(error)}); kept offline, to be sent by: {later}")
        run = start(mode)
    say(f"W&B {mode} run: {run.url if mode == 'online' else Path(run.dir).parent}")
    return run


def _is_gone(error: Exception) -> bool:
    """Whether the process that W&B runs beside ours has ended: every further call would fail too."""
    return isinstance(error, ConnectionError) or type(error).__name__ == "HandleAbandonedError"


def _stop_wandb() -> None:
    """End the process that W&B runs beside ours: it could hold up our end, or print a traceback there."""
    with suppress(Exception):
        import wandb

        wandb.teardown()


def wandb_mode(mode: Literal["auto", "online", "offline", "disabled"]) -> Literal["online", "offline", "disabled"]:
    """`WANDB_MODE` and `WANDB_DISABLED` first, as W&B users expect; then ours; `auto` is online after a login."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes") or asked == "disabled":
        return "disabled"
    if asked in ("online", "offline"):
        return "online" if asked == "online" else "offline"
    if asked == "dryrun":
        return "offline"
    if mode != "auto":
        return mode
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Whether there is a key for the W&B server: in the environment, or where `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    host = _server().split("://")[-1].split("/")[0].split(":")[0]
    path = os.environ.get("NETRC") or next(
        (str(p) for p in (Path.home() / ".netrc", Path.home() / "_netrc") if p.exists()), None
    )
    try:
        return path is not None and netrc.netrc(path).hosts.get(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value, ensure_ascii=False)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _nested(value) if isinstance(value, Mapping) else value for key, value in settings.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers among nested values, in the same places."""
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            kept[key] = _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            kept[key] = value
    return kept


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
