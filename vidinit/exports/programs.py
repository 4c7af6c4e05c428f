"""Models as graphs: programs of `torch.export`, ONNX, and the check that they compute the same."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError, VidinitError
from .metadata import EXTRA_FILE, INPUT, KEY, as_text

ONNX_LIMIT = 2**31 - 2**20  # bytes of an ONNX file, less what the graph itself takes
GROSS = 0.01  # share of the largest output that no rounding explains
_TRACED_BATCH = 2  # a batch of one would be taken for a constant
_NOISY = ("onnxscript", "onnx_ir", "torch.onnx", "torch.export", "torch.fx")

Outputs = list[Tensor]
Runner = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class Comparison:
    """The differences between an exported file and its model.

    Attributes:
        batches: sizes that were run.
        max_difference: largest difference of an output, over all batches.
        scale: largest output of the model.
    """

    batches: list[int]
    max_difference: float
    scale: float

    def within(self, tolerance: float) -> bool:
        """True where the difference is at most ``tolerance``, or that share of outputs above 1.

        Of small outputs it has to be small, too: those of a new head, say.
        """
        small = self.max_difference <= tolerance * max(1.0, self.scale)
        return small and self.max_difference <= GROSS * self.scale


def check_size(model: nn.Module) -> None:
    """Raise UsageError for a model that is too large for an ONNX file."""
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if size > ONNX_LIMIT:
        raise UsageError(
            f"an ONNX file holds 2 GB, this model has {size / 1e9:.1f} GB", "use --format torch"
        )


def example(shape: Sequence[int], batch: int) -> Tensor:
    """Normalized clips (batch, C, T, H, W) of noise, the same each time."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def trace(model: nn.Module, shape: Sequence[int]) -> Any:
    """The program of a model for any batch of clips of one shape.

    Args:
        model: on the CPU, in eval mode.
        shape: (C, T, H, W).

    Returns:
        A `torch.export.ExportedProgram`.

    Raises:
        VidinitError: when the model cannot be traced, with torch's reason.
    """
    free = {0: torch.export.Dim("batch", min=1)}
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(
                model, (example(shape, _TRACED_BATCH),), dynamic_shapes=(free,), strict=False
            )
        except Exception as error:  # the tracer raises kinds of its own, and the model's
            raise refusal("torch.export", error) from error
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths on this machine
    return program


def write_program(program: Any, path: Path, metadata: dict[str, Any]) -> None:
    """Write a traced model as a .pt2 file, without the clips it was traced with."""
    program.example_inputs = None
    content = io.BytesIO()  # on a full disk torch's own writer ends the process
    with _quiet():
        torch.export.save(program, content, extra_files={EXTRA_FILE: as_text(metadata)})
    path.write_bytes(content.getbuffer())


def write_onnx(program: Any, shape: Sequence[int], path: Path, metadata: dict[str, Any]) -> None:
    """Write a traced model as an ONNX file.

    Raises:
        VidinitError: when an operator has no translation, with the reason.
    """
    with _quiet(), torch.no_grad():
        try:
            made = torch.onnx.export(
                program,
                (example(shape, _TRACED_BATCH),),
                input_names=[INPUT],
                output_names=metadata["outputs"],
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise refusal("ONNX", error) from error
        assert made is not None
        made.model.metadata_props[KEY] = as_text(metadata)
        made.save(path, external_data=False)


def open_program(path: Path) -> Runner:
    """A function that runs a .pt2 file."""
    with _quiet():
        module = torch.export.load(path).module()

    def run(clips: Tensor) -> Outputs:
        with torch.no_grad():
            return outputs_of(module(clips))

    return run


def open_onnx(path: Path) -> Runner:
    """A function that runs an ONNX file: by ONNX Runtime on the CPU.

    Raises:
        VidinitError: when it does not take the file.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise refusal("ONNX Runtime", error) from error

    def run(clips: Tensor) -> Outputs:
        return [torch.from_numpy(out) for out in session.run(None, {INPUT: clips.numpy()})]

    return run


def outputs_of(result: Any) -> Outputs:
    """The outputs of a model as a list: its logits, or those of each of its heads."""
    return list(result.values()) if isinstance(result, dict) else [result]


def compare(
    model: nn.Module, run: Runner, shape: Sequence[int], batches: Sequence[int]
) -> Comparison:
    """Run a file and the model it was made of on the same clips of noise.

    Args:
        model: on the CPU, in eval mode.
        run: the file.
        shape: (C, T, H, W).
        batches: how many clips at once, one size after the other.
    """
    differences, scale = [], 0.0
    for batch in batches:
        clips = example(shape, batch)
        with torch.no_grad():
            want = outputs_of(model(clips))
        for a, b in zip(run(clips), want, strict=True):
            if a.shape != b.shape:
                raise VidinitError(
                    f"the exported file returns {tuple(a.shape)} for {batch} clips, "
                    f"the model {tuple(b.shape)}"
                )
            differences.append((a - b).abs().max())
            scale = max(scale, float(b.abs().max()))
    worst = float(torch.stack(differences).max())  # a NaN if there is one
    return Comparison(list(batches), worst, scale)


def refusal(what: str, error: Exception) -> VidinitError:
    """The error of a model that cannot be exported: the first line of the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0][:300] if lines else type(error).__name__
    return VidinitError(f"{what} does not take this model", f"it says: {reason}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' warnings and log lines, which are of their own insides, are left out."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
