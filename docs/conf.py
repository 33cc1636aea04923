"""How Sphinx builds these pages; `tox -e docs` does it strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from wave_async.version import VERSION

project = "wave-async"
release = version = VERSION
project_copyright = ""
html_theme = "furo"
html_title = f"wave-async {VERSION}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
default_role = "code"  # the docstrings mark code as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}


def _keep_drawing(_app: Sphinx, what: str, *rest: Any) -> None:
    """Leave the tree that a module's docstring draws as it is drawn."""
    lines = rest[-1]
    if what == "module" and any("──" in line for line in lines):
        lines[:] = ["::", "", *(f"    {line}" for line in lines), ""]


def _drop_empty_patterns(_app: Sphinx, name: str, source: list[str]) -> None:
    """Leave out the patterns of the navigation that no page fits: Sphinx would warn of them."""
    folder = Path(__file__).parent
    if name == "index":
        lines = source[0].splitlines()
        kept = (line for line in lines if line[-1:] != "*" or any(folder.glob(f"{line}.md")))
        source[0] = "\n".join(kept)


def setup(app: Sphinx) -> None:
    """Take part in the build."""
    app.connect("source-read", _drop_empty_patterns)
    app.connect("autodoc-process-docstring", _keep_drawing)
