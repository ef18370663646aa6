"""`octavo models`: the models that need no more than a name, and what else can be run."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from octavo.cli.options import with_options
from octavo.cli.terminal import plain_table, stdout
from octavo.config.engine_config import DEFAULT_MODEL
from octavo.config.env import cache_directory
from octavo.loader.model_cache import ModelListing, list_models


@with_options()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List the models that have a short name, and the families and formats that can be run."""
    listings = list_models(cache_directory())
    if as_json:
        aliases = [_as_json(listing) for listing in listings]
        print(json.dumps({"aliases": aliases, "families": _families(), "formats": _formats()}, indent=2))
        return
    _print_aliases(listings)
    _print_families()  # after the aliases: reading the registry imports torch, which takes a second


def _print_aliases(listings: list[ModelListing]) -> None:
    console = stdout()
    table = plain_table("alias", "size", "cached", "licence", "description")
    table.columns[1].justify = "right"
    for listing in listings:
        alias = listing.alias
        default = " [dim](default)[/]" if alias.name == DEFAULT_MODEL else ""
        table.add_row(
            f"[cyan]{alias.name}[/]{default}",
            f"{alias.size_bytes / 1e6:,.0f} MB",
            "[green]yes[/]" if listing.is_cached else "no",
            alias.license.partition(" (")[0],
            alias.description,
        )
    console.print(table)
    console.print()


def _print_families() -> None:
    console = stdout()
    table = plain_table("family", "config.json", "GGUF")
    for family in _families():
        table.add_row(f"[cyan]{family['name']}[/]", ", ".join(family["architectures"]), ", ".join(family["gguf"]))
    console.print("Any model of these families runs, from a directory, a .gguf file or a Hugging Face repository:\n")
    console.print(table)
    console.print()
    formats = plain_table("files", "weights in them")
    for kind, names in _formats().items():
        formats.add_row(f"[cyan]{kind}[/]", ", ".join(names))
    console.print(formats)


def _families() -> list[dict[str, Any]]:
    from octavo.models.registry import FAMILIES

    return [
        {"name": family.name, "architectures": list(family.architectures), "gguf": list(family.gguf_architectures)}
        for family in FAMILIES
    ]


def _formats() -> dict[str, list[str]]:
    """Container → the weight formats read from it."""
    from octavo.loader.ggml_types import FORMATS

    return {
        "safetensors": [str(format) for format in FORMATS.values() if not format.is_block_format],
        "GGUF": [str(format) for format in FORMATS.values()],
    }


def _as_json(listing: ModelListing) -> dict[str, Any]:
    return {**asdict(listing.alias), "path": str(listing.path), "is_cached": listing.is_cached}
