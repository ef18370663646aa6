"""What asks for a model with pooling (embeddings, scores, classes), which no model that is built has."""

from octavo.server.context import ServerContext
from octavo.server.errors import ApiError


def no_pooling(context: ServerContext, path: str) -> ApiError:
    """The refusal of `path`, by the model's name."""
    message = (
        f"model {context.model_names[0]!r} generates text and has no pooling, which {path} needs; send text to "
        "/v1/chat/completions or /v1/completions, or this request to a server of a model that has pooling"
    )
    return ApiError(400, message, code="model_has_no_pooling", param="model")
