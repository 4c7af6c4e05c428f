"""A sweep: one architecture of every family of timm's, by every plan, with random weights.

    python -m tests.conversion.families [FAMILY ...] [--plans i3d,s3d] [--out FILE] [--meta]

converts for real, small where the network permits, and prints what came of it: how many are exact,
not exact by the plan's own words, not told by the weights, refused with which reasons, and what is
at fault. FILE keeps what is done, a JSON object a line, so that a stopped sweep goes on. With
``--meta`` the models are only built, without memory: ``exact`` is one whose tensors are all
accounted for.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models._registry import _deprecated_models, _module_to_models

import vidinit
from vidinit.errors import UsageError
from vidinit.zoo.build import assemble, plan_of
from vidinit.zoo.images.heads import head_keys
from vidinit.zoo.images.networks import build_image_model
from vidinit.zoo.names import PLANS, Entry, find_target

SMALLEST = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
"""The architecture with the fewest parameters of each of timm's files."""

FAULTS = ("fault", "crash")
KINDS = ("exact", "by design", "not told", "refused", *FAULTS)
BLAMES = re.compile("not made of this|do not fit the model|have no place|image weights (lack|give)")
SIZE = 64  # of the frames, where the network takes such


@dataclass(frozen=True)
class Result:
    """What came of one conversion.

    Attributes:
        family, arch, plan: what was converted.
        kind: one of `KINDS`.
        text: the reason of a refusal or of a difference, or the error.
    """

    family: str
    arch: str
    plan: str
    kind: str
    text: str = ""


def families() -> dict[str, str]:
    """An architecture of every family that this version of timm has, by family."""
    return {
        family: SMALLEST[family] if timm.is_model(SMALLEST.get(family, "")) else smallest(names)
        for family, names in sorted(_module_to_models.items())
    }


def smallest(names: Iterable[str]) -> str:
    """The name of the network with the fewest parameters, the first of equals; no old names."""

    def size(name: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())

    return min(sorted(set(names) - set(_deprecated_models)), key=size)


# ------------------------------------------------------------------ without memory


def account(family: str, arch: str, plan: str) -> Result:
    """Build a plan's model without memory: is every tensor of the image network accounted for?"""
    name, entry = find_target(plan, arch)
    try:
        problem = _unaccounted(arch, name, entry)
    except UsageError as error:
        return Result(family, arch, plan, _refusal(str(error)), str(error))
    except Exception as error:
        return Result(family, arch, plan, "crash", f"{type(error).__name__}: {error}")
    return Result(family, arch, plan, "fault" if problem else "exact", problem)


def _unaccounted(arch: str, name: str, entry: Entry) -> str:
    names, head, classes = _tensors(arch)
    if bool(head) != bool(classes):
        return f"{classes} classes, and {len(head)} tensors of the classifier"
    keeps = plan_of(entry).keeps_classifier
    with torch.device("meta"):
        image = build_image_model(arch, None if keeps else 0)
        model = assemble(image, entry, num_classes=5, name=name)
    sources = {origin.source for origin in model.origins.values() if origin.source} - head
    taken = {names[source] for source in sources if source in names}
    left = [] if keeps else sorted(set(names.values()) - taken)  # a tower keeps what it reads
    new = [k for k in model.state_dict() if k not in model.origins and not k.startswith("head.")]
    problems = {"left": left, "unknown": sorted(sources - set(names)), "of no known origin": new}
    return "; ".join(f"{what}: {keys}" for what, keys in problems.items() if keys)


@functools.cache
def _tensors(arch: str) -> tuple[dict[str, str], frozenset[str], int]:
    """Tensors of a network without its classifier, the classifier's, and its number of classes.

    A tensor that several blocks share has several names; by each of them, its first one.
    """
    with torch.device("meta"):
        image, bare = build_image_model(arch), build_image_model(arch, num_classes=0)
    head = frozenset(head_keys(image, bare))
    first: dict[int, str] = {}
    state = image.state_dict(keep_vars=True)
    names = {key: first.setdefault(id(value), key) for key, value in state.items()}
    return {k: v for k, v in names.items() if k not in head}, head, int(image.num_classes)


# ------------------------------------------------------------------ for real


