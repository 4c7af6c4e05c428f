"""Teachers by name, and distillation from the command line's words to a model folder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import timm
import torch
from pipelines.distill.distill_support import losses, run, tiny_teacher, weights
from support import imported_by, shake_norms

import vidinit
from vidinit.errors import DataError, UsageError, VidinitError
from vidinit.pipelines.distill.settings import DistillSection, parse_teacher, parse_teachers
from vidinit.pipelines.distill.teachers import load_source, make_teacher
from vidinit.zoo.images.teacher_names import TEACHERS, NamedTeacher
from vidinit.zoo.spec import ClipSpec

CPU = torch.device("cpu")
LITE = "imagenet-lite,size=32"


def loaded(text: str, spec: ClipSpec | None = None, **section: Any) -> Any:
    settings = parse_teacher(text)
    whole = DistillSection(teachers=[text], **section)
    return make_teacher(settings, load_source(settings), whole, spec or ClipSpec(size=64), CPU)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights: a classifier of 365 classes, an embedding, and a folder as on timm's hub."""
    root = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    places = timm.create_model("resnet18", num_classes=365)
    shake_norms(places)
    # As published: wrapped in DataParallel, before norms counted batches, in the old format.
    state = {f"module.{k}": v for k, v in places.state_dict().items() if "num_batches" not in k}
    held = {"epoch": 90, "arch": "resnet18", "state_dict": state, "best_prec1": torch.tensor(54.7)}
    torch.save(held, root / "resnet18_places365.pth.tar", _use_new_zipfile_serialization=False)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    torch.save(vit.state_dict(), root / "vit.pth")
    hub = root / "hub"
    hub.mkdir()
    small = timm.create_model("mobilenetv2_050", num_classes=7)
    shake_norms(small)
    torch.save(small.state_dict(), hub / "pytorch_model.bin")
    cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "input_size": [3, 96, 96]}
    card = {"architecture": "mobilenetv2_050", "num_classes": 7, "pretrained_cfg": cfg}
    (hub / "config.json").write_text(json.dumps(card))
    return {"places": root / "resnet18_places365.pth.tar", "vit": root / "vit.pth", "hub": hub}


# ------------------------------------------------------------------ names and settings


def test_settings_of_one_teacher():
    one = parse_teacher("resnet50=r50.pth,name=mine,weight=0.5,size=160,view=frame,keep=0.3")
    assert (one.model, one.file, one.name, one.weight) == ("resnet50", "r50.pth", "mine", 0.5)
    assert (one.size, one.view, one.keep, one.loss) == (160, "frame", 0.3, None)
    assert parse_teacher("dinov2,size=crop").size == "crop"


@pytest.mark.parametrize(
    ("teachers", "section", "told"),
    [
        (["imagenet", "imagenet"], {}, "two teachers are called 'imagenet'"),
        (["imagenet=nowhere.pth"], {}, "no such weights file: nowhere.pth"),
        (["places"], {}, "--teacher places=FILE"),
        (["imagenet,wieght=2"], {}, "unknown setting 'wieght=2'.*did you mean 'weight'"),
        (["imagenet,weight=no"], {}, "weight of teacher 'imagenet'.*'no'"),
        (["imagenet,size=0.5"], {}, "size of teacher 'imagenet'"),
        (["=x"], {}, "is no teacher"),
        (["dinov2,output=logits"], {}, "has no class logits"),
        (["dinov2,keep=0.5"], {}, "gives features: keep is for class logits"),
        (["dinov2,loss=ce"], {}, "gives features: loss=ce is for logits; use loss=cosine"),
        (["imagenet,loss=cosine"], {}, "gives logits: loss=cosine is for features"),
        (["imagenet,standardize=whiten"], {}, "standardize is for features"),
        (["imagenet,keep=0.5,max_entropy=2"], {}, "both keep and max_entropy"),
        (["imagenet"], {"keep": 0.5, "max_entropy": 2}, "are both given"),
        (["imagenet"], {"cache": "x"}, "nothing can be cached; add distill.view=frame"),
        (["imagenet,view=clip"], {"cache": "x", "view": "frame"}, "nothing can be cached"),
    ],
)
def test_what_does_not_go_together_is_refused(teachers, section, told):
    with pytest.raises(UsageError, match=told):
        parse_teachers(DistillSection(teachers=teachers, **section))


def test_teachers_are_checked_before_anything_heavy_is_imported():
    code = (
        "from vidinit.pipelines.distill.settings import DistillSection, parse_teachers\n"
        "parse_teachers(DistillSection())"
    )
    assert imported_by(code, "torch", "timm") == []


def test_a_name_that_is_almost_right():
    with pytest.raises(UsageError, match="'imagenet-light'; did you mean 'imagenet-lite'"):
        load_source(parse_teacher("imagenet-light"))


def test_the_table_names_networks_that_timm_has():
    for name, entry in TEACHERS.items():
        cfg = timm.get_pretrained_cfg(entry.timm)
        assert cfg is not None and timm.is_model(entry.timm.split(".")[0]), name
        assert (cfg.num_classes > 999) == (entry.output == "logits")
        if entry.output == "features" and cfg.num_classes:
            assert str(cfg.num_classes) in entry.about


def test_the_table_is_listed():
    from typer.testing import CliRunner
    from vidinit.commands import app

    done = CliRunner().invoke(app, ["list", "teachers"])
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == set(TEACHERS) and "resnet50 " in lines["places"]
    assert all(TEACHERS[name].timm in line for name, line in lines.items())


# ------------------------------------------------------------------ loading


