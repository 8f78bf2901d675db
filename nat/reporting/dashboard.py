"""`nat dashboard DIR`: a sweep's panels as a saved W&B workspace, and as a W&B report page with the verdict on top.

Needs the extra `dashboard` (the package wandb-workspaces). What is built is written to `DIR/dashboard.json` first, then
saved; the addresses it was saved under stand in the same file, so that the next call updates instead of adding.

The panels name what `nat.tracking` logs: `nat.selected.negatives` in the configuration, `success_rate` in the summary,
`loss/incorrect` over `training_step` in the history. Nobody needs to group runs by hand: bars and curves group by
method themselves, and points have their method's colour, so that single runs stay visible in the scatter plots.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from nat.core.files import write_json
from nat.reporting.pictures.looks import LOOKS, SPARE_LOOKS
from nat.runs.directory import load_results
from nat.runs.packed import runs_below
from nat.runs.results import Results
from nat.tracking import STEP, logged_in
from nat.types import Failure, RequestError, StageError

DASHBOARD_FILE = "dashboard.json"
INSTALL = "pip install 'negative-aware-training[dashboard]'"
ADDRESSES = ("workspace_url", "page_url", "page_id")
MAX_RUNS = 500  # shown in a panel; W&B's own limit of 10 would leave most of a sweep out
NOT_IN_A_FILTER = "'\"=<>"  # wandb-workspaces reads filters from text, and would take these for its operators


@dataclass(frozen=True)
class Sweep:
    """What the panels depend on, from the files of a sweep's cells."""

    project: str
    entity: str | None  # None: the logged-in user's default
    group: str  # W&B group of all its runs
    classes: tuple[str, ...]  # strategy classes, each with a loss of its own
    strategies: tuple[str, ...]
    has_validation: bool  # some finished cell was asked validation questions too
    methods: Mapping[str, str]  # W&B run id to method, of the cells that have both


def write(directory: Path, save: bool = True) -> str:
    """Create or update the saved workspace and the report page of the sweep in `directory`; returns what to print.

    Args:
        save: False: `dashboard.json` only, without any connection.

    Raises:
        RequestError: no tracked run below `directory`, runs of several sweeps, the package is missing, not logged in.
        StageError: the W&B server cannot be reached, or refuses.
    """
    sweep = read_sweep(directory)
    workspaces, reports = _packages()
    path = directory / DASHBOARD_FILE
    addresses = _earlier_addresses(path, sweep)

    workspace = build_workspace(sweep, workspaces, reports)
    page = build_page(sweep, reports, verdict(directory))
    document = {
        "project": sweep.project,
        "entity": sweep.entity,
        "group": sweep.group,
        **addresses,
        "workspace": _plain(workspace._to_model().spec),
        "page": _plain(page._to_model().spec),
    }
    write_json(path, document)
    if not save:
        return f"written to {path}"
    if not logged_in():
        raise RequestError(
            f"nat dashboard: not logged in to W&B (`wandb login`, or WANDB_API_KEY); {path} holds what would be saved."
        )
    addresses = _saved(workspace, page, addresses, workspaces)
    write_json(path, {**document, **addresses})
    return f"workspace {addresses['workspace_url']}\nreport    {addresses['page_url']}"


# ---- what a sweep's files say ----


