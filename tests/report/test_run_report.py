from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from vidinit.engine.run_folder import RunFolder
from vidinit.pipelines.finetune.settings import FinetuneConfig
from vidinit.report.html import Section
from vidinit.report.run_report import write_report


def read(run: RunFolder) -> tuple[str, list[str]]:
    """The page and the titles of its parts; every picture in it parses."""
    text = (run.root / "report.html").read_text(encoding="utf-8")
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ET.fromstring(svg)
    return text, [unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", text)]


def pictures(text: str) -> list[str]:
    return [unescape(label) for label in re.findall(r'<svg[^>]*aria-label="([^"]*)"', text)]


def full_run(root: Path) -> RunFolder:
    run = RunFolder(root)
    for epoch in (1, 2, 3):
        for step in (2 * epoch - 1, 2 * epoch):
            run.log(epoch=epoch - 1, step=step, loss=1 / step, lr=0.1)
        accuracy = {1: 0.5, 2: 0.9, 3: 0.7}[epoch]
        run.log(epoch=epoch, step=2 * epoch, top1=accuracy, top5=1.0, mean_class_accuracy=0.4)
    run.write_json("result.json", {"steps": 6, "best": 0.9, "missing": [], "views": "2x3"})
    bad = [{"path": "/data/<i>.mp4", "reason": "no frames & no end"}]
    run.write_json("data_health.json", {"files": 11, "good": 10, "bad": bad})
    return run


def test_a_full_run(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    write_report(
        run,
        title="finetune <x>",
        config=FinetuneConfig.model_validate({"model": "r3d50 <&>", "train": {"lr": 0.1}}),
        confusion=np.array([[3, 1], [0, 0]]),
        classes=["walk", "<run>"],
        extra=[Section("Clips", "<em>here</em>")],
    )
    text, titles = read(run)
    shown = ["Training", "Evaluation", "Confusion matrix", "Accuracy per class", "Clips"]
    assert titles == [*shown, "Data health"]
    folded = re.findall(r'<details id="[^"]*"><summary>(.*?)</summary>', text)
    assert folded == ["The run in numbers", "Configuration"]
    assert re.findall(r'"headline">(.*?)<', text) == ["Top-1 accuracy 0.900"]
    assert pictures(text) == [
        "loss over step: loss",
        "learning rate over step: lr",
        "fraction of the videos over epoch: Top-1 accuracy, Top-5 accuracy, Mean class accuracy",
        "confusion matrix of 2 classes: 3 of 4 right",
        "accuracy: walk (4) 0.75",
    ]
    assert "1 classes have no video" in text
    assert "<em>here</em>" in text and "finetune &lt;x&gt;" in text
    assert "/data/&lt;i&gt;.mp4" in text and "no frames &amp; no end" in text
    assert "r3d50 &lt;&amp;&gt;" in text and "  lr: 0.1" in text
    assert "<i>" not in text and "<run>" not in text


def test_the_table_has_the_best_and_the_last_epoch(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    write_report(run, title="t")
    rows = re.findall(r"<tr( class=\"highlight\")?><td class=\"number\">(\d)</td>", read(run)[0])
    assert [(bool(mark), epoch) for mark, epoch in rows] == [(True, "2"), (False, "3")]


def test_parts_that_are_missing_are_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_report(run, title="nothing yet")
    text, titles = read(run)
    assert titles == [] and "<svg" not in text and "nothing yet" in text


def test_sources_of_a_co_training_get_a_chart_each(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2):
        run.log(epoch=0, step=step, loss=3.0, lr=0.1, loss_clips=1.0, loss_photos=2.0)
        run.log(epoch=step, step=step, top1_clips=0.5, top5_clips=0.9, top1_photos=0.25)
    write_report(run, title="t")
    assert pictures(read(run)[0]) == [
        "loss over step: loss, loss_clips, loss_photos",
        "learning rate over step: lr",
        "fraction of the videos over epoch: Top-1 accuracy, Top-5 accuracy",
        "fraction of the videos over epoch: Top-1 accuracy",
    ]


def test_a_loss_that_was_no_number_is_no_point(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log(epoch=0, step=1, loss=float("nan"), lr=0.1)
    run.log(epoch=0, step=2, loss=float("nan"), lr=0.1)
    write_report(run, title="t")
    assert pictures(read(run)[0]) == ["learning rate over step: lr"]


def test_one_epoch_is_a_row_and_no_picture(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log(epoch=0, step=1, loss=1.0, lr=0.1)
    run.log(epoch=1, step=1, data_wait=0.009522, clips_per_second=74.8)
    run.log(epoch=1, step=1, top1=1.0, top5=1.0)
    write_report(run, title="t")
    text, _ = read(run)
    assert pictures(text) == [] and "0.009522" in text
    assert text.index("Top-1 accuracy 1.000") < text.index("<h2>"), "the answer comes first"
    assert text.index("<h2>Evaluation") < text.index("<summary>Speed") < text.index("0.009522")


def test_training_and_validation_are_drawn_together(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        run.log(epoch=epoch - 1, step=epoch, loss=1 / epoch, lr=0.1)
        run.log(epoch=epoch, step=epoch, data_wait=0.1, train_loss=0.5, train_top1=epoch / 3)
        top1 = 0.6 - 0.1 * epoch
        run.log(epoch=epoch, step=epoch, top1=top1, val_loss=epoch, most_predicted=0.4)
    write_report(run, title="t")
    assert pictures(read(run)[0])[:3] == [
        "loss over step: training, validation",
        "learning rate over step: lr",
        "fraction of the videos over epoch: Top-1 accuracy, Top-1 accuracy, training",
    ]


def answer_texts(run: RunFolder) -> tuple[str, str, list[str]]:
    text, _ = read(run)
    (headline,), (verdict,) = (
        re.findall(f'class="{name}">(.*?)</p>', text) for name in ("headline", "verdict")
    )
    return unescape(headline), unescape(verdict), re.findall(r"<li>(.*?)</li>", text)


def test_the_answer_of_a_training_has_its_interval_and_what_is_wrong(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log(epoch=1, step=1, data_wait=0.1, train_top1=0.9)
    best = {"epoch": 3, "top1": 0.8, "interval": [0.7, 0.88]}
    scores = {"best": best, "last": {"epoch": 5, "top1": 0.75, "interval": [0.64, 0.83]}}
    health = [
        {"check": "x", "text": "validation loss rises since epoch 3", "advice": "stop <there>"}
    ]
    run.write_json("result.json", {"scores": {**scores, "clips": 78}, "health": health})
    write_report(run, title="t", confusion=np.eye(4, dtype=int), classes=list("abcd"))
    headline, verdict, advice = answer_texts(run)
    assert headline == "Top-1 accuracy 0.800 on 78 validation clips"
    assert verdict.startswith("That is above chance (0.25), 3.2 times as much. It is epoch 3,")
    assert verdict.endswith("the last one has 0.750.")
    assert advice == ["validation loss rises since epoch 3: stop &lt;there&gt;"]
    bars = re.findall(r'class="length" style="width: ([\d.]+)%', read(run)[0])
    assert bars == ["80.00", "75.00", "90.00"]
    best["interval"] = [0.2, 0.9]
    run.write_json("result.json", {"scores": {"best": best, "clips": 4}})
    write_report(run, title="t", confusion=np.eye(4, dtype=int), classes=list("abcd"))
    assert "not told apart from chance (0.25)" in answer_texts(run)[1]


def test_the_answer_of_a_training_without_scores_is_its_loss(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in range(1, 21):
        run.log(epoch=0, step=step, loss=4.0 if step <= 2 else 1.5, lr=0.1)
    run.write_json("result.json", {"steps": 20, "videos": 32})
    write_report(run, title="t")
    headline, verdict, advice = answer_texts(run)
    assert headline == "20 steps on 32 videos" and "fell, from 4 to 1.5" in verdict and not advice


def test_long_runs_are_drawn_as_means_and_say_so(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    lines = (f'{{"epoch": 0, "step": {i}, "loss": {i % 7}, "lr": 0.1}}' for i in range(1, 1801))
    run.metrics_file.write_text("\n".join(lines))
    write_report(run, title="t")
    text, _ = read(run)
    assert "Each point is the mean of 4 logged steps." in text and len(text) < 150_000


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    write_report(RunFolder(tmp_path, writes=False), title="t")
    assert not list(tmp_path.iterdir())


def test_class_names_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        write_report(
            RunFolder(tmp_path), title="t", confusion=np.eye(2, dtype=int), classes=["a", "b", "c"]
        )
