"""`octavo pull`: fetch a model now, so that a later start needs no network."""

from typing import Annotated

import typer

from octavo.cli.options import with_options
from octavo.config.env import cache_directory


@with_options()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An alias or a Hugging Face repository.", hidden=True)],
) -> None:
    """Fetch a model, so that a later start needs no network. Its path goes to stdout.

    NAME is an alias of «octavo models», or a Hugging Face repository: org/name, org/name@revision or
    org/name:file.gguf.
    """
    from octavo.loader.fetch import resolve_model

    print(resolve_model(name, cache_dir=cache_directory()))
