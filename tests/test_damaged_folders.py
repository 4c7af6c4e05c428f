"""Model folders that were damaged or made to do harm: one line with the file, whatever is done."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save
from support import moving_bar, write_video

import vidinit
from vidinit import checkpoint
from vidinit.errors import UsageError
from vidinit.zoo.attentive import AttentivePooler

MODEL = "s3d-test_efficientnet"  # the smallest network of timm
Change = Callable[[torch.Tensor], torch.Tensor | None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two sources that share no head, with an attentive pooler."""
    torch.manual_seed(0)
    model = vidinit.create_model(MODEL, num_classes=2, frames=4)
    model.classes = ["run", "walk"]
    model.spec = checkpoint_spec(model.spec)
    model.pooler = AttentivePooler(model.num_features)
    model.lineage = [{"step": "convert", "exact": True, "max_difference": 1e-6}]
    mean = "trunk.bn1.space.running_mean"
    key = mean if mean in model.state_dict() else next(
        k for k in model.state_dict() if k.endswith("running_mean")
    )  # fmt: skip
    return checkpoint.save_model(
        model,
        tmp_path_factory.mktemp("whole") / "model",
        heads={"other": torch.nn.Linear(model.num_features, 3)},
        statistics={"other": {key: model.state_dict()[key].clone()}},
        head_classes={"mine": ["run", "walk"], "other": ["a", "b", "c"]},
        merged={},
        source_clips={"mine": model.spec.as_dict(), "other": model.spec.as_dict()},
    )


def checkpoint_spec(spec: Any) -> Any:
    from dataclasses import replace

    return replace(spec, size=32, stride=1)


def copy_of(
    folder: Path,
    place: Path,
    card: dict[str, Any] | str | bytes | None = None,
    weights: bytes | dict[str, torch.Tensor] | None = None,
) -> Path:
    """The folder with another card, or other weights."""
    text = (folder / checkpoint.CARD).read_bytes() if card is None else card
    if isinstance(text, dict):
        text = yaml.safe_dump(text, sort_keys=False)
    stored = (folder / checkpoint.WEIGHTS).read_bytes() if weights is None else weights
    place.mkdir(exist_ok=True)
    (place / checkpoint.CARD).write_bytes(text if isinstance(text, bytes) else text.encode())
    (place / checkpoint.WEIGHTS).write_bytes(save(stored) if isinstance(stored, dict) else stored)
    return place


def card_of(folder: Path, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / checkpoint.CARD).read_text())
    return {**found, **changes}


