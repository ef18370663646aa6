"""`octavo serve`: a model behind the OpenAI API."""

from octavo.cli.options import ConfigOptions, engine_options, with_options
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig


@with_options(
    config=engine_options(has_model_argument=True, shows_not_built=True),
    server_config=ConfigOptions(ServerConfig, panel="Server"),
)
def serve(*, config: EngineConfig, server_config: ServerConfig) -> None:
    """Serve a model over the OpenAI API. MODEL may be given with or without --model."""
    from octavo.server import serve_forever

    serve_forever(config, server_config)
