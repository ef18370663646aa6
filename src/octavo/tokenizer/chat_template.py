"""A conversation to the prompt text that a model was trained on, by the model's own Jinja template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import meta

from octavo.core.errors import InvalidRequestError, ModelFileError
from octavo.tokenizer.chat_messages import normalise_messages, plain_data
from octavo.tokenizer.chat_sandbox import ChatEnvironment
from octavo.tokenizer.content_format import ContentFormat, detect_content_format
from octavo.tokenizer.render_budget import RenderLimits

Messages = list[dict[str, Any]]
MAX_SOURCE_CHARS = 1 << 20
ALLOWED_KWARGS = frozenset(
    (
        "enable_thinking",
        "thinking",
        "thinking_budget",
        "preserve_thinking",
        "reasoning_effort",
        "documents",
        "date_string",
        "builtin_tools",
        "custom_tools",
        "tools_in_user_message",
        "xml_tools",
        "python_tools",
        "model_identity",
        "citation_mode",
        "controls",
    )
)
"""What a request may set in a template beside messages and tools."""


class ChatTemplate:
    """A compiled chat template; without a source, one that refuses every conversation.

    `render` may take up to `RenderLimits.max_seconds`, so it belongs off the event loop. Safe to use
    from several threads. Raises `ModelFileError` where the source does not compile.
    """

    def __init__(
        self,
        source: str | None,
        bos_token: str | None = None,
        eos_token: str | None = None,
        *,
        limits: RenderLimits | None = None,
    ) -> None:
        self._limits = limits if limits is not None else RenderLimits()
        self._tokens = {
            name: text for name, text in (("bos_token", bos_token), ("eos_token", eos_token)) if text is not None
        }
        self._environment = ChatEnvironment()
        self._template: jinja2.Template | None = None
        self.source = source or ""
        self.content_format = ContentFormat.STRING
        self.variables: frozenset[str] = frozenset()
        """The names that the template reads."""
        if source is not None:
            self._compile(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        rewrite: Callable[[Messages], Messages] | None = None,
    ) -> str:
        """The prompt for `messages`, ending where the assistant's answer begins if `add_generation_prompt`.

        `chat_template_kwargs` are what else the template reads, of `ALLOWED_KWARGS`.
        `rewrite` puts messages, whose content it is given as text, into words that the template knows.
        Content may be a string or a list of text parts. It already holds BOS where the template
        writes it, so encode it with `add_special_tokens=False`.
        Raises `InvalidRequestError` for messages or arguments that are malformed or that the
        template refuses, and where there is no template.
        """
        if self._template is None:
            raise InvalidRequestError(
                "this model has no chat template; use the completions endpoint, or start with --chat-template FILE",
                param="messages",
            )
        kwargs = chat_template_kwargs or {}
        self._check_arguments(tools, kwargs)
        if rewrite is not None:
            messages = rewrite(normalise_messages(messages, ContentFormat.STRING))
        variables = {
            **self._tokens,
            **{name: plain_data(value, name) for name, value in kwargs.items()},
            "messages": normalise_messages(messages, self.content_format),
            "tools": plain_data(tools, "tools") if tools else None,
            "add_generation_prompt": add_generation_prompt,
        }
        variables.setdefault("documents", None)
        try:
            return self._environment.render_bounded(self._template, variables, self._limits)
        except jinja2.TemplateError as error:
            reason = error.message or type(error).__name__
            raise InvalidRequestError(f"the chat template refused: {reason}", param="messages") from error
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise InvalidRequestError(
                f"the chat template failed on these messages: {type(error).__name__}: {error}", param="messages"
            ) from error

    def _compile(self, source: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise ModelFileError(
                f"the chat template has {len(source)} characters; at most {MAX_SOURCE_CHARS} are allowed"
            )
        try:
            tree = self._environment.parse(source)
            self.variables = frozenset(meta.find_undeclared_variables(tree))
            self.content_format = detect_content_format(tree)
            self._template = self._environment.compile_bounded(tree)
        except jinja2.TemplateSyntaxError as error:
            raise ModelFileError(
                f"the chat template does not compile: line {error.lineno}: {error.message}; "
                "give another with --chat-template FILE"
            ) from error
        except (RecursionError, SyntaxError, MemoryError, ValueError) as error:
            raise ModelFileError(f"the chat template does not compile: {error}") from error

    def _check_arguments(self, tools: Sequence[Mapping[str, Any]] | None, kwargs: Mapping[str, Any]) -> None:
        for name in kwargs:
            if name not in ALLOWED_KWARGS:
                raise InvalidRequestError(
                    f"chat_template_kwargs has {name[:200]!r}; allowed are {', '.join(sorted(ALLOWED_KWARGS))}",
                    param="chat_template_kwargs",
                )
            if name not in self.variables:
                raise InvalidRequestError(
                    f"this model's chat template does not read {name!r}; leave it out", param="chat_template_kwargs"
                )
        if tools and "tools" not in self.variables:
            raise InvalidRequestError("this model's chat template does not know tools; leave tools out", param="tools")
