"""Files that users hand over are read, and nothing in them is run."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Messages among processes of one run, which they make themselves.
OWN_MESSAGES = {"vidinit/data/loading/workers.py", "vidinit/data/loading/shared_memory.py"}
SAFE_WITH = {
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "yaml.load": ("Loader", "_Loader"),
}
NEVER = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load"),
    *("yaml.unsafe_load", "yaml.full_load", "eval", "exec"),
}


def unsafe(text: str) -> list[str]:
    """Calls in a module that would run code that is in a file."""
    wrong = []
    safe_loader = "class _Loader(yaml.SafeLoader)" in text
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
        if name in SAFE_WITH:
            word, value = SAFE_WITH[name]
            if keywords.get(word) != value or (name == "yaml.load" and not safe_loader):
                wrong.append(f"{node.lineno}: {name} without {word}={value}")
        elif name in NEVER:
            wrong.append(f"{node.lineno}: {name}")
    return wrong


def test_the_search_finds_what_it_looks_for() -> None:
    text = (
        "torch.load(f)\ntorch.load(f, weights_only=True)\nnp.load(f)\npickle.loads(b)\nyaml.load(f)"
    )
    assert [one.partition(":")[0] for one in unsafe(text)] == ["1", "3", "4", "5"]


def test_no_loading_runs_code() -> None:
    files = [p for room in ("vidinit", "commands") for p in (ROOT / room).rglob("*.py")]
    assert len(files) > 200
    wrong = {
        str(file.relative_to(ROOT)): found
        for file in files
        if (found := unsafe(file.read_text(encoding="utf-8")))
    }
    assert set(wrong) == OWN_MESSAGES


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.place, "w")


CALLS = (
    "vidinit.convert('resnet18', 's3d', weights=FILE)",
    "vidinit.convert(FILE, 's3d')",
    "vidinit.load(FOLDER)",
    "vidinit.evaluate(predictions=FOLDER)",
    "vidinit.finetune('s3d-mobilenetv2_050', init_from=FOLDER, data=FOLDER)",
    "vidinit.check_data(FOLDER + '/boxes.pkl')",
)


def test_files_of_attackers(tmp_path: Path) -> None:
    """An audit hook sees every class that Python's unpickler would look up."""
    import numpy as np
    import torch

    ran, folder = tmp_path / "ran", tmp_path / "folder"
    folder.mkdir()
    file = folder / "w.pth"
    torch.save({"state_dict": Attack(ran)}, file)
    (folder / "model.yaml").write_text(
        f"!!python/object/apply:builtins.open ['{ran}', w]", encoding="utf-8"
    )
    (folder / "model.safetensors").write_bytes(pickle.dumps(Attack(ran)))
    (folder / "boxes.pkl").write_bytes(pickle.dumps({"gttubes": Attack(ran)}))
    np.savez(folder / "predictions.npz", logits=np.array([Attack(ran)], dtype=object))
    code = f"""
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
import torch, timm, vidinit
from vidinit.errors import VidinitError
FILE, FOLDER = {str(file)!r}, {str(folder)!r}
for call in {CALLS!r}:
    seen.clear()
    try:
        exec(call)
    except VidinitError as error:
        print(len(seen), str(error).count(chr(10)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0"] * len(CALLS), done.stdout + done.stderr
    assert not ran.exists()