def read_sweep(directory: Path) -> Sweep:
    """Project, group and the rest from the `config.yaml` of the cells below `directory` (or of the run in it)."""
    from omegaconf import OmegaConf

    if not directory.is_dir():
        raise RequestError(f"nat dashboard {directory}: there is no such directory.")
    tracked: list[tuple[Any, Results]] = []
    untracked = 0
    for files in runs_below(directory):
        try:
            text = files.read_text("config.yaml")
            if text is None:
                continue
            config = OmegaConf.to_container(OmegaConf.create(text))
            results = load_results(files)
        except (OSError, ValueError):
            continue  # a cell that was cut off before it had written them
        if config["tracking"]["kind"] == "wandb":  # pyright: ignore
            tracked.append((config, results))
        else:
            untracked += 1
    if not tracked:
        reason = f"its {untracked} runs were made with tracking=none" if untracked else "it holds no run"
        raise RequestError(f"nat dashboard {directory}: {reason}; nothing is in W&B to show.")
    places = {
        (c["tracking"]["project"], c["tracking"]["entity"], c["tracking"]["group"] or c["sweep"]["name"])
        for c, _ in tracked
    }
    if len(places) > 1:
        groups = ", ".join(sorted(f"{project}/{group}" for project, _, group in places)[:4])
        raise RequestError(f"nat dashboard {directory}: runs of several sweeps ({groups}); give one sweep's directory.")
    project, entity, group = places.pop()
    if any(character in group for character in NOT_IN_A_FILTER):
        raise RequestError(
            f"nat dashboard {directory}: W&B cannot filter by the group {group!r}; give the sweep a sweep.name or "
            f"tracking.group without {' '.join(NOT_IN_A_FILTER)}"
        )
    return Sweep(
        project=project,
        entity=entity,
        group=group,
        classes=tuple(dict.fromkeys(class_["name"] for c, _ in tracked for class_ in c["strategy"]["classes"])),
        strategies=tuple(dict.fromkeys(c["strategy"]["name"] for c, _ in tracked)),
        has_validation=any(results.validation is not None for _, results in tracked),
        methods={r.tracking_id: r.coordinates.method for _, r in tracked if r.tracking_id and r.coordinates},
    )


def verdict(directory: Path) -> str:
    """The words on top of `report.md`, up to its second heading, its first table or its first picture."""
    try:
        lines = (directory / "report.md").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    kept: list[str] = []
    headings = 0
    for line in lines:
        if line.startswith("# "):
            continue  # the page has a title of its own
        headings += line.startswith("#")
        if headings > 1 or line.startswith(("|", "![", "<")):
            break
        kept.append(line)
    return "\n".join(kept).strip()


# ---- panels ----


def sections(sweep: Sweep, reports: Any) -> list[tuple[str, list[Any]]]:
    """The panels of `nat report`, section by section, in its order."""
    by_method = {"groupby": reports.Metric("JobType"), "groupby_aggfunc": "mean"}
    by_strategy = {"groupby": reports.Config("nat.strategy.name"), "groupby_aggfunc": "mean"}
    negatives, ratio = (reports.Config(f"nat.{key}") for key in ("selected.negatives", "mixing.negatives_per_positive"))
    success = reports.SummaryMetric("success_rate")

    def bars(title: str, metrics: Sequence[str], group: Mapping[str, Any]) -> Any:
        return reports.BarPlot(
            title=title, metrics=list(metrics), groupby_rangefunc="stderr", max_runs_to_show=MAX_RUNS, **group
        )

    def curves(title: str, metric: str) -> Any:
        return reports.LinePlot(
            title=title,
            x=STEP,
            y=[metric],
            title_x="training step",
            groupby_rangefunc="stderr",
            max_runs_to_show=MAX_RUNS,
            **by_method,
        )

    def points(title: str, x: Any, x_title: str, y: Any = success, log_x: bool = False) -> Any:
        # wandb-workspaces has no axis titles for scatter plots
        return reports.ScatterPlot(title=f"{title}, by {x_title}", x=x, y=y, log_x=log_x or None)

    over_number = [
        points("Success on test questions", negatives, "number of negatives"),
        points("Success on test questions", ratio, "negatives per positive"),
    ]
    if sweep.has_validation:
        validation = reports.SummaryMetric("validation.success_rate")
        over_number.append(points("Success on validation questions", negatives, "number of negatives", validation))
    cost = [(STEP, "training steps"), ("tokens", "tokens read"), ("timing.training", "seconds of training")]
    return [
        ("Success against the number of negatives", over_number),
        (
            "Methods",
            [
                bars("Success rate (exact match)", ["success_rate"], by_method),
                bars("Mean score (F1 where answers are graded)", ["mean_score"], by_method),
            ],
        ),
        ("Conditioning texts", [bars("Success rate, by strategy", ["success_rate"], by_strategy)]),
        ("Failures", [bars("Episodes by kind of failure", [f"failures.{k}" for k in get_args(Failure)], by_method)]),
        ("Loss", [curves("Loss", "loss"), *(curves(f"Loss on {name!r}", f"loss/{name}") for name in sweep.classes)]),
        ("Cost", [points("Success", reports.SummaryMetric(key), title) for key, title in cost]),
        ("Roll-outs", [reports.WeavePanelSummaryTable(table_name="rollouts", layout=reports.Layout(w=24, h=14))]),
    ]


