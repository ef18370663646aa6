"""`octavo serve`: the engine behind the OpenAI API."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.config import EngineConfig
    from octavo.config.server_config import ServerConfig


def serve_forever(config: "EngineConfig", server_config: "ServerConfig") -> None:
    """Load the model and answer requests until SIGINT or SIGTERM; returns when all of it has ended.

    Raises what `AsyncEngine.start` raises, and `ConfigError` where the address cannot be listened on,
    which is found out before the model is loaded.
    """
    from octavo.server.run import serve

    serve(config, server_config)
