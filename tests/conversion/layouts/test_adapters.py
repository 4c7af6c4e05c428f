"""Layouts of adapters: files as they are published, our logits, and the files written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from adapter_files import (
    ZERO_PLACES,
    Sizes,
    State,
    aim_imagenet_state,
    aim_logits,
    aim_state,
    clip_tower,
    merged_zeroi2v,
    st_adapter_file,
    st_adapter_logits,
    zeroi2v_logits,
    zeroi2v_state,
)
from support import json_of, run_cli

import vidinit
from vidinit import convert, load
from vidinit.checkpoint import save_model
from vidinit.conversion.layouts.read_write import recognize, write_layout
from vidinit.conversion.report import ConversionReport
from vidinit.errors import UsageError
from vidinit.exports.export import export
from vidinit.zoo.base import VideoModel

SIZES = Sizes()
ARCH = "vit_base_patch16_clip_quickgelu_224"
IMAGENET = "vit_base_patch16_224"
NETWORK = {"embed_dim": 128, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 24}


def saved(content: Any, path: Path | str) -> str:
    torch.save(content, path)
    return str(path)


def some_clips(sizes: Sizes = SIZES, frames: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    shape = (2, 3, frames or sizes.frames, sizes.side, sizes.side)
    return torch.randn(shape, generator=generator)


def assert_same(model: VideoModel, clips: torch.Tensor, wanted: torch.Tensor) -> None:
    with torch.no_grad():
        got = model.eval()(clips)
    assert float((got - wanted).abs().max()) < 1e-5
    assert float(wanted.std()) > 0.05, "the comparison could not fail"


def assert_written_back(folder: Path, layout: str, state: State, tmp_path: Path) -> None:
    """Export writes the file's tensors, all of them and to the bit."""
    export(folder, layout=layout, out=tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def notes_of(report: ConversionReport) -> str:
    return "\n".join(report.notes)


# ------------------------------------------------------------------ ST-Adapter


@pytest.mark.parametrize(
    "sizes, options, recorded",
    [
        (SIZES, {}, {"width": 48, "unread": True}),
        (Sizes(64, 3, 16, 2), {"places": ("mlp",)}, {"places": "mlp", "unread": True, "width": 48}),
        (SIZES, {"kernel": (3, 3, 3), "inner": 32}, {"kernel": "3,3,3"}),
        (Sizes(depth=3), {"blocks": (1, 2)}, {"cut": "top:2"}),
    ],
    ids=["both", "mlp", "kernel", "top"],
)  # fmt: skip
def test_st_adapter_is_read_and_written_back(sizes, options, recorded, tmp_path):
    file, tower = st_adapter_file(sizes, **options), clip_tower(sizes, proj=32)
    path, beside = saved(file, tmp_path / "a.pth"), saved(tower, tmp_path / "clip.pth")
    report = convert(path, "st-adapter-b16", tower=beside, out=tmp_path / "m")
    assert report.layout == "st-adapter" and report.leftovers == [] == report.missing
    assert report.model.spec.frames == 8
    assert any("does not tell its frames: 8" in note for note in report.notes)
    assert recorded.items() <= report.model.options.items()
    model = load(tmp_path / "m")
    for frames in (4, 1, 3):  # kernels take any
        clips = some_clips(sizes, frames)
        assert_same(model, clips, st_adapter_logits(tower, file["model"], clips, sizes))
    assert_written_back(tmp_path / "m", "st-adapter", file["model"], tmp_path)


@pytest.mark.parametrize("form", ["visual", "module", "whole"])
def test_names_of_st_adapters_tower_may_stand_behind_others(form, tmp_path):
    file, tower = st_adapter_file(SIZES), clip_tower(SIZES)
    path, beside = saved(file, tmp_path / "a.pth"), tmp_path / "tower.pth"
    if form == "visual":
        text = {"token_embedding.weight": torch.zeros(4, 8), "logit_scale": torch.ones(())}
        saved({**clip_tower(SIZES, "visual.", proj=32), **text}, beside)
    elif form == "module":
        saved({f"module.{key}": value for key, value in tower.items()}, beside)
        saved({f"module.{key}": value for key, value in file["model"].items()}, path)
    else:
        saved({"model": {**tower, **file["model"]}}, path)
    report = convert(path, "st-adapter-b16", tower=None if form == "whole" else beside)
    clips = some_clips()
    assert_same(report.model, clips, st_adapter_logits(tower, file["model"], clips, SIZES))


def test_st_adapters_tower_under_timms_names(tmp_path):
    vit = timm.create_model(ARCH, num_classes=0, **NETWORK)
    path = saved(st_adapter_file(SIZES), tmp_path / "a.pth")
    tower = saved(vit.state_dict(), tmp_path / "tower.pth")
    model = convert(path, "st-adapter-b16", tower=tower).model
    ours = model.tower.vit.state_dict()
    theirs = vit.state_dict()
    assert set(ours) == set(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_folder_names_the_tower_or_holds_it(tmp_path):
    path = saved(st_adapter_file(SIZES), tmp_path / "a.pth")
    tower = saved(clip_tower(SIZES), tmp_path / "tower.pth")
    report = convert(path, "st-adapter-b16", tower=tower, out=tmp_path / "named")
    assert f"names its tower ({ARCH}): --whole adds it" in notes_of(report)
    assert {(row.stage, row.rule) for row in report.rows} >= {
        ("tower", "read from the tower's file")
    }
    card = yaml.safe_load((tmp_path / "named" / "model.yaml").read_text())
    assert card["tower"]["weights"] == tower
    convert(path, "st-adapter-b16", tower=tower, whole=True, out=tmp_path / "whole")
    Path(tower).unlink()
    with pytest.raises(UsageError, match=r"the frozen tower of .* is gone"):
        load(tmp_path / "named")
    clips = some_clips()
    wanted = st_adapter_logits(clip_tower(SIZES), st_adapter_file(SIZES)["model"], clips, SIZES)
    assert_same(load(tmp_path / "whole"), clips, wanted)


def test_a_model_without_the_adapter_of_no_effect_is_written_with_zeros(tmp_path, capsys):
    model = vidinit.create_model("st-adapter-b16", num_classes=5, width=48, network=NETWORK)
    assert not any(key.startswith("adapters.1.before_mlp") for key in model.state_dict())
    save_model(model, tmp_path / "m")
    export(tmp_path / "m", layout="st-adapter", out=tmp_path / "a.pth")
    assert "of no effect, which the files have, were added as zeros" in capsys.readouterr().err
    back = torch.load(tmp_path / "a.pth", weights_only=True)
    wanted = st_adapter_file(SIZES)["model"]
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in wanted.items()}
    dead = [v for k, v in back.items() if "resblocks.1.adapter_pre_mlp" in k]
    assert len(dead) == 6 and not any(value.any() for value in dead)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_st_adapter_without_its_tower_says_what_to_do(tmp_path):
    path = saved(st_adapter_file(SIZES), tmp_path / "a.pth")
    with pytest.raises(UsageError, match="beside a tower of 2 blocks 128 wide") as caught:
        convert(path, "st-adapter-b16")
    assert "--tower FILE" in str(caught.value.hint)
    for sizes, problem in (
        (Sizes(64), "has 2 blocks 64 wide"),
        (Sizes(depth=3), "has 3 blocks 128 wide"),
    ):
        with pytest.raises(UsageError, match=problem):
            convert(path, "st-adapter-b16", tower=saved(clip_tower(sizes), tmp_path / "t.pth"))
    other = saved({"conv1.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "t.pth")
    with pytest.raises(UsageError, match=r"is no tower of .*'s kind: its names begin with conv1"):
        convert(path, "st-adapter-b16", tower=other)
    with pytest.raises(UsageError, match="no such weights file"):
        convert(path, "st-adapter-b16", tower=tmp_path / "none.pth")
    program = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(program, tmp_path / "script.pt")
    with pytest.raises(UsageError, match="cannot read weights") as caught:
        convert(path, "st-adapter-b16", tower=tmp_path / "script.pt")
    assert "torch.jit.load" in str(caught.value.hint)


def test_a_tower_is_for_files_without_one(tmp_path):
    tower = saved(clip_tower(SIZES), tmp_path / "t.pth")
    whole = saved({"state_dict": aim_state(SIZES)}, tmp_path / "aim.pth")
    for source in (whole, "resnet18"):
        with pytest.raises(UsageError, match="--tower is for a file that holds what was trained"):
            convert(source, "aim-b16" if source == whole else "c2d", tower=tower, pretrained=False)


def test_a_tower_that_is_in_the_file_is_held(tmp_path):
    path = saved({"state_dict": aim_state(SIZES)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="--no-whole: the frozen tower is in"):
        convert(path, "aim-b16", whole=False)
    convert(path, "aim-b16", whole=True, out=tmp_path / "m")
    assert "tower" not in yaml.safe_load((tmp_path / "m" / "model.yaml").read_text())


# ------------------------------------------------------------------ AIM


@pytest.mark.parametrize("time_adapters", [1, 2])
@pytest.mark.parametrize("kind", ["clip", "imagenet"])
def test_aim_is_read_and_written_back(kind, time_adapters, tmp_path):
    timm_names = kind == "imagenet"
    make = aim_imagenet_state if timm_names else aim_state
    state = make(SIZES, time_adapters=time_adapters)
    path = saved({"meta": {"epoch": 3}, "state_dict": state, "optimizer": {}}, tmp_path / "a.pth")
    target = f"aim-{IMAGENET}" if timm_names else "aim-b16"
    report = convert(path, target, out=tmp_path / "m")
    assert report.layout == "aim" and report.leftovers == [] == report.missing
    assert "the file does not tell scale: it is 0.5" in notes_of(report)
    model, clips = load(tmp_path / "m"), some_clips()
    assert (model.spec.frames, model.spec.size) == (SIZES.frames, SIZES.side)
    assert_same(model, clips, aim_logits(state, clips, SIZES, 0.5, timm=timm_names))
    assert_written_back(tmp_path / "m", "aim", state, tmp_path)


def test_aims_scale_is_an_option(tmp_path):
    sizes = Sizes(64, 3, 16, 2, frames=3)
    state = aim_state(sizes)
    path = saved({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    report = convert(path, "aim-b16", scale=1.0, out=tmp_path / "m")
    assert "scale" not in notes_of(report)
    clips = some_clips(sizes)
    assert_same(load(tmp_path / "m"), clips, aim_logits(state, clips, sizes, 1.0))


# ------------------------------------------------------------------ ZeroI2V


@pytest.mark.parametrize("merged", [False, True])
def test_zeroi2v_is_read_and_written_back(merged, tmp_path):
    state = trained = zeroi2v_state(SIZES)
    if merged:
        state = merged_zeroi2v(trained, SIZES.depth, 0.5)
    path = saved(state if merged else {"state_dict": state}, tmp_path / "z.pth")
    report = convert(path, "zero-cost-b16", out=tmp_path / "m")
    assert report.layout == "zeroi2v" and report.leftovers == [] == report.missing
    assert "the file does not tell shift: it is -1:1,+1:1" in notes_of(report)
    assert ("the file does not tell scale: it is 0.5" in notes_of(report)) != merged
    model, clips = load(tmp_path / "m"), some_clips()
    assert_same(model, clips, zeroi2v_logits(trained, clips, SIZES, 0.5, {0: -1, 1: 1}))
    assert_written_back(tmp_path / "m", "zeroi2v", state, tmp_path)


def test_zeroi2vs_scale_and_shift_are_options(tmp_path):
    sizes = Sizes(320, 2, 16, 1)
    state = zeroi2v_state(sizes)
    path = saved({"state_dict": state}, tmp_path / "z.pth")
    model = convert(path, "zero-cost-b16", scale=1.0, shift="-1:1,+1:1,-2:1,+3:1").model
    clips = some_clips(sizes)
    shifts = {0: -1, 1: 1, 2: -2, 3: 3}
    assert_same(model, clips, zeroi2v_logits(state, clips, sizes, 1.0, shifts))


# ------------------------------------------------------------------ told apart


@pytest.mark.parametrize(
    "places, layout",
    [
        (("T_Adapter", "S_Adapter", "MLP_Adapter"), "aim"),
        (("T_Adapter", "T_Adapter_in", "S_Adapter", "MLP_Adapter"), "aim"),
        (ZERO_PLACES, "zeroi2v"),
        ((), "zeroi2v"),
    ],
)
def test_aim_and_zeroi2v_are_told_apart(places, layout):
    found = recognize(zeroi2v_state(SIZES, places=places))
    assert found is not None and (found.layout, found.refusal) == (layout, "")
    other = {"aim": "zeroi2v", "zeroi2v": "aim"}[layout]
    against = recognize(zeroi2v_state(SIZES, places=places), other)
    assert against is None or against.refusal


@pytest.mark.parametrize("size", ["b16", pytest.param("l14", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "plan, layout", [("st-adapter", "st-adapter"), ("aim", "aim"), ("zero-cost", "zeroi2v")]
)
def test_the_published_sizes_are_known_by_name(plan, layout, size):
    with torch.device("meta"):
        state = write_layout(vidinit.create_model(f"{plan}-{size}"), layout)
    found = recognize(state)
    assert found is not None
    assert (found.layout, found.target, found.refusal) == (layout, f"{plan}-{size}", "")
    assert "network" not in found.options and found.num_classes == 400
    assert found.tower == {"b16": (768, 12), "l14": (1024, 24)}[size] or layout != "st-adapter"


def test_what_cannot_be_told_apart_is_asked(tmp_path):
    state = zeroi2v_state(SIZES, places=("S_Adapter", "MLP_Adapter"))
    path = saved({"state_dict": state}, tmp_path / "f.pth")
    with pytest.raises(UsageError, match=r"could be AIM's or ZeroI2V's.*--layout says whose"):
        convert(path, "aim-b16")
    with pytest.raises(UsageError, match="it has no T_Adapter, which AIM has"):
        convert(path, "aim-b16", layout="aim")
    with pytest.raises(UsageError, match="it has no MLP_Adapter_out, T_Adapter_in"):
        convert(path, "zero-cost-b16", layout="zeroi2v")
    mixed = zeroi2v_state(SIZES, places=("T_Adapter", *ZERO_PLACES))
    with pytest.raises(UsageError, match="ZeroI2V has no T_Adapter"):
        convert(saved({"state_dict": mixed}, path), "zero-cost-b16")


def test_other_networks_and_plans_are_refused(tmp_path):
    path = saved({"state_dict": aim_state(SIZES)}, tmp_path / "a.pth")
    alone = {k: v for k, v in aim_state(SIZES).items() if "Adapter" in k or "fc_cls" in k}
    with pytest.raises(UsageError, match="the tower, which AIM's files hold, is not in it"):
        convert(saved({"state_dict": alone}, tmp_path / "b.pth"), "aim-b16")
    for other in ("aim-l14", "zero-cost-b16", f"aim-{IMAGENET}"):
        with pytest.raises(UsageError, match="it is aim-b16, a network with other layers"):
            convert(path, other)
    with pytest.raises(UsageError, match="option 'scales'"):
        convert(path, "aim-b16", scales=1)
    assert convert(path, f"aim-{ARCH}").model.name == f"aim-{ARCH}"


def test_heads_that_are_not_64_wide_are_asked_for(tmp_path):
    odd = Sizes(96, 2, 8, 2)
    path = saved({"state_dict": aim_state(odd)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="does not tell the number of attention heads"):
        convert(path, "aim-b16")
    model = convert(path, "aim-b16", network={"num_heads": 4}).model
    assert model.tower.vit.blocks[0].attn.num_heads == 4
    with pytest.raises(UsageError, match="--option network: 'resnet18' has all the sizes"):
        convert("resnet18", "c2d", pretrained=False, network={"num_heads": 4})


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"network": {**NETWORK, "act_layer": "gelu"}}, "the activation of a CLIP there is"),
        ({"network": {**NETWORK, "reg_tokens": 2}}, "one class token and reads that"),
        ({"network": {**NETWORK, "init_values": 0.1}}, "other layers than a CLIP"),
        ({"network": NETWORK, "cut": "top:1"}, "there all blocks have adapters"),
    ],
    ids=["gelu", "registers", "scale", "cut"],
)  # fmt: skip
def test_models_that_a_layout_cannot_hold_are_refused(options, reason, tmp_path):
    model = vidinit.create_model("aim-b16", num_classes=5, **options)
    with pytest.raises(UsageError, match=reason):
        write_layout(model, "aim")


@pytest.mark.slow
def test_commands_at_the_size_of_vit_b16(tmp_path):
    """Recognition by shapes alone, B/16 at 224 pixels, through the command line."""
    sizes = Sizes(768, 12, 16, 14, classes=400, frames=8)
    clips = some_clips(sizes)[:1]
    tower, file = clip_tower(sizes, proj=512), st_adapter_file(sizes, inner=384, places=("mlp",))
    state = aim_state(sizes)
    zero = zeroi2v_state(sizes)
    cases = (
        ("st-adapter", "st-adapter-b16", file,
         st_adapter_logits(tower, file["model"], clips, sizes)),
        ("aim", "aim-b16", {"state_dict": state}, aim_logits(state, clips, sizes, 0.5)),
        ("zeroi2v", "zero-cost-b16", {"state_dict": zero},
         zeroi2v_logits(zero, clips, sizes, 0.5, {0: -1, 1: 1})),
    )  # fmt: skip
    beside = saved(tower, tmp_path / "tower.pth")
    for layout, name, content, wanted in cases:
        path = saved(content, tmp_path / f"{layout}.pth")
        more = ("--tower", beside) if layout == "st-adapter" else ()
        done = run_cli("convert", path, "--to", name, *more, "--out", tmp_path / layout, "--json")
        found = json_of(done)
        assert found["layout"] == layout and not any(
            "sizes of its own" in n for n in found["notes"]
        )
        model = load(tmp_path / layout)
        assert "network" not in model.options
        assert_same(model, clips, wanted)
        written = tmp_path / f"{layout}-back.pth"
        done = run_cli("export", tmp_path / layout, "--layout", layout, "--out", written)
        assert done.returncode == 0, done.stderr
        back = torch.load(written, weights_only=True)
        own = content.get("model", content.get("state_dict"))
        assert set(back) == set(own) and all(torch.equal(back[k], own[k]) for k in own)
