"""Optional packages: the command that installs those of an extra."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires


def install_extra(extra: str) -> str:
    """``pip install ...`` of the packages of one of our extras, as ``onnx`` or ``flow``.

    They are named one by one, since vidinit itself may be a checkout that no index has.
    """
    from packaging.requirements import Requirement

    try:
        listed = [Requirement(text) for text in requires("vidinit") or ()]
    except PackageNotFoundError:  # run from a folder, without an installation
        listed = []
    wanted = [
        need
        for need in listed
        if need.marker is not None
        and need.marker.evaluate({"extra": extra})
        and not need.marker.evaluate({"extra": ""})
    ]
    packages = [f"{need.name}{need.specifier}" for need in wanted]
    quoted = [f"'{one}'" if set(one) & set("<>~!") else one for one in packages]
    return f"pip install {' '.join(quoted)}" if quoted else f"pip install -e '.[{extra}]'"
