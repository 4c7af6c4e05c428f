"""R(2+1)D from image ResNets: the rules one by one, and whole networks on still clips."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_support import still_proof

from vidinit.conversion.factor import LIFT, Halves, factor, fit_and_lift, match_eps, split_and_lift
from vidinit.conversion.table import transfer
from vidinit.errors import UsageError
from vidinit.zoo.base import VideoModel
from vidinit.zoo.families.resnet3d import resnet3d, sts_r2plus1d


def responses(halves: Halves, x: Tensor, eps: float) -> Tensor:
    """What arrives behind both halves on one frame, less the running mean of the norm there."""
    out = F.conv2d(x, halves.spatial, padding=1)
    out = F.batch_norm(out, halves.mean, halves.var, halves.gain, halves.shift, eps=eps)
    out = F.conv2d(out.relu(), halves.middle[:, :, None, None])
    return out - halves.outer_mean[:, None, None]


@pytest.fixture(scope="module")
def kernel() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An image kernel of 12 channels, inputs, and the mean and variance of its responses."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 5, 3, 3, generator=generator, dtype=torch.float64)
    x = torch.rand(4, 5, 9, 9, generator=generator, dtype=torch.float64)
    out = F.conv2d(x, weight, padding=1)
    return weight, x, out.mean(dim=(0, 2, 3)), out.var(dim=(0, 2, 3))


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize(
    ("mid", "rule"), [(12, "shift"), (17, "shift"), (24, "sign-split"), (29, "sign-split")]
)
def test_enough_channels_carry_a_kernel_exactly(kernel, mid, rule, eps):
    weight, x, mean, var = kernel
    spare = torch.randn(mid, 5, 3, 3, dtype=torch.float64)
    halves = split_and_lift(weight, mean, var, eps, spare)
    assert halves.rule == rule and halves.error == 0.0
    assert halves.spatial.shape == (mid, 5, 3, 3) and halves.middle.shape == (12, mid)
    want = F.conv2d(x, weight, padding=1) - mean[:, None, None]
    assert (responses(halves, x, eps) - want).abs().max() < 1e-12
    # Split channels know no bounds; lifted ones hold for 20 standard deviations.
    split = min(mid - 12, 12)
    far = F.conv2d(1000 * x, weight, padding=1) - mean[:, None, None]
    reached = (responses(halves, 1000 * x, eps) - far)[:, :split]
    assert split == 0 or reached.abs().max() < 1e-8
    lifted = halves.shift[2 * split : 12 + split]
    assert torch.allclose(lifted, LIFT * (var[split:] + eps).sqrt())


def test_spare_channels_are_random_and_unread(kernel):
    weight, _, mean, var = kernel
    spare = torch.randn(29, 5, 3, 3, dtype=torch.float64)
    halves = split_and_lift(weight, mean, var, 1e-5, spare)
    assert torch.equal(halves.spatial[24:], spare[24:])
    assert (halves.middle[:, 24:] == 0).all() and (halves.middle[:, :24] != 0).any(dim=0).all()
    with pytest.raises(ValueError, match="12 channels do not pass through 11"):
        split_and_lift(weight, mean, var, 1e-5, spare[:11])


def tail(weight: Tensor, rank: int) -> float:
    """Relative error of the best approximation of a rank (Eckart and Young)."""
    values = torch.linalg.svdvals(weight.flatten(1))
    return float(values[rank:].norm() / values.norm())


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_fewer_channels_carry_the_best_fit(kernel, eps):
    weight, x, mean, var = kernel
    halves = fit_and_lift(weight, mean, var, eps, 9)
    assert halves.rule == "low-rank"
    assert halves.error == pytest.approx(tail(weight, 9))
    assert halves.error < 0.6 * tail(weight, 9 // 2)  # what a split into pairs would leave
    product = halves.middle @ halves.spatial.flatten(1)
    assert (product - weight.flatten(1)).norm() / weight.norm() == pytest.approx(halves.error)
    # The lift never comes down to zero, so the network is linear, and its mean is the kernel's.
    got = responses(halves, x, eps)
    want = F.conv2d(x, product.unflatten(1, (5, 3, 3)), padding=1)
    assert (got - (want - want.mean(dim=(0, 2, 3), keepdim=True))).abs().max() < 1e-12
    assert halves.middle.abs().max() < 4.0


def test_a_kernel_of_low_rank_passes_exactly(kernel):
    _, x, _, _ = kernel
    thin = torch.randn(12, 7, dtype=torch.float64) @ torch.randn(7, 45, dtype=torch.float64)
    weight = thin.unflatten(1, (5, 3, 3))
    out = F.conv2d(x, weight, padding=1)
    mean, var = out.mean(dim=(0, 2, 3)), out.var(dim=(0, 2, 3))
    halves = fit_and_lift(weight, mean, var, 1e-5, 7)
    assert halves.error < 1e-12
    assert (responses(halves, x, 1e-5) - (out - mean[:, None, None])).abs().max() < 1e-10


def test_norms_of_another_eps_do_the_same():
    gain = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    var = torch.tensor([0.0, 5e-4, 0.7], dtype=torch.float64)  # two are below the difference
    for eps, new_eps in ((1e-5, 1e-3), (1e-3, 1e-5)):
        new_gain, new_var = match_eps(gain, var, eps, new_eps)
        assert (new_var >= 0).all()
        want, got = gain / (var + eps).sqrt(), new_gain / (new_var + new_eps).sqrt()
        assert torch.allclose(got, want, rtol=1e-12)
    assert new_gain[2] == gain[2] and new_var[2] == var[2] + 1e-3 - 1e-5


@pytest.fixture(scope="module")
def image_net() -> nn.Module:
    """A ResNet-18 whose norms know its activations, and are no identities."""
    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=7, zero_init_last=False).train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, 48, 48))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return net.eval()


def still_difference(model: VideoModel, image: nn.Module, *counts: int) -> float:
    """Largest difference of a logit on still clips of these lengths, relative to the largest."""
    proofs = [still_proof(image, model, count, 64) for count in counts]
    return max(proof.max_difference / proof.scale for proof in proofs)


@pytest.mark.parametrize("midplanes", ["per_block", "per_conv"])
@pytest.mark.parametrize("eps", [pytest.param(1e-5, marks=pytest.mark.slow), 1e-3])
def test_a_wide_stem_makes_r2plus1d_exact(image_net, midplanes, eps):
    model = resnet3d(
        7, kind="r2plus1d", depth=18, midplanes=midplanes, bn_eps=eps, stem="wide"
    ).eval()
    state = image_net.state_dict()
    made, notes = factor(model, state)
    assert {made[k].rule for k in made if k.startswith("stem.")} <= {"sign-split", "copy"}
    assert made["layer2.0.conv1.0.0.weight"].rule == "shift"
    twice = "shift" if midplanes == "per_block" else "sign-split"
    assert made["layer2.0.conv2.0.3.weight"].rule == twice
    assert len(notes) == 1 and "20 standard deviations" in notes[0]
    transfer(model, state, "fc", "center", made)  # complains of tensors without a place
    assert still_difference(model, image_net, 1, 5) < 1e-5


def test_a_narrow_stem_is_fitted(image_net):
    model = resnet3d(7, kind="r2plus1d", depth=18).eval()
    made, notes = factor(model, image_net.state_dict())
    transfer(model, image_net.state_dict(), "fc", "center", made)
    error = tail(image_net.conv1.weight.detach().double(), 45)
    assert notes[0].startswith("conv1.weight passes 45 channels instead of 64")
    assert notes[0].endswith(f"relative error of {error:.3g}")
    assert made["stem.4.running_mean"].rule == "low-rank"


@pytest.mark.parametrize("sts", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_sts_r2plus1d_is_exact_but_for_its_shortcuts(image_net, sts):
    model = sts_r2plus1d(7, depth=18, sts=sts).eval()
    made, notes = factor(model, image_net.state_dict())
    assert [note.split(".")[0] for note in notes[:-1]] == ["layer2", "layer3", "layer4"]
    assert made["stem.3.weight"].rule == "shift"  # 83 channels for 64
    transfer(model, image_net.state_dict(), "fc", "center", made)
    assert 1e-3 < still_difference(model, image_net, 1, 3) < 0.5
    # With shortcuts that fit into 54, 109 and 219 channels nothing is lost.
    thin = copy.deepcopy(image_net)
    for stage, mid in ((2, 54), (3, 109), (4, 219)):
        shortcut = getattr(thin, f"layer{stage}")[0].downsample
        weight = shortcut[0].weight.detach().flatten(1).double()
        left = torch.linalg.svd(weight, full_matrices=False)[0][:, :mid]
        shortcut[0].weight.data = (left @ (left.T @ weight)).float()[:, :, None, None]
        mean = shortcut[1].running_mean
        mean.copy_((left @ (left.T @ mean.double())).float())
    made, _ = factor(model, thin.state_dict())
    transfer(model, thin.state_dict(), "fc", "center", made)
    assert still_difference(model, thin, 1, 4) < 1e-4


def test_train_mode_agrees_too_and_every_channel_learns(image_net):
    image = copy.deepcopy(image_net).train()
    model = resnet3d(7, kind="r2plus1d", depth=18, midplanes="per_conv", stem="wide").train()
    made, _ = factor(model, image.state_dict())
    transfer(model, image.state_dict(), "fc", "center", made)
    x = torch.randn(8, 3, 48, 48)
    got, want = model(x.unsqueeze(2)), image(x)
    assert (got - want).abs().max() < 1e-2 * want.abs().max()
    got.square().sum().backward()
    halves = model.layer1[0].conv1[0]
    spare = slice(2 * 64, None)
    assert halves[3].weight.grad[:, spare, 1].abs().amax(dim=0).min() > 0
    assert halves[0].weight.grad[: 2 * 64].abs().amax(dim=(1, 2, 3)).min() > 0
    assert (halves[0].weight.grad[spare] == 0).all()  # from the second step on


def test_seed_and_errors(image_net):
    state = image_net.state_dict()
    model = resnet3d(7, kind="r2plus1d", depth=18)
    first, again, other = (factor(model, state, seed)[0] for seed in (1, 1, 2))
    key = "layer1.0.conv1.0.0.weight"
    assert torch.equal(first[key].value, again[key].value)
    assert not torch.equal(first[key].value, other[key].value)
    assert torch.equal(first[key].value[:128], other[key].value[:128])
    with pytest.raises(UsageError, match=r"layer1.0.bn1.running_mean should be \(64,\).*nothing"):
        factor(model, {k: v for k, v in state.items() if "layer1.0.bn1" not in k})
    with pytest.raises(UsageError, match=r"conv1.weight should be \(64, 3, 7, 7\)"):
        factor(model, {**state, "conv1.weight": torch.zeros(64, 3, 3, 3)})
