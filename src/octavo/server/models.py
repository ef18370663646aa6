"""/v1/models, and whether a request means the model that is served."""

from octavo.core.sampling_params import SamplingParams
from octavo.server.context import ServerContext
from octavo.server.errors import ApiError
from octavo.server.replies import ModelCard, ModelList
from octavo.server.sampling import SETTINGS


def list_models(context: ServerContext) -> ModelList:
    return ModelList(data=[_card(context, name) for name in context.model_names])


def find_model(context: ServerContext, name: str) -> ModelCard:
    """Raises `ApiError` (404)."""
    check_model(context, name)
    return _card(context, name)


def check_model(context: ServerContext, name: str | None) -> None:
    """None stands for the model that is served. Raises `ApiError` (404) for a name that it does not have."""
    if name is not None and name not in context.model_names:
        message = f"model {name[:200]!r} is not served here; use {' or '.join(context.model_names)}"
        raise ApiError(404, message, code="model_not_found", param="model")


def _card(context: ServerContext, name: str) -> ModelCard:
    info = context.engine.info
    defaults = SamplingParams(**context.engine.front_end.sampling_defaults)
    return ModelCard(
        id=name,
        created=context.created_s,
        root=info.model,
        max_model_len=info.max_model_len,
        sampling_defaults={field: getattr(defaults, field) for field in SETTINGS},
    )
