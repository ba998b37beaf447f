"""What the site's pages get beside the theme's; axe-core finds faults, and none on a report, where it is installed."""

import os
from pathlib import Path

import pytest
from site_pages.accessibility import violations
from site_pages.browser import browser
from site_pages.mended import mended

from CLMorphCore.reports.page import facts, notice, page, row, scrolled, table

AXE = os.environ.get("CLMORPH_AXE")  # axe.min.js of axe-core: npm pack axe-core
needs_axe = pytest.mark.skipif(
    not (AXE and browser()), reason="CLMORPH_AXE names no axe.min.js, or Chromium is missing"
)


def test_headings_have_a_level_and_what_scrolls_can_be_focused():
    text = mended('<p role="heading">a</p><pre>b</pre><div class="table-wrapper docutils container"><table>')
    assert 'role="heading" aria-level="2"' in text
    assert text.count('tabindex="0"') == 2
    assert mended(text) == text


def test_parameters_of_a_signature_are_no_list_of_terms():
    text = mended(
        '<dt>f(<dl>\n<dd><em>a</em></dd>\n<dd><em>b</em></dd>\n</dl>)</dt><dl class="x"><dt>t</dt><dd>d</dd></dl>'
    )
    assert "<dl>" not in text and text.count('class="parameter"') == 2 and '<dl class="x"><dt>t</dt><dd>d</dd>' in text


def test_an_option_stays_on_its_line():
    text = mended('<code><span class="pre">--refine</span> <span class="pre">20</span></code>')
    assert text == '<code><span class="pre option">--refine</span> <span class="pre">20</span></code>'
    block = '<div class="highlight-sh notranslate"><div class="highlight"><pre>a<span class="w"> </span>--refine <span'
    text = mended(f'{block} class="m">20</span> -C out/\n</pre>')
    assert '</span><span class="option">--refine</span> <span class="m">20' in text
    assert ' <span class="option">-C</span> out/' in text
    assert mended(text).count('class="option"') == 2


@needs_axe
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_on_a_page(tmp_path, dark):
    wide = table(["a" * 40] * 8, [row(["1"] * 8)])
    body = f"<h1>A title</h1>{facts([('Dice', '0.8', 'mean')])}{notice('Look', ['twice'])}{scrolled(wide)}"
    (tmp_path / "page.html").write_text(page("A title", body), encoding="utf-8")
    assert violations(tmp_path / "page.html", Path(AXE), dark=dark, width=420) == []


@needs_axe
def test_axe_finds_what_is_wrong(tmp_path):
    (tmp_path / "page.html").write_text(page("A title", '<p style="color:#999">pale</p><img src="x.png">'), "utf-8")
    found = " ".join(violations(tmp_path / "page.html", Path(AXE)))
    assert "color-contrast" in found and "image-alt" in found
