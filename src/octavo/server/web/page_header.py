"""The header that all pages have: where one is, and where else one can go."""

from html import escape

from octavo.server.web.paths import FILE_PREFIX, NAVIGATION


def page_header(path: str) -> str:
    """As HTML, for the page at `path`."""
    current = {path: ' aria-current="page"'}
    links = "".join(f'<a href="{link}"{current.get(link, "")}>{name}</a>' for link, name in NAVIGATION)
    return (
        '<a class="skip" href="#main">Skip to content</a>'
        f'<header class="top"><a class="brand" href="/"><img src="{FILE_PREFIX}octavo.svg" alt="" width="26" height="26">'
        f'<span>Octavo</span></a><nav aria-label="Pages">{links}</nav></header>'
    )


def page_head(title: str, *styles: str) -> str:
    """The inside of <head>, with the base stylesheet and `styles`."""
    sheets = "".join(f'<link rel="stylesheet" href="{FILE_PREFIX}{name}">' for name in ("base.css", *styles))
    return (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f'<link rel="icon" href="{FILE_PREFIX}octavo.svg" type="image/svg+xml">{sheets}'
    )
