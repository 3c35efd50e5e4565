"""Evidently's pages as text: the code they share taken out and put in again, and a frame that leads back to the report."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from airquality.ground.shown import printable
from airquality.reports.document import Sidecar

#: Placeholder in a page for the path to the folder of shared files.
ASSETS_PLACE = "{assets}"

_STYLE = "<link rel='stylesheet' href='{{assets}}{name}'>"
_SCRIPT = "<script src='{{assets}}{name}'></script>"
_TEMPLATE = '"template": '
_REFERENCE = re.compile(r"<(link|script) (?:rel='stylesheet' href|src)='([^']*)'>(?:</script>)?")
_FRAME = re.compile(r"<p id='back'>.*?</p>", re.DOTALL)
#: Evidently's buttons have icons and no names, some of its headings are empty, all skip levels: mended as they are drawn.
_MEND = """<script>
const named = e => e.hasAttribute('aria-label') || e.textContent.trim()
new MutationObserver(() => {
  document.querySelectorAll('button').forEach(e => named(e) || e.setAttribute('aria-label', 'light or dark'))
  document.querySelectorAll('h2,h3,h4,h5,h6').forEach(e => {
    if (!named(e)) e.setAttribute('role', 'presentation')
    else { e.setAttribute('role', 'heading'); e.setAttribute('aria-level', '2') }
  })
}).observe(document.documentElement, {childList: true, subtree: true})
</script>"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What Evidently makes of a window: its page, the shared files the page refers to, and p-values.

    ``assets`` holds their content by name; the page refers to each as ``{assets}NAME``, to be replaced by the way there.
    ``left_out`` says (what, why) of everything that is not drawn.
    """

    page: str
    assets: Mapping[str, str]
    ks_p_values: Mapping[str, float]
    left_out: Sequence[tuple[str, str]]


def apart(page: str) -> tuple[str, dict[str, str]]:
    """Return a page of Evidently's without the code and style that are the same in every one, and these, by name.

    The page refers to each as ``{assets}NAME``. Three quarters of what is left would be the template of plots, once more for
    each of them: it becomes a variable.
    """
    page, assets = _without_template(page)
    for tag, suffix, reference in (("style", "css", _STYLE), ("script", "js", _SCRIPT)):
        content = max(re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL), key=_shared_length)
        name = f"evidently-{hashlib.sha256(content.encode()).hexdigest()[:12]}.{suffix}"
        assets[name] = content
        page = page.replace(f"<{tag}>{content}</{tag}>", reference.format(name=name), 1)
    return page, assets


def _without_template(page: str) -> tuple[str, dict[str, str]]:
    start = page.find(_TEMPLATE)
    if start < 0:
        return page, {}
    _, end = json.JSONDecoder().raw_decode(page, start + len(_TEMPLATE))
    template = page[start + len(_TEMPLATE) : end]
    known_as = hashlib.sha256(template.encode()).hexdigest()[:12]
    variable, name = f"evidently_template_{known_as}", f"evidently-template-{known_as}.js"
    page = page.replace(f"{_TEMPLATE}{template}", f"{_TEMPLATE}{variable}")
    page = page.replace("<head>", f"<head>{_SCRIPT.format(name=name)}", 1)  # before the data that name it
    return page, {name: f"var {variable} = {template};"}


def _shared_length(content: str) -> int:
    """Return how long a block is; the one that holds the window's own data is not shared."""
    return -1 if "var metric_" in content[:100] else len(content)


def framed(page: str, document: Sidecar, way_back: str) -> str:
    """Return the page with a language, a title, a heading, and a link back to the report."""
    station = printable(document["station_id"])
    title = escape(f"Evidently's plots: {station}, {document['kind']} window up to {document['end']}")
    head = (
        "<main style='font:16px/1.5 system-ui,sans-serif'><div style='margin:12px 24px'>"
        f"<p id='back'><a href='{escape(way_back)}'>Back to the report</a></p>"
        f"<h1 style='font-size:20px'>{title}</h1><p>The green band is the reference, red is this window.</p></div>"
    )
    page = page.replace("<html>", "<html lang='en'>", 1).replace("<head>", f"<head><title>{title}</title>{_MEND}", 1)
    before, _, after = page.rpartition("</body>")
    return f"{before.replace('<body>', f'<body>{head}', 1)}</main></body>{after}"


def joined(page: str, read: Callable[[str], str]) -> str:
    """Return the page with the shared files inside and without its link back: one that needs no other file.

    Args:
        page: As it lies in a reports folder.
        read: Returns the content of the file a link leads to.
    """

    def content(match: re.Match[str]) -> str:
        tag = "style" if match[1] == "link" else "script"
        return f"<{tag}>{read(match[2])}</{tag}>"

    return _FRAME.sub("", _REFERENCE.sub(content, page))
