"""`vidinit.fit`: its keywords are the options of the command, and their texts its help."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ...config import RunConfig
from ...config.layers import flat, override_layer
from ...errors import UsageError
from ..shared.arguments import Overrides, Places, as_places, as_text


def fit(
    videos: Places,
    *,
    val: Places | None = None,
    test: Places | None = None,
    root: str | Path | None = None,
    unlabelled: Places | None = None,
    source: str | None = None,
    budget: str | float = "15m",
    out: str | Path | None = None,
    overrides: Overrides = (),
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """From labeled videos to a model: choose all settings, say why, train, and say how good it is.

    A frozen image network with a solved probe comes first, then the network converted to a video
    model and fine-tuned, and with ``unlabelled`` videos also distilled; the best on the validation
    clips is kept. Each stage is a run folder below ``out``, and ``config.yaml`` there has every
    choice.

    Args:
        videos: as ``data`` of `finetune`: folder per class, folder with train/ and val/, list, ...
        val: validation data in the same forms; default: a split of ``videos``.
        test: data in the same forms that the model that is kept is scored on, once, at the end.
        root: folder that the paths of lists are relative to; default: the list's own.
        unlabelled: videos without labels, to distill on.
        source: what `convert` makes the start of: a timm name, ``NAME=FILE`` with its weights, a
            file, ``hf-hub:USER/NAME``; default: chosen by the machine and the weights at hand.
        budget: time for everything, as 10m, 1h30m or 90s; steps are measured, and the lengths of
            the stages planned to fit.
        out: folder, empty or absent; default runs/fit-<videos>-<n>.
        overrides: settings of the fine-tuning that are not up for choice, as ``data.frames=16``.
        seed: of everything random.
        device, precision: as for `finetune`.
        resume: go on with a fit that was stopped, by the plan that it made.
        overwrite: replace an earlier fit in ``out``.
        dry_run: look, choose and say, and write nothing.

    Returns:
        ``{out, best, watch, score, interval, videos, chance, models, baseline, time, next, answer,
        seconds}``, with ``test`` that too: ``best`` is the folder of the best run, ``models`` has
        each with its scores, ``time`` is ``{needed, text}``, ``next`` a command, ``answer`` a
        sentence. Of a dry run ``{facts, choices}``.

    Raises:
        DataError: no videos, one class, or no class with two clips.
        UsageError: a wrong setting, or no image weights at hand.
        Interrupted: by a signal; ``resume`` goes on.
    """
    from ...config.build import build
    from ...console import say
    from ...engine.run_folder import RunFolder, default_out
    from ...files import check_out, folder_locks
    from ..finetune.settings import FinetuneConfig
    from ..run_set import finished
    from .choose import SOURCE, choose, parse_budget
    from .run import PLAN_FILE, Fit, Request, look_at

    if resume and out is None:
        raise UsageError("--resume needs the folder of the fit", "pass --out DIR")
    if resume and (overwrite or dry_run):
        raise UsageError("--resume goes on, and --overwrite and --dry-run do not", "pass one")
    given = _given(build(FinetuneConfig, overrides=overrides, flags={"model": "c2d"}), overrides)
    if source is not None:
        given[SOURCE] = source
    how = {"device": device, "precision": precision}
    request = Request(
        videos=as_places(videos) or [],
        val=as_places(val),
        test=as_places(test),
        root=as_text(root),
        unlabelled=as_places(unlabelled),
        given=given,
        budget=parse_budget(budget),
        seed=seed,
        how={key: value for key, value in how.items() if value is not None},
    )
    place = Path(out) if out is not None else default_out("fit", _name(request.videos))
    if dry_run:
        _, facts = look_at(request)
        choices = choose(facts, given)
        for choice in choices.values():
            say(f"{choice.key}={choice.value}: {choice.reason}")
        return {
            "facts": facts.as_dict(),
            "choices": {key: one.value for key, one in choices.items()},
        }
    check_out(place, overwrite=overwrite, resume=resume)
    if resume and (done := finished(place)) is not None:
        say(f"{place} is finished: nothing to resume")
        return {**done, "out": str(place)}
    words = ["vidinit", "fit", *([request.videos] if isinstance(request.videos, str) else [])]
    command = shlex.join([*words, "--out", str(place), "--resume"])
    found = None
    if not (resume and (place / PLAN_FILE).is_file()):
        # What is wrong with the data comes before the folder is made.
        rows, facts = look_at(request)
        found = rows, facts, choose(facts, given)
    with folder_locks():
        folder = RunFolder.open(
            place, overwrite=overwrite, resume=resume, config={"command": "finetune"}
        )
        return Fit(request, folder, command, found).run()


def _given(checked: RunConfig, overrides: Overrides) -> dict[str, Any]:
    """The values of overrides by key, as they were understood.

    Raises:
        UsageError: a setting that is not one of clips, training or scoring.
    """
    values = dict(flat(checked.model_dump(mode="json")))
    given = {key: values[key] for key in override_layer(overrides).values}
    for key in given:
        if not key.startswith(("data.", "train.", "eval.")):
            raise UsageError(
                f"{key} cannot be given to a fit",
                "it takes data.*, train.* and eval.*, and --source for the start; "
                "vidinit finetune MODEL takes all settings",
            )
    if given.get("data.split") == "all":
        raise UsageError(
            "data.split=all makes several runs, and a fit has one split",
            "name a split by its number",
        )
    return given


def _name(videos: str | list[str]) -> str:
    """A word for the data, for the name of a folder."""
    first = Path(videos if isinstance(videos, str) else videos[0])
    return first.stem if first.suffix else first.name or "videos"
