"""What people read on the pages has enough contrast, by light, in the dark and on paper; pictures are described."""

import re

import pytest

from CLMorphCore.reports.page import STYLE, facts, notice, page, row, table

ENOUGH = 4.5  # WCAG 2.2, success criterion 1.4.3, of text
ENOUGH_OF_MARKS = 3.0  # and 1.4.11, of what is not text
ON = {"paper": ("ink", "soft", "accent"), "panel": ("ink", "soft", "accent"), "warn": ("ink",)}


def schemes() -> dict[str, dict[str, str]]:
    """The colours of each scheme by name; a scheme has those of the first, where it has no own."""
    found = [dict(re.findall(r"--([\w-]+):(#\w+)", block)) for block in re.findall(r":root\{([^}]*)\}", STYLE)]
    light, dark, printed = found
    return {"light": light, "dark": light | dark, "print": light | printed}


def contrast(first: str, second: str) -> float:
    """(L₁ + 0.05) / (L₂ + 0.05) of the relative luminances, the lighter first."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    shown = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shown]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_black_and_white_is_21():
    assert contrast("#fff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_can_be_read(scheme):
    colors = schemes()[scheme]
    for ground, texts in ON.items():
        for text in texts:
            assert contrast(colors[text], colors[ground]) >= ENOUGH, f"{text} on {ground}"
    assert contrast(colors["before"], colors["paper"]) >= 2.0  # a bar that its figure stands beside


def test_a_page_says_its_language_and_title_and_can_be_enlarged():
    text = page(
        "A title", facts([("Dice", "0.8", "")]) + notice("", ["a warning"]) + table(("a", "b"), [row(("1", "2"))])
    )
    assert '<html lang="en">' in text and "<title>A title</title>" in text and "<main>" in text
    assert "user-scalable" not in text and "maximum-scale" not in text
    assert text.count('scope="col"') == 2
