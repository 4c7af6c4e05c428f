"""Networks that are not trained, as parts of what is: run checkpoints hold a digest of them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...errors import UsageError

DIGEST = "digest"  # key of what stands for the network in a state dict that leaves it out

Self = TypeVar("Self", bound="FrozenNetwork")


class NamesFrozen(nn.Module):
    """A module whose state dict may have a digest in place of a network in it that is not trained.

    A subclass says in `inside` what it calls the network.

    Attributes:
        inside: name of the child that is the network.
        what: the network in words, for a message.
        own: names of the network's tensors that are no part of what is frozen.
        left_out: True where `state_dict` has a digest of what is frozen in place of it.
    """

    inside: str
    what: str
    own: frozenset[str]

    def __init__(self) -> None:
        super().__init__()
        self.own = frozenset()
        self.left_out = False
        self.register_load_state_dict_post_hook(_forgive_left_out)

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self.get_submodule(self.inside)

    def is_frozen(self, key: str) -> bool:
        """True for a key of this module's state dict that is of what is frozen."""
        start = f"{self.inside}."
        return key.startswith(start) and key.removeprefix(start) not in self.own

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The weights, or while they are `left_out` a digest of them, uint8 (32,)."""
        if not self.left_out:
            return super().state_dict(*args, **kwargs)
        out, prefix = kwargs.get("destination"), kwargs.get("prefix", "")
        out = {} if out is None else out
        out[prefix + DIGEST] = self._digest()
        for key, value in super().state_dict(keep_vars=kwargs.get("keep_vars", False)).items():
            if not self.is_frozen(key):
                out[prefix + key] = value
        return out

    def _digest(self) -> Tensor:
        text = digest(self.network, without=self.own)
        return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        found = state.pop(prefix + DIGEST, None)
        self._found = None if found is None else prefix
        if found is not None and not torch.equal(found.cpu(), self._digest()):
            raise UsageError(
                f"the frozen {self.what} is not the one of the saved state, which has only its "
                "digest",
                "start from the same model",
            )
        super()._load_from_state_dict(state, prefix, *rest)


class FrozenNetwork(NamesFrozen):
    """A module around a network that is not trained, but for a few of its tensors perhaps.

    It is always in eval mode. Gradients may flow through it to what is trained before or inside it.
    A subclass sets the network before `freeze` is called.
    """

    what = "tower"

    @property
    def trained(self) -> frozenset[str]:
        """Names of the network's tensors that are trained."""
        return self.own

    def freeze(self, trained: Collection[str] = ()) -> None:
        """Take the network's parameters out of training, but for those named, and go to eval mode.

        Args:
            trained: tensors that stay in training, by their names in the network.
        """
        self.own = frozenset(trained)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in self.own)
        self.eval()

    def train(self: Self, mode: bool = True) -> Self:
        """Stays in eval mode."""
        return super().train(False)


def _forgive_left_out(module: nn.Module, keys: Any) -> None:
    """Weights of which a state dict has the digest are not missing from it."""
    prefix = module.__dict__.pop("_found", None)
    if prefix is not None:
        assert isinstance(module, NamesFrozen)
        keys.missing_keys[:] = [
            key
            for key in keys.missing_keys
            if not (key.startswith(prefix) and module.is_frozen(key.removeprefix(prefix)))
        ]


@contextlib.contextmanager
def towers_left_out(modules: Sequence[nn.Module]) -> Iterator[None]:
    """A context in which state dicts of modules have digests in place of frozen networks."""
    towers = [m for module in modules for m in module.modules() if isinstance(m, NamesFrozen)]
    for tower in towers:
        tower.left_out = True
    try:
        yield
    finally:
        for tower in towers:
            tower.left_out = False


def digest(network: nn.Module, without: Collection[str] = ()) -> str:
    """sha256 of a network's weights, hexadecimal: of names, types, shapes and bytes, by name.

    Args:
        network: any module.
        without: names of tensors that do not count.
    """
    out = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if key in without:
            continue
        plain = value.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        out.update(f"{key} {plain.dtype} {tuple(plain.shape)}\n".encode())
        out.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()