def test_places_files_as_published(files, monkeypatch):
    small = NamedTeacher("resnet18", "logits", "", crop_pct=0.875, interpolation="bilinear")
    monkeypatch.setitem(TEACHERS, "places", small)  # a ResNet-50 of them has the same form
    each = loaded(f"places={files['places']}", view="frame")
    assert (each.width, each.classes, each.size) == (365, None, 224)
    assert (each.view.crop_pct, each.view.interpolation) == (0.875, "bilinear")
    assert each.mean == (0.485, 0.456, 0.406) and not each.model.training
    assert not any(p.requires_grad for p in each.model.parameters())
    held = torch.load(files["places"], weights_only=True)["state_dict"]
    assert torch.equal(each.model.fc.weight, held["module.fc.weight"])


class Python2(pickle._Pickler):
    """Pickles texts as Python 2 did, as bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str


def test_texts_of_python_2_pickles_are_read(tmp_path):
    """The published files were written by Python 2."""

    def dump(value: Any, file: Any, protocol: int) -> None:
        Python2(file, protocol).dump(value)

    python2 = SimpleNamespace(Pickler=Python2, dump=dump, __name__="pickle")
    model = timm.create_model("mobilenetv2_050", num_classes=3)
    file = tmp_path / "old.pth.tar"
    held = {"arch": "mobilenetv2_050", "state_dict": model.state_dict()}
    torch.save(held, file, pickle_module=python2, _use_new_zipfile_serialization=False)
    assert b"U\nstate_dict" in file.read_bytes()
    each = loaded(f"mobilenetv2_050={file}", size="crop")
    assert torch.equal(each.model.classifier.weight, model.classifier.weight)


def test_networks_by_a_local_hub_folder(files):
    each = loaded(f"local-dir:{files['hub']},name=mine", size="own")
    assert (each.name, each.width, each.size) == ("mine", 7, 96)
    assert (each.mean, each.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    features = loaded(f"local-dir:{files['hub']},name=mine,output=features,pixels=half")
    assert features.width == 1280 and features.objective.loss == "cosine"
    assert features.mean == (0.5, 0.5, 0.5) and features.classes is None


def test_a_network_without_a_classifier(files):
    name = f"vit_tiny_patch16_224={files['vit']}"
    each = loaded(name, view="frame")
    assert (each.width, each.size, each.view.size) == (192, 224, 224)
    assert each.objective.loss == "cosine" and each.objective.standardize == "layernorm"
    small = loaded(f"{name},size=crop,loss=smooth-l1,standardize=whiten")
    assert small.size == 64 and small.outputs(torch.zeros(2, 3, 64, 64)).shape == (2, 192)
    with pytest.raises(UsageError, match="has no classifier; use one with class logits"):
        loaded(f"{name},output=logits")
    with pytest.raises(UsageError, match="loss=ce is for logits"):
        loaded(f"{name},loss=ce")
    with pytest.raises(
        UsageError, match=r"takes no images of 8 pixels .*use size=own, which is 224"
    ):
        loaded(f"{name},size=8")


def test_a_hub_out_of_reach_tells_the_ways(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(VidinitError, match="pass a local file with --teacher dinov3=FILE"):
        load_source(parse_teacher("dinov3"))


# ------------------------------------------------------------------ runs


@pytest.mark.slow
def test_the_order_of_teachers_does_not_matter(motion_set, tmp_path):
    both = [f"{tiny_teacher(tmp_path / f'{n}.pth', n)},name={n},weight=0.{n}" for n in (2, 5)]
    run(motion_set, tmp_path / "a", *both)
    run(motion_set, tmp_path / "b", *reversed(both))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert set(losses(tmp_path / "a")[0]) == {"loss", "loss_2", "loss_5"}


@pytest.mark.slow
def test_confidence_and_features_from_a_first_pass(files, motion_set, tmp_path):
    vit = f"vit_tiny_patch16_224={files['vit']},size=32,standardize=whiten"
    out, sure = tmp_path / "run", tiny_teacher(tmp_path / "9.pth")
    run(motion_set, out, vit, sure, keep=0.5, picks="uniform:2")
    found = np.load(out / "first_pass.npz")
    nats = found["mobilenetv2_050/entropies"]
    assert nats.shape == (4,) and ((nats > 0) & (nats < np.log(9))).all()  # a batch of six videos
    assert found["vit_tiny_patch16_224/matrix"].shape == (192, 192)
    page = (out / "report.html").read_text()
    assert "Confidence of the teachers" in page and "entropy of the teacher (nats)" in page
    assert vidinit.load(out).num_classes == 9  # of the teacher with classes, not the first one
    with pytest.raises(UsageError, match=r"never as sure as max_entropy=0\.001"):
        run(motion_set, tmp_path / "no", sure, overrides=["distill.max_entropy=0.001"])
    with pytest.raises(UsageError, match="for teachers with class logits"):
        run(motion_set, tmp_path / "none", vit, keep=0.5)
    run(motion_set, out, sure, overwrite=True)  # all that is in it is known to be ours
    assert not (out / "first_pass.npz").exists()


def test_data_that_cannot_be_read(motion_set, tmp_path):
    (tmp_path / "empty" / "val").mkdir(parents=True)
    for text, told in ((None, "empty"), ("no video", r"a\.mp4")):
        if text:
            (tmp_path / "empty" / "val" / "a.mp4").write_text(text)
        with pytest.raises(DataError, match=told):
            run(tmp_path / "empty", tmp_path / "run", LITE)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="center, random, random:K"):
        run(motion_set, tmp_path / "run", LITE, picks="some")


def test_more_picks_than_frames_are_refused(motion_set, tmp_path):
    with pytest.raises(UsageError, match=r"picks=random:5 is more than the clip's 4 frames"):
        run(motion_set, tmp_path / "run", LITE, picks="random:5")