def build_workspace(sweep: Sweep, workspaces: Any, reports: Any) -> Any:
    """A `wandb_workspaces.workspaces.Workspace`, not saved yet."""
    from wandb_workspaces import expr

    return workspaces.Workspace(
        entity=sweep.entity or "",
        project=sweep.project,
        name=f"nat: {sweep.group}",
        sections=[
            workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in sections(sweep, reports)
        ],
        settings=workspaces.WorkspaceSettings(max_runs=MAX_RUNS),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Metric("Group") == sweep.group),
            order=[expr.Ordering(expr.Metric("JobType")), expr.Ordering(expr.Config("nat.value.selected.negatives"))],
            run_settings=_coloured(sweep, workspaces.RunSettings),
            pinned_columns=[
                "run:displayName",
                "run:jobType",
                "summary:success_rate",
                "config:nat.value.selected.positives",
                "config:nat.value.selected.negatives",
                "config:nat.value.strategy.name",
            ],
        ),
    )


def build_page(sweep: Sweep, reports: Any, words: str) -> Any:
    """A `wandb_workspaces.reports.v2.Report`, not saved yet: the verdict, then the workspace's panels."""
    from wandb_workspaces import expr

    def run_set() -> Any:  # without a project of its own: naming it again would ask the server for its id
        return reports.Runset(
            name=sweep.group,
            filters=expr.And(expr.Metric("Group") == sweep.group),
            run_settings=_coloured(sweep, reports.RunSettings),
        )

    def blocks() -> Iterator[Any]:
        yield reports.MarkdownBlock(text=words or "No verdict yet: `nat report` writes it into the sweep's report.md.")
        yield reports.TableOfContents()
        for name, panels in sections(sweep, reports):
            yield reports.H2(text=name)
            yield reports.PanelGrid(runsets=[run_set()], panels=panels)

    return reports.Report(
        entity=sweep.entity or "",
        project=sweep.project,
        title=f"nat: {sweep.group}"[:128],
        description="Negative-aware training: written by `nat dashboard`, which overwrites changes made here.",
        blocks=list(blocks()),
        width="fluid",
    )


def _coloured(sweep: Sweep, settings: Callable[..., Any]) -> dict[str, Any]:
    return {id: settings(color=LOOKS.get(method, SPARE_LOOKS[0]).colour) for id, method in sweep.methods.items()}


# ---- saving ----


def _packages() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise RequestError(f"nat dashboard: needs the package wandb-workspaces ({error}): {INSTALL}") from None
    return workspaces, reports


def _earlier_addresses(path: Path, sweep: Sweep) -> dict[str, str]:
    """Where an earlier call saved this sweep's workspace and page."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if (earlier.get("project"), earlier.get("group")) != (sweep.project, sweep.group):
        return {}
    return {key: earlier[key] for key in ADDRESSES if key in earlier}


def _saved(workspace: Any, page: Any, addresses: Mapping[str, str], workspaces: Any) -> dict[str, str]:
    """Save both, over what the addresses name; returns entity and addresses for the next call."""
    import wandb

    try:
        wandb.setup(settings=wandb.Settings(silent=True))
        if not workspace.entity:
            workspace.entity = page.entity = wandb.Api().default_entity or ""
        page.id = addresses.get("page_id", "")
        page.save()  # first: it makes the project, where no run was sent yet
        earlier = _earlier_workspace(addresses.get("workspace_url"), workspaces)
        if earlier is not None:
            for name in ("name", "sections", "settings", "runset_settings"):
                setattr(earlier, name, getattr(workspace, name))
            workspace = earlier
        workspace.save()
        saved_as = {"workspace_url": workspace.url, "page_url": page.url, "page_id": page.id}
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise StageError(f"nat dashboard: W&B did not save it ({type(error).__name__}: {text})") from None
    return {"entity": workspace.entity, **saved_as}


def _earlier_workspace(url: str | None, workspaces: Any) -> Any:
    """None where there is none, or it was deleted in W&B."""
    try:
        return workspaces.Workspace.from_url(url) if url else None
    except ValueError:
        return None


def _plain(spec: Any) -> Any:
    return json.loads(spec.model_dump_json(by_alias=True, exclude_none=True))