def tensors(folder: Path, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    found = {**load_file(folder / checkpoint.WEIGHTS), **changes}
    return {key: value.contiguous() for key, value in found.items() if value is not None}


def refusal(place: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        vidinit.load(place, **options)
    assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_is_whole(folder: Path) -> None:
    assert vidinit.load(folder).classes == ["run", "walk"]
    assert vidinit.load(folder, head="other").classes == ["a", "b", "c"]
    assert vidinit.load(folder, head="mine").classes == ["run", "walk"]


WEIGHTS: list[tuple[str, Change, str]] = [
    ("head.weight", lambda t: None, "the head has 0 outputs, num_classes in model.yaml is 2"),
    ("head.weight", lambda t: t[:1], "the head has 1 outputs, num_classes in model.yaml is 2"),
    ("head.weight", lambda t: t[0, 0], "the head has 0 outputs"),
    ("head.weight", lambda t: t.to(torch.int8), "head.weight is int8, not floating point"),
    ("head.weight", lambda t: t / 0, "head.weight holds NaN or infinite values"),
    ("head.weight", lambda t: t.to(torch.complex64), "head.weight is complex64"),
    ("head.bias", lambda t: t * float("nan"), "head.bias holds NaN or infinite values"),
    ("head.bias", lambda t: None, "head.bias first"),
    ("head.bias", lambda t: t.repeat(2), "head.bias is (4,), the model needs (2,)"),
    ("heads.other.weight", lambda t: t[:2], "heads.other.bias do not belong together"),
    ("heads.other.weight", lambda t: t[:, :5], "heads.other.weight is (3, 5), the model's own"),
    ("heads.other.bias", lambda t: None, "heads.other.bias do not belong together"),
    ("heads.other.bias", lambda t: t.to(torch.int32), "heads.other.bias is int32"),
    ("trunk.bn1.num_batches_tracked", lambda t: t.float(), "is float32, not whole numbers"),
    ("trunk.conv_stem.weight", lambda t: t.to(torch.uint8), "is uint8, not floating point"),
    ("trunk.conv_stem.weight", lambda t: t[:5], "trunk.conv_stem.weight is (5, "),
    ("trunk.conv_stem.weight", lambda t: None, "trunk.conv_stem.weight first"),
    ("pooler.norm.weight", lambda t: None, "pooler.norm.weight first"),
    ("one.more", lambda t: torch.ones(2), "one.more first"),
    ("heads.third.weight", lambda t: torch.ones(2), "belongs to none of head_classes"),
    ("statistics.third.x", lambda t: torch.ones(2), "belongs to none of head_classes"),
]


@pytest.mark.parametrize(("key", "change", "words"), WEIGHTS)
def test_a_tensor_that_does_not_belong_there_is_named(
    key: str, change: Change, words: str, folder: Path, tmp_path: Path
) -> None:
    before = load_file(folder / checkpoint.WEIGHTS)
    found = next((name for name in before if name.endswith(key.removeprefix("trunk."))), key)
    new = tensors(folder, **{found: change(before.get(found, torch.ones(1)))})
    message = refusal(copy_of(folder, tmp_path / "m", weights=new))
    assert words.removeprefix("trunk.") in message


def test_half_precision_is_as_good(folder: Path, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in tensors(folder).items()}
    loaded = vidinit.load(copy_of(folder, tmp_path / "m", weights=half))
    assert loaded.head.weight.dtype == torch.float32


CARDS: list[tuple[dict[str, Any], str]] = [
    ({"num_classes": 3, "classes": ["a", "b", "c"]}, "the head has 2 outputs, num_classes"),
    ({"classes": None, "num_classes": 8}, "the head has 2 outputs, num_classes"),
    ({"head_classes": {"mine": ["run", "walk"], "other": ["a", "b"]}, "source_clips": {}},
     "3 outputs of other, head_classes in model.yaml has 2 names"),
    ({"head_classes": {"mine": ["run"], "other": ["a", "b", "c"]}}, "2 outputs of mine"),
    ({"head_classes": None, "source_clips": None}, "belongs to none of head_classes"),
    ({"head_classes": {"mine": ["run", "walk"], "b": ["a", "b"], "other": list("abc")}},
     "no weights of the heads mine of head_classes"),
    ({"merged": {"other": {"head": "mine", "outputs": [0, 1, 2]}}}, "goes beyond the 2 outputs"),
    ({"pooler": {"blocks": 2, "heads": 1}}, "pooler.blocks: 2, but model.safetensors has 1"),
    ({"pooler": {"blocks": 1, "heads": 7}}, "cannot be shared out among 7 heads"),
    ({"pooler": None}, "unexpected, pooler."),
    ({"name": "c2d-test_efficientnet"}, "do not fit the model"),
    ({"name": "s3d-test_efficientnot"}, "unknown model 's3d-test_efficientnot'"),
    ({"options": {"gatign": True}}, "has no option 'gatign'; did you mean 'gating'?"),
    ({"options": {"network": {"foo": 1}}}, "options: s3d-test_efficientnet cannot be built with"),
    ({"tower": {"name": "a", "weights": "hub", "sha256": "0" * 64}}, "names a frozen tower"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), CARDS)
def test_a_card_that_does_not_fit_the_weights_is_told(
    changes: dict[str, Any], words: str, folder: Path, tmp_path: Path
) -> None:
    place = copy_of(folder, tmp_path / "m", card_of(folder, **changes))
    assert words in refusal(place)


def test_the_clip_of_a_model_with_as_many_positions(tmp_path: Path) -> None:
    """A vision transformer has a parameter for each position and each frame."""
    model = vidinit.create_model("timesformer-vit_tiny_patch16_224", num_classes=2, frames=2)
    place = checkpoint.save_model(model, tmp_path / "m")
    card = card_of(place)
    card["clip"]["size"] = 33
    assert "clip: timesformer-vit_tiny_patch16_224 cannot take clips of 2 x 33 x 33" in refusal(
        copy_of(place, tmp_path / "n", card)
    )


# --------------------------------------------------------------------- the wide sweep

KINDS: list[Any] = [None, 5, -1, 2.5, True, "x", "", [], {}, ["a", "b"], {"a": {"b": [1]}}, 10**30]
GONE = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values of a card, of lists to the first."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def damaged(folder: Path) -> Iterator[dict[str, Any]]:
    """Arguments of `copy_of`: cards and weights with one fault each."""
    whole = card_of(folder)
    rng = np.random.default_rng(0)
    for path in places(whole):
        for value in (GONE, KINDS[rng.integers(len(KINDS))], KINDS[rng.integers(len(KINDS))]):
            card = copy.deepcopy(whole)
            place: Any = card
            for part in path[:-1]:
                place = place[part]
            if value is GONE:
                del place[path[-1]]
            else:
                place[path[-1]] = value
            yield {"card": card}
    text = yaml.safe_dump(whole, sort_keys=False)
    yield from ({"card": text[:end]} for end in range(0, len(text), len(text) // 12))
    yield from ({"card": rng.bytes(400)} for _ in range(4))
    weights = (folder / checkpoint.WEIGHTS).read_bytes()
    yield from ({"weights": weights[:end]} for end in range(0, len(weights), len(weights) // 6))
    yield from ({"weights": rng.bytes(400)} for _ in range(2))
    for key in ("head.weight", "head.bias", "heads.other.weight", "pooler.norm.bias"):
        for change in (torch.Tensor.long, torch.Tensor.flatten, lambda t: t[:1], lambda t: None):
            yield {"weights": tensors(folder, **{key: change(load_file(
                folder / checkpoint.WEIGHTS)[key])})}  # fmt: skip


def uses(root: Path) -> dict[str, Callable[[Path], object]]:
    """What people do with a model folder, as far as it is quick."""
    video = write_video(root / "data" / "run" / "a.mp4", moving_bar(4, 1))
    write_video(root / "data" / "walk" / "b.mp4", moving_bar(-4, 2))
    more = {"overwrite": True, "overrides": ["data.workers=0"]}
    return {
        "load": vidinit.load,
        "predict": lambda m: vidinit.predict(m, video, overrides=["data.workers=0"]),
        "eval": lambda m: vidinit.evaluate(m, data=root / "data", out=root / "e", **more),
        "profile": lambda m: vidinit.profile([str(m)], count_only=True),
        "export": lambda m: vidinit.export(m, out=root / "m.safetensors", overwrite=True),
        "finetune": lambda m: vidinit.finetune(
            m, data=root / "data", val=root / "data", out=root / "f", dry_run=True, **more
        ),
        "head": lambda m: vidinit.load(m, head="other"),
    }


def attempt(
    folder: Path, root: Path, faults: list[dict[str, Any]], names: list[str] | None = None
) -> tuple[int, list[str]]:
    """Use damaged folders; how many were refused, and what was said that should not be."""
    ways = {k: v for k, v in uses(root).items() if names is None or k in names}
    refused, wrong = 0, []
    for number, fault in enumerate(faults):
        place = copy_of(folder, root / "m", **fault)
        todo = ways if number % 8 == 0 or names else dict([list(ways.items())[number % len(ways)]])
        for name, use in todo.items():
            try:
                use(place)
            except UsageError as error:
                refused += 1
                if str(root / "m") not in str(error) or len(str(error)) > 700:
                    wrong.append(f"{number} {name}: {error}")
            except Exception as error:
                wrong.append(f"{number} {name}: {type(error).__name__}: {error}")
    return refused, wrong


def watched(seen: list[str]) -> Callable[[str, tuple[Any, ...]], None]:
    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.system", "pickle.find_class", "os.exec", "os.posix_spawn"):
            seen.append(f"{event} {arguments}")

    return watch


def test_a_few_damaged_folders_are_refused_and_run_nothing(folder: Path, tmp_path: Path) -> None:
    faults = list(damaged(folder))[::30]
    seen: list[str] = []
    sys.addaudithook(watched(seen))
    refused, wrong = attempt(folder, tmp_path, faults, ["load", "profile"])
    assert wrong == [] and refused > len(faults)
    assert seen == []


@pytest.mark.slow
def test_damaged_folders_in_all_that_is_done_with_folders(folder: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    refused, wrong = attempt(folder, tmp_path, list(damaged(folder)))
    assert wrong == [] and refused > 150
