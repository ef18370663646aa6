"""What the clients of all tests ask for: the weather, as a typed function."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Weather(BaseModel):
    """The weather of a city."""

    model_config = ConfigDict(extra="forbid")  # a small model would add to it for ever

    city: Literal["Paris", "Rome"]
    days: int = Field(ge=1, le=9)


QUESTION = "What is the weather in Paris for 3 days?"
PARIS = '{"city": "Paris", "days": 3}'
ATLANTIS = '{"city": "Atlantis", "days": 3}'


def call(arguments: str, name: str = "Weather") -> str:
    """As the scripted model writes it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
