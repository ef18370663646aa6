"""The pages' routes."""

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import Response

from octavo.server.web.assets import find_asset, make_asset, read_static
from octavo.server.web.page_header import page_head, page_header
from octavo.server.web.paths import FILE_PREFIX

_CHAT_STYLES = ("chat/page.css", "chat/thread.css", "markdown/prose.css", "chat/composer.css", "chat/panels.css")
_PAGES = {
    "/": ("chat.html", "Octavo", _CHAT_STYLES),
    "/dashboard": ("dashboard.html", "Octavo dashboard", ("dashboard.css",)),
}
"""Path → its file in `static/`, its title and its stylesheets."""


def add_pages(app: FastAPI) -> None:
    """Serve the pages, and under /web the files that they load."""
    static = read_static()
    assets = {name: make_asset(name, body) for name, body in static.items() if not name.endswith(".html")}
    pages = {
        path: make_asset(file, _whole(static[file].decode(), path, title, styles).encode())
        for path, (file, title, styles) in _PAGES.items()
    }

    async def page(request: Request) -> Response:
        return pages[request.url.path].response(request)

    async def asset(request: Request, path: str) -> Response:
        return find_asset(assets, path).response(request)

    for path in _PAGES:
        app.add_api_route(path, page, methods=["GET"], include_in_schema=False)
    app.add_api_route(f"{FILE_PREFIX}{{path:path}}", asset, methods=["GET"], include_in_schema=False)


def _whole(template: str, path: str, title: str, styles: Sequence[str]) -> str:
    """A file of `static/` with what all pages have in common."""
    return template.replace("{{head}}", page_head(title, *styles)).replace("{{header}}", page_header(path))
