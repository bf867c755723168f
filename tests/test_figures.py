"""`assistant.figures`: numbers in every spelling, and which of them a source holds."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.figures import Figures, figures_unsupported, quantities

SOURCE = (
    "The tiny model attains 87.1% top-1 accuracy with 26.6 million parameters on ImageNet-1K and CIFAR-10/100. It is"
    " 2.5x faster than ResNet-50, uses ten datasets and 1,281,167 images at 224x224 pixels, halves the memory, needs"
    " 10^5 steps and O(n^2) time, and improves by 48-69% over graphs of 5-10M nodes. Error falls by -3.2 dB on 3D data,"
    " approx25% less. Three-stage training on four tasks takes 30 seconds in 2019."
)


def unsupported(text: str, *sources: str) -> list[str]:
    places = figures_unsupported(text, [Figures(source) for source in sources or (SOURCE,)])
    return [text[start:end] for start, end in places]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,000 and 1000 and 1 000 and 1\u202f000 and 1{,}000", [1000, 1000, 1, 0, 1000, 1000]),
        ("1k, 1.5M and 7B", [1_000, 1_500_000, 7_000_000_000]),
        ("1.5 million and 2 thousand", [1_500_000, 2_000]),
        ("87.1 %, 87,1 % and .5", ["87.1", "87.1", "0.5"]),
        ("1,234.5 and 1.234,5", ["1234.5", "1234.5"]),
        ("It reaches **87.1%** with **4** heads", ["87.1", 4]),
        ("10^5, 10⁵, 10^{5}, 1e5 and 10**5", [100_000] * 5),
        ("10⁻³, 3×10^8 and 2.5e-3", ["0.001", 300_000_000, "0.0025"]),
        ("n², n^2 and O(n^{3})", [2, 2, 3]),
        ("224x224 and 3 × 4", [224, 224, 3, 4]),
        ("2nd and 48-69%", [2, 48, 69]),
        ("5-10M nodes", [5_000_000, 10_000_000]),
        ("version 2.0.1", [2_000_001]),
        ("ten, twenty-one and Ninety nine", [10, 21, 99]),
        ("two hundred and fifty thousand, a million, three thousand two hundred", [250_000, 1_000_000, 3_200]),
        ("twice, threefold and half", [2, 3, 50]),
        ("often, tenor, weight and someone", []),
        ("ImageNet-1K, A100, top-5 and ViT-B/16", []),
    ],
)
def test_numbers_have_one_value_however_they_are_spelled(text: str, values: list[object]) -> None:
    """Digits, letters, scales, powers and separators are read; words that contain a number and names are not."""
    assert [each.value for each in quantities(text)] == [Decimal(str(value)) for value in values]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("5 %, 5%, 5\\%, 5 percent, 5 per cent and 5 percent", ["percent"] * 6),
        ("5x, 5×, 5 times, 5-fold, $5\\times$ and a factor of 5", ["times"] * 6),
        ("48, 52 and 69% or 3 to 5x", ["percent", "percent", "percent", "times", "times"]),
        ("5 datasets, 5 large datasets and 5 of the datasets", ["counted", "counted", "bare"]),
        ("2.5 points, 5 AP and 224x224", ["bare"] * 4),
        ("3D, 3-D and three-dimensional", ["dimension"] * 3),
        ("n² and x^3", ["power"] * 2),
    ],
)
def test_numbers_have_a_kind_by_what_stands_behind_them(text: str, kinds: list[str]) -> None:
    """The unit may be shared by a list or a range; points may be those of percent."""
    assert [each.kind for each in quantities(text)] == kinds


@pytest.mark.parametrize(
    "text",
    [
        "87.1 %", "87 percent", "87,1%", "27M parameters", "26,600,000 parameters", "2.5 times faster",
        "a factor of 2.5", "10 datasets", "ten benchmarks", "1.3 million images", "1.28M images", "224²",
        "50% of the memory", "half of the memory", "100k steps", "10⁵ steps", "1e5 steps", "O(n²)", "48% to 69%",
        "3.2 dB", "5M to 10M nodes", "three-dimensional data", "25% less", "4 tasks", "three stages", "30 s",
        "ResNet 50", "CIFAR 100", "top 1", "two parts", "one model", "hundreds of images",
    ],
)  # fmt: skip
def test_a_right_figure_is_held_in_every_spelling(text: str) -> None:
    """Units, rounding, thousands and words are understood; small numbers in letters may sum up what is listed."""
    assert unsupported(text) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("87.2 %", "87.2"),
        ("88 %", "88"),
        ("87.15%", "87.15"),
        ("871 %", "871"),
        ("87.1x", "87.1"),
        ("10%", "10"),
        ("2.5%", "2.5"),
        ("26.6 billion parameters", "26.6 billion"),
        ("twelve datasets", "twelve"),
        ("1.2 million images", "1.2 million"),
        ("10^6 steps", "10^6"),
        ("10⁻⁵ steps", "10⁻⁵"),
        ("O(n³)", "³"),
        ("48% to 68%", "68"),
        ("2D data", "2"),
        ("five tasks", "five"),
        ("three tasks", "three"),
        ("30 tasks", "30"),
        ("2018", "2018"),
    ],
)
def test_a_wrong_figure_is_found_with_its_place(text: str, wrong: str) -> None:
    """Another digit, rounding, magnitude, unit or count than the source's, though the number be there."""
    assert unsupported(text) == [wrong]


def test_one_of_several_sources_is_enough() -> None:
    """A figure needs one source; without any, none is held."""
    text = "It reaches 91.5% with 12 layers."
    assert unsupported(text, "It reaches 91.5%.", "It has twelve layers.") == []
    assert unsupported(text, "It reaches 91.5%.") == ["12"]
    assert list(figures_unsupported(text, [])) != []


_PARTS = st.sampled_from(
    [*"0123456789", *"%.,-–^²⁵⁻⁺×x kKM$\\{}()", "ten ", "hundred ", "half ", " million", "10^", "e5", ",000", "٣"]
)


@given(st.lists(_PARTS | st.text(max_size=4), max_size=40).map("".join))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_text_holds_its_own_figures(text: str) -> None:
    """Whatever is read from a text is found in it again, and lies in order within it."""
    found = quantities(text)
    assert list(figures_unsupported(text, [Figures(text)])) == []
    assert [(each.start, each.end) for each in found] == sorted({(each.start, each.end) for each in found})
    assert all(0 <= each.start < each.end <= each.tail <= len(text) for each in found)
