"""Where the pages are, and the files that they load."""

NAVIGATION = (("/", "Chat"), ("/dashboard", "Dashboard"), ("/docs", "API"))
"""Path and name of each page, in the order in which the header has them."""
PAGE_PATHS = frozenset(path for path, _ in NAVIGATION)
FILE_PREFIX = "/web/"


def is_for_browsers(method: str, path: str) -> bool:
    """Whether a browser asks for it by itself: a page, or a file of one."""
    return method == "GET" and (path in PAGE_PATHS or path.startswith(FILE_PREFIX))
