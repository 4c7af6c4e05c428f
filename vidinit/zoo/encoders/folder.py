"""Folders of transformers with a video encoder: what is in them, and what is refused.

``hf:USER/NAME`` is a repository of the hub, ``hf:USER/NAME@REVISION`` one state of it; a local one
is a folder with config.json and weights as safetensors beside it. Nothing in it is run: code that
comes with a model is refused, and so are pickled weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError, VidinitError
from ..images.hub import MODEL_FILES, fetched, parse_ref
from .kinds import KINDS

PREFIX = "hf:"
CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PREPROCESSORS = (
    "video_preprocessor_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def is_encoder(ref: object) -> bool:
    """True for ``hf:USER/NAME``."""
    return str(ref).startswith(PREFIX)


def is_encoder_folder(path: Path) -> bool:
    """True for a folder of transformers: a config.json with a model type, and no model.yaml."""
    if not (path / CONFIG).is_file() or (path / MODEL_FILES[0]).is_file():
        return False
    return "model_type" in read_json(path / CONFIG)


def encoder_folder(ref: str) -> Path:
    """The local copy of a repository with a video encoder, all of one commit.

    Raises:
        UsageError: a malformed reference, and a repository that is refused; see `check`.
        VidinitError: it cannot be fetched.
    """
    name = ref.removeprefix(PREFIX)
    if name.startswith((".", "/", "~")):
        raise UsageError(f"'{ref}' is no repository of the hub", f"write a folder as {name}")
    hub_ref = parse_ref(ref)
    if hub_ref.file is not None:
        raise UsageError(f"'{ref}' names a file", "write hf:USER/NAME")
    config = fetched(hub_ref.repo, CONFIG, hub_ref.revision)
    if config is None:
        raise UsageError(
            f"{ref} has no {CONFIG}, so it is no model of transformers",
            "a model folder of vidinit is hf-hub:USER/NAME",
        )
    check(read_json(config), ref)  # before weights are fetched
    repo, commit = hub_ref.repo, config.parent.name
    for name in PREPROCESSORS:
        _if_there(repo, name, commit)
    if _if_there(repo, WEIGHTS, commit) is None:
        index = _if_there(repo, INDEX, commit)
        if index is None:
            fetched(repo, WEIGHTS, commit)  # says so where nobody can tell whether it is there
            raise pickled(ref)
        for shard in shards_of(index):
            fetched(repo, shard, commit)
    return config.parent


def shards_of(index: Path) -> list[str]:
    """The files that an index names, which lie beside it.

    Raises:
        UsageError: it names none, or a file elsewhere.
    """
    named = read_json(index).get("weight_map")
    shards = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not shards or any(Path(shard).name != shard for shard in shards):
        raise UsageError(f"{index} does not name files beside it", "take a whole copy of it")
    return shards


def _if_there(repo: str, name: str, commit: str) -> Path | None:
    """A file that a repository may lack; without a network, one that the cache may lack."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return fetched(repo, name, commit)
    except VidinitError as error:
        if isinstance(error.__cause__, LocalEntryNotFoundError):
            return None
        raise


def pickled(where: object) -> UsageError:
    """The error of a model without safe weights."""
    return UsageError(
        f"{where} has no weights as safetensors, and pickled ones could run code",
        "save it again with save_pretrained of a new transformers, or take another revision",
    )


def check(config: Mapping[str, Any], where: object) -> str:
    """The model type of a configuration that can be opened.

    Raises:
        UsageError: for code of its own, another kind of model, or an encoder of other inputs.
    """
    model_type = str(config.get("model_type"))
    known = ", ".join(kind.title for kind in KINDS.values())
    if "auto_map" in config:
        raise UsageError(
            f"{where} comes with code of its own, which is not run",
            f"take a model whose class is in transformers: {known}",
        )
    if "quantization_config" in config:
        raise UsageError(f"{where} has quantized weights", "take the model in full precision")
    if model_type == "videoprism":
        raise UsageError(
            f"{where} is a pair of a video and a text encoder",
            "save its vision_model by itself: model.video_model.vision_model.save_pretrained(DIR)",
        )
    if model_type not in KINDS:
        raise UsageError(
            f"{where} is a model of type '{model_type}', which is no video encoder that is known",
            f"take one of {known}; of image networks vidinit convert makes video models",
        )
    kind = KINDS[model_type]
    for key in (kind.size, kind.frames, "hidden_size", "tubelet_size"):
        if key not in config and key != "tubelet_size":  # TimeSformer has none
            raise UsageError(f"{where}: {CONFIG} does not say {key}", "take a whole copy of it")
        values = config.get(key, 1)
        for value in values if isinstance(values, list) and values else [values]:
            if type(value) is not int or value < 1:
                raise UsageError(
                    f"{where}: {key} in {CONFIG} is no number above 0", "take a whole copy of it"
                )
    return model_type


def read_json(path: Path) -> dict[str, Any]:
    """The map in a JSON file.

    Raises:
        UsageError: it holds none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"cannot read {path} ({reason})", "take a whole copy of it") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no map of settings", "take a whole copy of it")
    return found
