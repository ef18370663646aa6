"""In which form a request is put: to which endpoint, and its prompt as token ids or as text."""

from octavo.core.strenum import StrEnum


class Endpoint(StrEnum):
    COMPLETIONS = "completions"
    CHAT = "chat"

    @property
    def path(self) -> str:
        return "/v1/completions" if self is Endpoint.COMPLETIONS else "/v1/chat/completions"


class PromptForm(StrEnum):
    TOKEN_IDS = "token-ids"
    TEXT = "text"
