"""What a person may set, checked once; and the one function that resolves every `auto`."""

from octavo.config.engine_config import EngineConfig
from octavo.config.resolve import MachineFacts, ModelFacts, ResolvedConfig, resolve

__all__ = ["EngineConfig", "MachineFacts", "ModelFacts", "ResolvedConfig", "resolve"]
