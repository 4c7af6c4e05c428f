"""The card of a published model, as Markdown, from its folder and its run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..checkpoint import read_card
from ..pipelines.registry import config_classes

_CLASSES = 60  # names in a card
_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "map": "mean average precision",
}
_ALWAYS = (
    *("data.batch_size", "train.epochs", "train.optimizer", "train.lr", "train.lr_batch"),
    *("train.weight_decay", "train.seed"),
)  # settings that are shown even where they are the defaults
_SECTIONS = ("data", "train", "distill", "eval", "text")  # of a configuration, that make a recipe
_KEPT = ("step", "epochs")  # of a lineage's step, that are no results
_KINDS = {
    "single": "chooses one of {} classes for any video, whether it shows any of them or not",
    "multi": "gives each of {} labels a probability of its own; where to cut is left to the user",
    "pair": "chooses one of {} verbs, and a noun, for any video, whether it shows any or not",
}


def run_of(folder: Path) -> Path | None:
    """The run that a model folder is of, or None."""
    is_run = folder.name == "model" and (folder.parent / "config.yaml").is_file()
    return folder.parent if is_run else None


def names_only(value: Any) -> Any:
    """The same with the last names of paths in their place: folders are nobody else's business."""
    if isinstance(value, dict):
        return {key: names_only(item) for key, item in value.items()}
    if isinstance(value, list):
        return [names_only(item) for item in value]
    if isinstance(value, str) and value and (Path(value).is_absolute() or _exists(value)):
        return Path(value).name
    return value


def _exists(text: str) -> bool:
    return "/" in text and Path(text).exists()


