"""Where models from aliases lie below the cache directory (`octavo.config.env`), and which of them are there."""

from dataclasses import dataclass
from pathlib import Path

from octavo.loader.aliases import ALIASES, Alias


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelListing:
    """One line of `octavo models`. `path` is where the file is, or would be."""

    alias: Alias
    path: Path
    is_cached: bool


def cached_path(alias: Alias, cache_dir: Path) -> Path:
    """`<cache_dir>/models/<alias>/<file>`, whether or not it is there."""
    return cache_dir / "models" / alias.name / alias.file_name


def is_cached(alias: Alias, cache_dir: Path) -> bool:
    """Whether the alias' file is there at its full size; its hash was checked when it was pulled."""
    path = cached_path(alias, cache_dir)
    return path.is_file() and path.stat().st_size == alias.size_bytes


def list_models(cache_dir: Path) -> list[ModelListing]:
    """Every alias, in the table's order."""
    return [
        ModelListing(alias=alias, path=cached_path(alias, cache_dir), is_cached=is_cached(alias, cache_dir))
        for alias in ALIASES.values()
    ]
