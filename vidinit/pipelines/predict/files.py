"""Predictions of files, in their order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint import label_kind_of, load_classifier, load_pair, model_folder
from ...console import ProgressBar, say
from ...data.index import known_probes
from ...data.loading.loader import eval_loader
from ...data.loading.quarantine import Quarantine
from ...data.rows import LabelKind, Row, Rows
from ...engine.accelerators import make_accelerator
from ...errors import UsageError
from ...files import written
from ...measure.speed import pick_device
from ...scoring.score import Output, outputs_of
from ...zoo.base import VideoModel
from ...zoo.build import create_model
from ...zoo.pair import PairModel, trunk_of
from ...zoo.probabilities import ranked
from ...zoo.spec import ClipSpec
from ...zoo.view_outputs import unprobed_views, videos_at_once
from ..evaluate.settings import EvaluateConfig
from ..shared.clips import workers_of
from ..shared.modality import set_spec
from .lines import Prediction


def open_predictor(
    model: VideoModel | PairModel | str | Path,
    config: EvaluateConfig,
    files: list[str],
    topk: int,
    tell: Callable[[Prediction], None] | None,
) -> Predictor:
    """The model on its device, with its files.

    Raises:
        UsageError: it gives no classes, or has no such head.
    """
    if not isinstance(model, (str, Path)):
        config.device = next(model.parameters()).device.type  # type: ignore[assignment]
    pick_device(config.device)
    accelerator = make_accelerator(config, seed=config.seed)
    if isinstance(model, (str, Path)):
        model = _load(config).to(accelerator.device)
    trunk = trunk_of(model)
    if trunk.num_classes == 0:
        raise UsageError(
            f"{config.model} has no classes to predict", "fine-tune it, or compare it with texts "
            "(vidinit eval --zero-shot)",
        )  # fmt: skip
    spec = set_spec(trunk, config.data)
    heads = model.class_names_by_head()
    return Predictor(model, spec, heads, config, accelerator, files, topk, tell)


def _load(config: EvaluateConfig) -> VideoModel | PairModel:
    """The model of a zoo name or a folder, with all the heads that its predictions take."""
    if model_folder(config.model) is None:
        if config.head is not None:
            raise UsageError(f"{config.model} is a zoo name and has one head", "leave --head out")
        say(f"{config.model}: a zoo name, so its weights are random and its classes numbers")
        return create_model(config.model)
    if config.head is None and label_kind_of(config.model) == "pair":
        return load_pair(config.model)
    return load_classifier(config.model, head=config.head)


@dataclass(frozen=True)
class Predictor:
    """A model, and the files that it predicts the classes of.

    Attributes:
        model: on its device.
        spec: how clips are cut and normalized.
        heads: see `VideoModel.class_names_by_head`.
        config: everything else about reading and computing.
        accelerator: gives the precision.
        files: in their order, as the user named them.
        topk: classes of a prediction.
        tell: called with each prediction as soon as it is known.
    """

    model: VideoModel | PairModel
    spec: ClipSpec
    heads: dict[str, list[str]]
    config: EvaluateConfig
    accelerator: Any
    files: list[str]
    topk: int
    tell: Callable[[Prediction], None] | None

    @property
    def label_kind(self) -> LabelKind:
        """Of the labels that the model is for."""
        return trunk_of(self.model).label_kind

    def views(self) -> dict[str, Any]:
        """Options of the views of videos, as `zoo.view_outputs.views_of` takes them."""
        data, views = self.config.data, self.config.eval
        return {
            "clips": views.clips,
            "crops": views.crops,
            "start": views.start,
            "reader": data.reader,
            "decode_side": data.decode_side,
        }

    def predict(self, file: str, output: Output) -> Prediction:
        """The most probable classes of an output, handed to ``tell`` at once."""
        start, end = output.span or (None, None)
        best: dict[str, Any] = {"classes": []}
        if output.probabilities is not None:
            best = ranked(self.heads, output.probabilities, self.topk)
        if output.kept:
            say(f"note: {file}: {output.kept}")
        prediction = Prediction(
            file, error=output.error, start=start, end=end, kept=output.kept or None, **best
        )
        return self.emit(prediction)

    def emit(self, prediction: Prediction) -> Prediction:
        """Hand a prediction to ``tell``, and return it."""
        if self.tell is not None:
            self.tell(prediction)
        return prediction

    @contextmanager
    def progress(self, noun: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar, unless predictions that appear on the terminal show the progress."""
        if self.tell is not None and sys.stdout.isatty():
            yield lambda done, total: None
            return
        with ProgressBar("predicting", noun) as bar:
            yield bar.update

    def predict_files(self, features: Path | None = None) -> list[Prediction]:
        """A prediction of each file.

        Args:
            features: where to write the embeddings of those that can be read.
        """
        data, views = self.config.data, self.config.eval
        rows, reasons = known_probes(Rows(tuple(Row(file) for file in self.files)), data.partial)
        loader = eval_loader(
            unprobed_views(rows, self.spec, partial=data.partial, **self.views()),
            batch_size=videos_at_once(self.spec, data.clips, views.clips * views.crops),
            workers=workers_of(data, 1),
            deadline=data.deadline,
            quarantine=Quarantine(reasons),
        )
        predictions: list[Prediction] = []
        vectors: list[np.ndarray] = []
        outputs = outputs_of(
            self.model,
            loader,
            self.spec,
            self.accelerator,
            average=self.config.eval.average,
            embeddings=features is not None,
        )
        with self.progress("files") as show:
            for output in outputs:
                predictions.append(self.predict(self.files[output.index], output))
                if output.embedding is not None:
                    vectors.append(output.embedding)
                show(len(predictions), len(self.files))
        if features is not None:
            good = [prediction.file for prediction in predictions if prediction.error is None]
            self._write_embeddings(features, good, vectors)
        return predictions

    def _write_embeddings(self, place: Path, files: list[str], vectors: list[np.ndarray]) -> None:
        width = trunk_of(self.model).num_features
        table = np.array(vectors, dtype=np.float32).reshape(-1, width)
        size, advice = table.nbytes / 1e6, "make room, or name another file"
        with written(place, size=size, advice=advice) as part, part.open("wb") as file:
            np.savez(file, paths=np.array(files, str), features=table, model=self.config.model)
