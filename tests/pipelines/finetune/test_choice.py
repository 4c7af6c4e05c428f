from __future__ import annotations

from pathlib import Path

import pytest

from vidinit.config import TrainConfig
from vidinit.data.rows import Row, Rows
from vidinit.errors import UsageError
from vidinit.pipelines.finetune.choice import for_choice, group_of, record

TWO = {"probes": ["linear:lr=1|2"]}


def rows_of(*names: str) -> Rows:
    """Rows of files in two classes, by the first letter."""
    return Rows(tuple(Row(name, label=int(name[0] == "b")) for name in names), ("a", "b"))


def test_a_share_of_each_class() -> None:
    rows = rows_of(*(f"a{i}.mp4" for i in range(20)), *(f"b{i}.mp4" for i in range(5)))
    kept, held = for_choice(rows, TrainConfig(**TWO))
    assert held is not None and len(kept) == 22
    assert sorted(row.label for row in held.rows) == [0, 0, 1]
    assert set(kept.rows) | set(held.rows) == set(rows.rows)
    again = for_choice(rows, TrainConfig(**TWO))[1]
    other = for_choice(rows, TrainConfig(**TWO, seed=1))[1]
    assert again == held and other != held
    more = for_choice(rows, TrainConfig(**TWO, probe_holdout=0.5))[1]
    assert more is not None and len(more) == 12
    written = record(held, TrainConfig(**TWO))
    assert written["clips"][0] == [str(Path(held.rows[0].path).resolve()), None, None]


def test_what_shows_one_scene_stays_together() -> None:
    films = [Row(f"a{i}.mp4", 0, start, start + 1) for i in range(4) for start in (0, 1, 2)]
    ucf = [Row(f"v_Bow_g{g:02}_c{c:02}.avi", 1) for g in range(1, 5) for c in range(1, 4)]
    rows = Rows((*films, *ucf), ("a", "Bow"))
    kept, held = for_choice(rows, TrainConfig(**TWO))
    assert held is not None and len(held) == 6 and len({group_of(row) for row in held.rows}) == 2
    assert {group_of(row) for row in held.rows}.isdisjoint(group_of(row) for row in kept.rows)
    assert group_of(ucf[0]) == "v_Bow_g01" and group_of(films[0]) == "a0.mp4"


def test_nothing_to_choose(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("a0", "a1", "b0", "b1")
    assert for_choice(rows, TrainConfig(probes=["linear"])) == (rows, None)
    assert not capsys.readouterr().err
    assert for_choice(rows, TrainConfig(**TWO, probe_holdout=0)) == (rows, None)
    assert (
        "no clips are held out to choose a probe on, the first is saved" in capsys.readouterr().err
    )
    assert for_choice(rows, TrainConfig(**TWO), scored=False) == (rows, None)
    assert "eval.every=0" in capsys.readouterr().err
    with pytest.raises(UsageError, match="the best of 2 probes is chosen on training clips"):
        for_choice(rows_of("a0", "b0"), TrainConfig(**TWO))
