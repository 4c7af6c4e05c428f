"""What a release says of itself: one version, whole packages, licenses of all that it brings."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project_file import ROOT, pyproject

import vidinit

PROJECT = pyproject()
LICENSES = (ROOT / "docs" / "licenses.md").read_text()
# How a package may say it, by how the page does.
WORDS = {
    "Apache-2.0": "apache",
    "BSD": "bsd|redistribution and use",
    "BSD-2-Clause": "bsd|redistribution and use",
    "BSD-3-Clause": "bsd|redistribution and use",
    "MIT": "mit",
    "MIT-CMU": "mit-cmu",
    "PSF-like": "python software foundation",
    "zlib": "zlib",
}


def rows() -> dict[str, tuple[str, set[str]]]:
    """The license and the extras of each package of the page, by its canonical name."""
    found = {}
    for line in LICENSES.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) in (3, 4) and re.fullmatch(r"[\w.-]+ [\d.]+", cells[-3]):
            extras = set(re.findall(r"`([a-z]+)`", cells[0])) if len(cells) == 4 else set()
            found[canonicalize_name(cells[-3].split()[0])] = cells[-2], extras
    return found


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_every_package_has_its_license():
    listed = rows()
    assert names(PROJECT["project"]["dependencies"]) <= set(listed)
    assert names(PROJECT["build-system"]["requires"]) <= set(listed)
    for extra, wanted in PROJECT["project"]["optional-dependencies"].items():
        assert names(wanted) == {name for name, (_, extras) in listed.items() if extra in extras}


@pytest.mark.parametrize("name", sorted(rows()))
def test_licenses_are_what_packages_say(name):
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed")
    said = [installed.metadata.get(key) or "" for key in ("License-Expression", "License")]
    said += installed.metadata.get_all("Classifier") or []
    for file in installed.files or []:
        if "license" in file.name.lower() and "info/" in str(file):
            said.append(installed.locate_file(file).read_text(errors="replace")[:2000])
    license = rows()[name][0]
    word = WORDS[license.split()[0].rstrip(",")]
    assert re.search(word, "\n".join(said), flags=re.I), license


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT["project"] and "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "vidinit.version.__version__"
    }
    assert f"\n## {vidinit.__version__}\n" in (ROOT / "docs" / "changelog.md").read_text()


def test_every_package_is_in_the_wheel():
    folders = {file.parent for file in ROOT.glob("vidinit/**/__init__.py")}
    wanted = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    wanted |= {"vidinit.commands", "vidinit.presets"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == wanted
