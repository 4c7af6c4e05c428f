"""A model folder on the hub, with a card that is written from the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..checkpoint import CARD, WEIGHTS, load, model_folder, read_card
from ..errors import UsageError, VidinitError
from ..zoo.adapters.reference import HUB
from ..zoo.base import count_parameters
from ..zoo.images.hub import forget, quiet_hub, reason_of, repo_name
from .card import model_card, names_only

README = "README.md"


def publish(
    model: str | Path, repo: str, *, public: bool = False, extra: Path | None = None
) -> dict[str, Any]:
    """Put a model folder on the hub, in one commit.

    The card is the folder's README.md if it has one, and else is written from the run. Of paths in
    model.yaml and in the card only the last names are told.

    Args:
        model: a model or run folder.
        repo: ``USER/NAME``; made if it is not there.
        public: make a new repository one for all.
        extra: another file to put there.

    Returns:
        {hub, url, private, files}: ``hub`` is what `vidinit.load` takes.

    Raises:
        UsageError: a folder that others could not load.
        VidinitError: when the hub cannot be reached, or refuses.
    """
    name, folder = repo_name(repo), model_folder(model)
    if folder is None:
        raise UsageError(f"'{model}' is a zoo name without weights", "give a model or run folder")
    card = read_card(folder)
    if card.tower is not None and card.tower.weights != HUB:
        raise UsageError(
            f"{folder} names its frozen tower by a file that others do not have",
            "convert it with --whole, so that the folder holds the tower",
        )
    parameters = count_parameters(load(folder))  # nothing is published that cannot be loaded
    text = yaml.safe_dump(
        {**card.as_dict(), "lineage": names_only(card.lineage)}, sort_keys=False, allow_unicode=True
    )
    own = folder / README
    files: dict[str, bytes | Path] = {
        README: own if own.is_file() else model_card(folder, name, parameters=parameters).encode(),
        CARD: text.encode(),
        WEIGHTS: folder / WEIGHTS,
        **({} if extra is None else {extra.name: extra}),
    }
    url, private = _push(name, files, f"vidinit: {card.name}", public=public)
    forget()
    return {"hub": f"hf-hub:{name}", "url": url, "private": private, "files": list(files)}


def _push(
    name: str, files: dict[str, bytes | Path], message: str, *, public: bool
) -> tuple[str, bool]:
    """Commit files to a repository; return its address, and True where it is private."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        with quiet_hub():
            api = HfApi()
            made = api.create_repo(name, private=not public, exist_ok=True)
            added = [CommitOperationAdd(path, content) for path, content in files.items()]
            api.create_commit(name, added, commit_message=message)
            return str(made), bool(api.model_info(name).private)
    except OfflineModeIsEnabled as error:
        raise VidinitError(
            f"could not push to '{name}': the hub is out of reach",
            "check the network, HF_ENDPOINT and HF_HUB_OFFLINE",
        ) from error
    except HfHubHTTPError as error:
        hint = f"the hub says: {reason_of(error)}"
        if error.response is not None and error.response.status_code in (401, 403):
            hint = f"log in with `hf auth login` as somebody who may write there ({hint})"
        raise VidinitError(f"could not push to '{name}'", hint) from error
    except Exception as error:  # hub clients raise many unrelated kinds
        raise VidinitError(f"could not push to '{name}'", reason_of(error)) from error
