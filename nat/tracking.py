"""Where a run's numbers go: `metrics.jsonl` always, W&B as configured. Tracking never fails a run.

One line of `metrics.jsonl` is one logged step; what is no number (a diverged loss) is null:

    {"step": 10, "loss": 0.412, "loss/correct": 0.398, "loss/incorrect": 0.431, "learning_rate": 0.001, "tokens": 17210}
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass as plain_dataclass
from dataclasses import field as _field
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from nat.files import write_text
from nat.schema import STRICT

METRICS_FILE = "metrics.jsonl"
_LOWEST_IS_BEST = ("loss", "loss/*")
_HIGHEST_IS_BEST = ("token_accuracy", "token_accuracy/*")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TrackingConfig:
    """Values and their meaning: conf/tracking/wandb.yaml."""

    kind: Literal["wandb", "none"]
    mode: Literal["auto", "online", "offline", "disabled"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    rollouts: int


@plain_dataclass
class Tracker:
    """What `track` yields. Its methods warn, once each, where W&B fails, and never raise."""

    metrics_path: Path
    run: Any = None  # a W&B run, or None
    warn: Callable[[str], None] = lambda text: print(f"warning: {text}", file=sys.stderr)
    _warned: set[str] = _field(default_factory=set)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One logged step."""
        numbers = {name: value for name, value in metrics.items() if name != "step"}
        line = json.dumps({"step": step, **{name: _finite(value) for name, value in numbers.items()}})
        self._try("metrics.jsonl", lambda: _append(self.metrics_path, line))
        self._with_run("log", lambda run: run.log(dict(numbers), step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """The run's results: what a table of runs shows. Nested mappings become `outer.inner`."""
        self._with_run("summary", lambda run: run.summary.update(_flat(values)))

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

    def _with_run(self, what: str, use: Callable[[Any], Any]) -> None:
        if self.run is not None:
            self._try(f"W&B {what}", lambda: use(self.run))

    def _try(self, what: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracker raises, the run goes on
            if what not in self._warned:
                self._warned.add(what)
                self.warn(f"tracking: {what} failed ({_one_line(error)}); the run goes on")


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
    run_id: str | None = None,
) -> Iterator[Tracker]:
    """Track one run. An exception inside marks the W&B run failed and goes on its way.

    Args:
        resolved_config: logged under `nat`, apart from what libraries write into a run's config.
        group: the sweep; `tracking.group` wins.
        negatives_per_positive: the ratio as a number, to plot against; logged as `nat.mixing.negatives_per_positive`.
        run_id: a stable id, so that a resumed run goes on in its W&B run; None: a new run.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(run_dir / METRICS_FILE)
    if config.kind == "wandb" and config.mode != "disabled":
        settings = _nested(resolved_config)
        if negatives_per_positive is not None:
            settings.setdefault("mixing", {})["negatives_per_positive"] = float(negatives_per_positive)

        def init() -> None:
            tracker.run = _init_wandb(config, run_dir, settings, config.group or group, job_type, name, tags, run_id)

        tracker._try("W&B init", init)
    try:
        yield tracker
    except BaseException:
        tracker._with_run("finish", lambda run: run.finish(exit_code=1))
        raise
    tracker._with_run("finish", lambda run: run.finish(exit_code=0))


def _init_wandb(
    config: TrackingConfig,
    run_dir: Path,
    settings: Mapping[str, Any],
    group: str | None,
    job_type: str,
    name: str,
    tags: Sequence[str],
    run_id: str | None,
) -> Any:
    mode = wandb_mode(config.mode)
    if mode == "disabled":
        return None
    import wandb

    # W&B prints through its own logger and terminal writer; one line of ours says where the run is.
    logging.getLogger("wandb").setLevel(logging.ERROR)
    run = wandb.init(
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
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, init_timeout=30),
    )
    for metric in _LOWEST_IS_BEST:
        run.define_metric(metric, summary="min,last")
    for metric in _HIGHEST_IS_BEST:
        run.define_metric(metric, summary="max,last")
    where = run.url if mode == "online" else Path(run.dir).parent
    print(f"W&B {mode} run: {where}", file=sys.stderr)
    return run


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
    return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0].split(":")[0]
    path = os.environ.get("NETRC") or next(
        (str(p) for p in (Path.home() / ".netrc", Path.home() / "_netrc") if p.exists()), None
    )
    try:
        return path is not None and netrc.netrc(path).hosts.get(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value, ensure_ascii=False)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _nested(value) if isinstance(value, Mapping) else value for key, value in settings.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
