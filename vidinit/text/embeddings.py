"""Text embeddings of classes: from a text tower, kept in the user's cache, or from a file."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, VidinitError, suggest
from ..files import cache_folder
from .tables import TABLE, read_embeddings, save_embeddings
from .templates import prompts
from .towers import TextTower, find_tower, require_open_clip

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BATCH = 256  # texts of one forward pass


def text_embeddings(
    classes: Sequence[str],
    *,
    model: str | None = None,
    file: str | Path | None = None,
    templates: str | Sequence[str] = "raw",
    device: torch.device | str = "cpu",
) -> Tensor:
    """One embedding a class, to compare video embeddings with.

    With a text tower: each class in each template is embedded and L2-normalized, the mean over a
    class's templates is normalized again (CLIP, arXiv 2103.00020, section 3.1.4). The table is
    computed once; it lies in ``$XDG_CACHE_HOME/vidinit/text`` under a name that is made of the
    tower, its weights' contents and the texts.

    Args:
        classes: K names as the data has them; `templates.clean` makes words of them.
        model: a text tower, see `towers.find_tower`; it needs open_clip.
        file: a table of embeddings instead, see `tables.read_embeddings`.
        templates: of the text tower's texts, see `templates.read_templates`.
        device: where the text tower computes.

    Returns:
        float32 (K, J) on the CPU, each row of length 1.

    Raises:
        UsageError: neither or both sources, an unknown tower, open_clip is not installed.
        DataError: a file that does not fit the classes.
        VidinitError: weights that cannot be fetched or read.
    """
    if (model is None) == (file is None):
        raise UsageError(
            "text embeddings come from a text tower or from a file", "name one of the two"
        )
    if file is not None:
        return read_embeddings(file, classes)
    assert model is not None
    texts = prompts(classes, templates)
    tower = find_tower(model)
    require_open_clip()
    weights = weights_file(tower)
    kept = cache_folder() / "text" / f"{_key(tower, weights, texts)}.safetensors"
    if (found := _kept(kept)) is not None:
        return found
    table = _encode(tower, weights, texts, device)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_embeddings(kept, table, classes)
    except OSError as error:
        warnings.warn(f"text embeddings are not kept: {error}", stacklevel=2)
    return table


def _kept(file: Path) -> Tensor | None:
    """A table from the cache; None where it is not there, or not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)[TABLE] if file.is_file() else None
    except (OSError, KeyError, SafetensorError):
        return None


def weights_file(tower: TextTower) -> Path:
    """The local file with a tower's weights, fetched from the hub where it is not there yet.

    Raises:
        UsageError: open_clip does not know the tower.
        VidinitError: the hub is out of reach.
    """
    import open_clip

    from ..zoo.images.hub import quiet_hub

    if tower.model not in open_clip.list_models():
        raise UsageError(
            f"open_clip has no model '{tower.model}'",
            suggest(tower.model, open_clip.list_models()) or "see open_clip.list_models()",
        )
    if tower.file is not None:
        return tower.file
    config = open_clip.get_pretrained_cfg(tower.model, tower.tag)
    if not config:
        tags = open_clip.list_pretrained_tags_by_model(tower.model)
        raise UsageError(
            f"open_clip has no weights '{tower.tag}' of {tower.model}",
            suggest(str(tower.tag), tags) or f"it has {', '.join(tags) or 'none'}",
        )
    try:
        with quiet_hub():
            return Path(open_clip.download_pretrained(config))
    except Exception as error:  # hub clients raise many unrelated kinds
        reason = " ".join(str(error).split())[-120:] or type(error).__name__
        raise VidinitError(
            f"could not get the text tower {tower} from the hub",
            f"pass a file of text embeddings, or local weights as {tower.model}=FILE "
            f"(the hub client says: {reason})",
        ) from error


def _key(tower: TextTower, weights: Path, texts: list[list[str]]) -> str:
    """A name for a table that changes with whatever its numbers depend on."""
    import open_clip

    digest = hashlib.sha256()
    with weights.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    # The version stands for the tokenizer.
    parts = [open_clip.__version__, tower.model, digest.hexdigest(), texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _encode(
    tower: TextTower, weights: Path, texts: list[list[str]], device: torch.device | str
) -> Tensor:
    """The embeddings of texts (classes, templates), averaged over templates: (classes, J)."""
    import torch
    import torch.nn.functional as F

    network, tokenize = _open(tower, weights)
    network.to(device).eval()
    flat = [text for group in texts for text in group]
    found = []
    with torch.no_grad():
        for start in range(0, len(flat), _BATCH):
            tokens = tokenize(flat[start : start + _BATCH]).to(device)
            found.append(F.normalize(network.encode_text(tokens).float(), dim=-1).cpu())
    table = torch.cat(found).unflatten(0, (len(texts), -1))
    return F.normalize(table.mean(dim=1), dim=-1)


def _open(tower: TextTower, weights: Path) -> tuple[Any, Any]:
    """open_clip's model and its tokenizer.

    Raises:
        VidinitError: the weights do not fit, or the tokenizer's files cannot be had.
    """
    import open_clip

    from ..zoo.images.hub import quiet_hub

    try:
        with quiet_hub():
            # What a file of weights wants of the activation, only its tag tells.
            config = open_clip.get_pretrained_cfg(tower.model, tower.tag) if tower.tag else {}
            quick = bool(config.get("quick_gelu"))
            model = open_clip.create_model(
                tower.model, pretrained=str(weights), force_quick_gelu=quick
            )
            return model, open_clip.get_tokenizer(tower.model)
    except Exception as error:  # open_clip and what it reads with raise many unrelated kinds
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise VidinitError(
            f"could not open the text tower {tower}",
            f"weights of open_clip's {tower.model} are needed ({reason})",
        ) from error