def convert(family: str, arch: str, plan: str) -> Result:
    """Convert random weights, two frames, and see what the proof says.

    A plan that refuses the network without memory refuses it with weights, in the same words.
    """
    first = account(family, arch, plan)
    if first.kind != "exact":
        return first
    cfg: Any = timm.get_pretrained_cfg(arch)
    sizes = (None,) if cfg is None or cfg.fixed_input_size else (SIZE, None)
    for size in sizes:
        try:
            report = vidinit.convert(arch, plan, pretrained=False, frames=2, size=size)
        except UsageError as error:
            text = str(error)
            if size is not None and f"{size} pixels" in text:
                continue
            return Result(family, arch, plan, _refusal(text), text)
        except Exception as error:
            return Result(family, arch, plan, "crash", f"{type(error).__name__}: {error}"[:300])
        found = plan_of(find_target(plan, arch)[1])
        reason = found.why_inexact(report.model)
        if report.exact is None:
            return Result(family, arch, plan, "not told", str(report.reason))
        if report.exact:
            return Result(family, arch, plan, "exact", f"{report.max_difference:.1e}")
        return Result(family, arch, plan, "by design" if reason else "fault", reason)
    raise AssertionError(f"{arch} takes no images of its own size")


def _refusal(text: str) -> str:
    """``refused``, or ``fault`` for a refusal that blames weights, which are the network's own."""
    return "fault" if BLAMES.search(text) else "refused"


def sweep(
    wanted: Iterable[str],
    plans: Iterable[str],
    out: Path | None,
    one: Callable[[str, str, str], Result] = convert,
) -> list[Result]:
    """Convert all that are wanted; what ``out`` has already is taken from there."""
    known: dict[tuple[str, str], Result] = {}
    if out is not None and out.is_file():
        done = [Result(**json.loads(line)) for line in out.read_text().splitlines()]
        known = {(result.arch, result.plan): result for result in done}
    results = []
    for family in wanted:
        arch = families()[family]
        for plan in plans:
            result = known.get((arch, plan))
            if result is None:
                result = one(family, arch, plan)
                gc.collect()
                if out is not None:
                    with out.open("a") as file:
                        file.write(json.dumps(asdict(result)) + "\n")
            results.append(result)
    return results


# ------------------------------------------------------------------ what is printed


def table(results: list[Result]) -> Iterator[str]:
    """Lines of Markdown: counts by plan, families by plan, refusals by reason, faults."""
    plans = list(dict.fromkeys(result.plan for result in results))
    yield f"| plan | {' | '.join(KINDS)} |"
    yield "|---" * (len(KINDS) + 1) + "|"
    for plan in plans:
        counts = Counter(result.kind for result in results if result.plan == plan)
        yield f"| `{plan}` | {' | '.join(str(counts[kind]) for kind in KINDS)} |"
    yield ""
    yield f"| family | architecture | {' | '.join(plans)} |"
    yield "|---" * (len(plans) + 2) + "|"
    for arch in dict.fromkeys(result.arch for result in results):
        mine = {result.plan: result for result in results if result.arch == arch}
        family = next(iter(mine.values())).family
        cells = [mine[plan].kind if plan in mine else "" for plan in plans]
        yield f"| {family} | `{arch}` | {' | '.join(cells)} |"
    yield ""
    reasons = Counter(
        (result.plan, reason_of(result)) for result in results if result.kind == "refused"
    )
    yield "| plan | refused because | families |"
    yield "|---|---|---|"
    for (plan, reason), count in sorted(reasons.items(), key=lambda item: (item[0][0], -item[1])):
        yield f"| `{plan}` | {reason} | {count} |"
    for result in results:
        if result.kind in FAULTS:
            yield f"{result.kind}: {result.arch} by {result.plan}: {result.text}"


def reason_of(result: Result) -> str:
    """A refusal's words without what is the network's alone: names, kinds of layers, sizes."""
    text = result.text.partition("; ")[0].replace(result.arch, "X")
    text = re.sub(r"\b[a-z]\w*(\.\w+)+\b", "LAYER", text)
    text = re.sub(r"timm's (\w+, )*\w+", "timm's KIND", text)
    return re.sub(r"(?<!\w)\d+(x\d+)?\b", "N", re.sub(r"\([A-Z]\w+\)", "(KIND)", text))


def main() -> None:
    """Sweep, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--plans", default=",".join(PLANS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--meta", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    wanted = args.families or list(families())
    one = account if args.meta else convert
    print("\n".join(table(sweep(wanted, args.plans.split(","), args.out, one))))


if __name__ == "__main__":
    main()