def model_card(folder: Path, repo: str, *, parameters: int) -> str:
    """The README.md of a model folder on the hub.

    Args:
        folder: of the model; if it lies in a run folder, the run is described, too.
        repo: ``USER/NAME`` where it will be.
        parameters: learnable values of the model.
    """
    card = names_only(read_card(folder).as_dict())
    run = run_of(folder)
    config = names_only(_yaml(run, "config.yaml"))
    health = _json(run, "data_health.json")
    parts = [
        _front(card),
        _head(card, repo, parameters),
        _use(card, repo),
        _input(card),
        _data(config, health, _json(run, "result.json")),
        _recipe(config, card),
        _figures(card, config),
        _lineage(card),
        _limits(card, config, health),
        _classes(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _yaml(run: Path | None, name: str) -> dict[str, Any]:
    file = None if run is None else run / name
    if file is None or not file.is_file():
        return {}
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def _json(run: Path | None, name: str) -> dict[str, Any]:
    file = None if run is None else run / name
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}


def _front(card: dict[str, Any]) -> str:
    """The hub's metadata. A license is not for a program to choose."""
    tag = "video-classification" if card["num_classes"] else "feature-extraction"
    known = {
        "library_name": "vidinit",
        "pipeline_tag": "object-detection" if card.get("detect") else tag,
        "tags": ["vidinit", "video", card["name"]],
    }
    return f"---\n{yaml.safe_dump(known, sort_keys=False)}---"


def _head(card: dict[str, Any], repo: str, parameters: int) -> str:
    does = f"a video classifier of {card['num_classes']} classes"
    if not card["num_classes"]:
        does = "a network that embeds videos"
    if detect := card.get("detect"):
        does = f"a detector of {detect['num_classes']} actions in boxes"
    size = f"{parameters / 1e6:.2f} M parameters"
    return f"# {repo.partition('/')[2]}\n\n`{card['name']}`, {does} ({size}), made with vidinit."


def _use(card: dict[str, Any], repo: str) -> str:
    command = f"```bash\nvidinit predict hf-hub:{repo} VIDEO\n```"
    last = 'model.predict("video.mp4", topk=5)' if card["num_classes"] else "model(clips)"
    if card.get("detect"):
        last = "logits = model(clips, boxes)  # boxes: number of the clip, x1, y1, x2, y2 in pixels"
    python = f'import vidinit\n\nmodel = vidinit.load("hf-hub:{repo}")\n{last}'
    parts = [command] if card["num_classes"] or card.get("detect") else []
    return "\n\n".join(["## Use", *parts, f"```python\n{python}\n```"])


def _input(card: dict[str, Any]) -> str:
    clip = card["clip"]
    text = (
        "Clips (B, C, T, H, W), float, normalized with the statistics below; logits come out, "
        "before any softmax. `vidinit` prepares videos so by itself."
    )
    return f"## Input\n\n{text}\n\n{_table(('setting', 'value'), clip.items())}"


def _data(config: dict[str, Any], health: dict[str, Any], result: dict[str, Any]) -> str:
    rows: list[tuple[str, Any]] = []
    data = config.get("data") or {}
    for source in [data, *(config.get("sources") or [])]:
        places = [("training", source.get("train") or source.get("data"))]
        places += [("validation", source.get("val"))]
        rows += [(what, place) for what, place in places if place]
    if data.get("train") and not data.get("val"):
        rows.append(("validation", "held out of the training data, or its own part for it"))
    for key, words in (("files", "files found"), ("good", "files that can be read")):
        if key in health:
            rows.append((words, health[key]))
    if "videos" in result:
        rows.append(("videos trained on", result["videos"]))
    return f"## Data\n\n{_table(('', ''), rows)}" if rows else ""


def _recipe(config: dict[str, Any], card: dict[str, Any]) -> str:
    if not config:
        return ""
    command = str(config.get("command"))
    known = config_classes()
    defaults = known[command].defaults() if command in known else {}
    changed = {}
    for section in _SECTIONS:
        own, usual = config.get(section) or {}, defaults.get(section) or {}
        found = {
            key: value
            for key, value in own.items()
            if usual.get(key) != value or f"{section}.{key}" in _ALWAYS
        }
        changed.update({section: found} if found else {})
    shown = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
    return (
        f"## Recipe\n\n`vidinit {command}` of `{config.get('model')}`, vidinit {card['vidinit']}. "
        f"What is not shown has its default.\n\n```yaml\n{shown}```"
    )


def _figures(card: dict[str, Any], config: dict[str, Any]) -> str:
    step = card["lineage"][-1] if card["lineage"] else {}
    rows = [
        (_METRICS.get(key, key), f"{value:.4f}")
        for key, value in step.items()
        if isinstance(value, float) and key not in _KEPT and not key.startswith("max_")
    ]
    if not rows:
        return ""
    views = config.get("eval") or {}
    how = ""
    if views.get("clips"):
        how = f", {views['clips']} clips x {views.get('crops', 1)} crops a video"
    note = f"Of these weights, on the validation data, by `vidinit {step['step']}`{how}."
    return f"## Figures\n\n{note}\n\n{_table(('metric', 'value'), rows)}"


def _lineage(card: dict[str, Any]) -> str:
    steps = []
    for number, step in enumerate(card["lineage"], 1):
        rest = {k: v for k, v in step.items() if k != "step" and v is not None}
        details = "; ".join(f"{key} {_word(value)}" for key, value in rest.items())
        steps.append(f"{number}. {step['step']}: {details}")
    if not steps:
        steps = ["The weights are random, or nothing is known of them."]
    return "## Lineage\n\n" + "\n".join(steps)


def _limits(card: dict[str, Any], config: dict[str, Any], health: dict[str, Any]) -> str:
    clip, train = card["clip"], config.get("train") or {}
    lines = []
    if detect := card.get("detect"):
        one = "one class, or none," if detect["kind"] == "single" else "any number of classes"
        lines.append(
            f"It gives a box {one} of {detect['num_classes']}, and knows nothing of boxes that it "
            "is not shown."
        )
    elif card["num_classes"]:
        does = _KINDS[card.get("kind", "single")].format(card["num_classes"])
        lines.append(f"It {does}.")
    lines.append(
        f"It sees {clip['frames']} frames of {clip['size']} x {clip['size']} pixels at a time, and "
        "nothing between or beside them."
    )
    if train.get("select") == "best":
        lines.append("The epoch that was kept is the best on the validation data: figures flatter.")
    if health.get("bad"):
        lines.append(f"{len(health['bad'])} files could not be read and were left out.")
    if health.get("partial"):
        lines.append(f"Of {len(health['partial'])} damaged files the beginning was taken.")
    if config:
        lines.append("It was not tested on other footage than the data named here.")
    else:
        lines.append("No run lies beside the model: data and recipe are what the lineage tells.")
    lines.append(
        "The data, and the weights it started from, have licenses of their own; this card has none."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _classes(card: dict[str, Any]) -> str:
    names: Sequence[str] = (card.get("detect") or card).get("classes") or []
    if not names:
        return ""
    shown = ", ".join(f"`{name}`" for name in names[:_CLASSES])
    more = len(names) - _CLASSES
    rest = f", and {more} more, in model.yaml" if more > 0 else ""
    return f"## Classes\n\n{shown}{rest}"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *([*map(_word, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _word(value: Any) -> str:
    """A value in one line that does not end a cell."""
    if isinstance(value, list):
        text = ", ".join(map(_word, value))
    else:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
