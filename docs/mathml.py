"""The formulas of docstrings as MathML, which every browser draws by itself: the site loads nothing from other servers."""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def write(self: HTML5Translator, node: nodes.Element, as_block: bool) -> None:
    try:
        formula = str(latex2mathml.tex2mathml(node.astext(), as_block=as_block))
        self.body.append(f'<div class="formula">{formula}</div>' if as_block else formula)
    except Exception as error:
        log.warning("the formula %r cannot be written as MathML: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def inline(self: HTML5Translator, node: nodes.math) -> None:
    write(self, node, False)


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    write(self, node, True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
