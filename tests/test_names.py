"""`assistant.names`: names in every spelling, and which of them a source holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.figures import Figures
from assistant.names import Names, names_unsupported

SOURCE = (
    "Vision transformers (ViTs) such as ViT-B/16 and MobileNetV2 are compared with ResNet-50 and 101 on ImageNet-1K,"
    " CIFAR-10/100, MSCOCO and VOC 2007 and 2012. Mean average precision and click-through rate improve on A100"
    " cards; a residual network and a state-of-the-art graph neural network with 5 layers do not. Version 1.3 of"
    " ActivityNet v1.3."
)


def wrong(text: str, source: str = SOURCE) -> list[tuple[bool, str]]:
    found = names_unsupported(text, [Names(source)], [Figures(source)])
    return [(is_figure, text[start:end]) for is_figure, start, end in found]


@pytest.mark.parametrize(
    "text",
    [
        "ImageNet", "Imagenet-1k", "ImageNet1K", "ImageNet 1k", "ImageNet-trained", "CIFAR10", "CIFAR-100", "Cifar 100",
        "ViT", "ViTs", "ViT-B/16", "ViTB16", "MobileNet V2", "MobileNet-V2", "ResNet-101", "ResNet101", "RESNETS",
        "COCO", "MS-COCO", "VOC2012", "VOC 2007", "A100", "A-100", "ActivityNet-v1.3", "mAP", "CTR", "SOTA", "GNN",
        "GNNs", "ResNet", "RN", "AI and EVs", "Kinetics and Adam", "the Layers of a Network",
    ],
)  # fmt: skip
def test_a_name_is_held_in_every_spelling(text: str) -> None:
    """Case, hyphens, spaces, plural and acronyms are understood; capitalised words and short ones are no names."""
    assert wrong(text) == []


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("BERT is used", "name", "BERT"),
        ("RoBERTa-large is used", "name", "RoBERTa"),
        ("on iNaturalist images", "name", "iNaturalist"),
        ("with PSNR of", "name", "PSNR"),
        ("on Kinetics-400 clips", "name", "Kinetics-400"),
        ("on WMT14-based data", "name", "WMT14"),
        ("on H100 cards", "name", "H100"),
        ("ResNet-152", "figure", "152"),
        ("ImageNet-21K", "figure", "21"),
        ("CIFAR-1000", "figure", "1000"),
        ("A800 cards", "figure", "800"),
        ("ActivityNet-v1.2", "figure", "1.2"),
        ("ViT-B/17", "figure", "17"),
    ],
)
def test_a_name_that_no_source_holds_is_found_with_its_place(text: str, kind: str, name: str) -> None:
    """A name unknown to the source is one flag; one that is known but for its number is a wrong figure."""
    assert wrong(text) == [(kind == "figure", name)]


def test_any_source_may_hold_a_name() -> None:
    """Names are held together by all sources, among them the question."""
    text = "BERT beats GPT-2 and XLNet."
    sources = [Names("We study BERT."), Names("Is GPT-2 good?")]
    places = names_unsupported(text, sources, [Figures("We study BERT.")])
    assert [text[start:end] for _, start, end in places] == ["XLNet"]


_PARTS = st.sampled_from(
    [*"ABCabcSs0123456789", *"-/._ ", "Net", "BERT", "ViT-B/16", "MobileNetV2", "é", "混合", "10^5"]
)


@given(st.lists(_PARTS | st.text(max_size=4), max_size=40).map("".join))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_text_holds_its_own_names(text: str) -> None:
    """Whatever is a name in a text is found in it again."""
    assert wrong(text, text) == []
    assert all(0 <= start < end <= len(text) for _, start, end in names_unsupported(text, [], []))
