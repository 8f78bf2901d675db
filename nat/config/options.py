"""The shipped options of a group: its YAML files, and for `trajectories` every format, which needs none."""

from __future__ import annotations

from typing import Any

from nat.core.paths import CONF_DIR
from nat.trajectories.detection import FORMATS


def shipped(group: str) -> dict[str, dict[str, Any]]:
    """Option to the values that it says itself (and not through another option's file), by name."""
    import yaml

    files = sorted((CONF_DIR / group).rglob("*.yaml"), key=lambda path: path.stem)
    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}
    if group == "trajectories":
        found = format_options() | found
    return dict(sorted(found.items()))


def format_options() -> dict[str, dict[str, Any]]:
    """The option of each format: what conf/trajectories/auto.yaml says, of the keys that the format has."""
    import yaml

    values = yaml.safe_load((CONF_DIR / "trajectories" / "auto.yaml").read_text(encoding="utf-8"))
    without_questions = {key: value for key, value in values.items() if key != "questions"}
    return {
        format.name: {**(without_questions if format.read_questions is None else values), "kind": format.name}
        for format in FORMATS
    }


def store() -> None:
    """Let Hydra find the formats' options. A file of that name, say below `--config-dir`, goes before."""
    from hydra.core.config_store import ConfigStore

    known = ConfigStore.instance().repo.get("trajectories", {})
    if all(f"{format.name}.yaml" in known for format in FORMATS):
        return  # Hydra keeps them as long as the process; every composition asks for them
    for name, values in format_options().items():
        ConfigStore.instance().store(name, values, group="trajectories", provider="nat")
