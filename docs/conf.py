"""The site: Sphinx with Furo and MyST. ``make docs`` builds it, without the network, and takes no warning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers.special import TextLexer
from site_pages.docstrings import as_rst
from site_pages.generate import generate
from site_pages.mended import mend
from site_pages.places import REPOSITORY
from sphinx.application import Sphinx

import CLMorphCore

project = "CLMorph"
author = "CLMorph developers"
copyright = "CLMorph developers, Apache-2.0"
version = release = CLMorphCore.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["site_pages"]
myst_enable_extensions = ["deflist", "dollarmath", "html_image", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # copied pages begin their headings where they like
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # a default that is a function has no value that Sphinx can parse
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

smartquotes = False  # "--option" stays as it is typed

html_theme = "furo"
html_title = f"CLMorph {release}"
html_favicon = "../CLMorphSlicer/Resources/Icons/CLMorphSlicer.png"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"
html_last_updated_fmt = None  # the same sources make the same bytes
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#175a70", "color-brand-content": "#175a70"},
    "dark_css_variables": {"color-brand-primary": "#6cc0dc", "color-brand-content": "#6cc0dc"},
}


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(str(tex2mathml(node.astext(), as_block=False)))
    raise nodes.SkipNode


def _block(translator: Any, node: Any) -> None:
    translator.body.append(f'<div class="equation">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _docstring(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def _finished(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        mend(Path(app.outdir))


def setup(app: Sphinx) -> None:
    """MathML, which browsers draw without a script; and the pages that are generated."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_lexer("csv", TextLexer)
    app.connect("build-finished", _finished)
    app.connect("autodoc-process-docstring", _docstring)
    generate()
