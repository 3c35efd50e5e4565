"""Pages for people: the start page and the documentation, all of it from this machine."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html

from airquality.model.registry import RegisteredModel
from airquality.network.current import NETWORK

ASSETS = "/assets"
#: The package that carries Swagger UI and ReDoc, and where in it they lie.
ASSETS_PACKAGE = ("fastapi_offline", "static")
TITLE = f"Air quality: {NETWORK.target.name} prediction"
#: ReDoc would fetch its logo, Swagger UI a validator's badge: the browser may ask nobody else.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_START = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem }
li { margin: .4rem 0 }
code { overflow-wrap: anywhere }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$state</p>
<ul>
<li><a href="/docs">Documentation</a>: every call, to be tried here (<a href="/redoc">the same to read</a>)</li>
<li><a href="/reports/">Reports</a>: what the monitoring found, by station and window</li>
<li><a href="/version">Model</a>: which version answers, its data and its errors</li>
<li><a href="/health">Health</a>, <a href="/ready">readiness</a> and <a href="/metrics">metrics</a></li>
</ul>
</main>
</body>
</html>
""")


def state(loaded: RegisteredModel | None, why_not_ready: str) -> str:
    """Return in a sentence which version of a model answers, or why none does."""
    if loaded is None:
        return f"Not ready: {why_not_ready}"
    return f"Version {loaded.version} of {loaded.name} answers, trained on {loaded.model.card.data_source} data."


def start(states: Iterable[str]) -> str:
    """Return the page at ``/``, with the states of all models."""
    return _START.substitute(title=escape(TITLE), state="</p>\n<p>".join(map(escape, states)))


def docs() -> str:
    """Return Swagger UI's page."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=TITLE,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},
    )
    return bytes(page.body).decode()


def redoc() -> str:
    """Return ReDoc's page."""
    page = get_redoc_html(
        openapi_url="/openapi.json",
        title=TITLE,
        redoc_js_url=f"{ASSETS}/redoc.standalone.js",
        redoc_favicon_url=f"{ASSETS}/favicon.png",
        with_google_fonts=False,
    )
    return bytes(page.body).decode()
