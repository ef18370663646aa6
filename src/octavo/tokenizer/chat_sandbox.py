"""The Jinja environment that chat templates run in: Hugging Face's, with the work of a render bounded.

A chat template comes with a model file and is not trusted. Jinja's immutable sandbox keeps it from
Python's internals; this adds what the sandbox lacks: loops, calls and the sizes of strings count
against a `RenderBudget`, so that a template cannot keep a thread or the memory for itself.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from octavo.tokenizer.render_budget import ITEM_CHARS, RenderBudget, RenderLimitError, RenderLimits

_BUDGET = "render budget"
"""Its key in a render's context: no identifier, so that no template can name it."""
_MAX_WIDTH = 1000
_WIDTH_METHODS = frozenset(("center", "ljust", "rjust", "zfill", "expandtabs"))
_REMOVED_FILTERS = ("batch", "center", "pprint", "slice", "urlize", "wordwrap", "xmlattr")
"""Nothing a prompt needs, and their results can be far larger than what they are given."""
_PLAIN_PERCENT = re.compile(r"(?:[^%]|%[sdr%]|%\(\w+\)[sdr])*", re.DOTALL)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """As `transformers` sets it up: trimmed blocks, `break`/`continue`, `tojson`, `raise_exception`, `strftime_now`."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        self.filters.update(
            tojson=_to_json,
            join=_join,
            replace=_replace,
            indent=_indent,
            format=_format,
            map=_map,
            _steps=_steps,
            _charged=_charged,
        )
        self.globals.pop("lipsum")
        self.globals.update(
            range=_range,
            dict=_TemplateDict(),
            namespace=_TemplateNamespace,
            raise_exception=_raise_exception,
            strftime_now=_strftime_now,
        )

    def compile_bounded(self, template: nodes.Template) -> jinja2.Template:
        """Compile a parsed template with every loop and every value it makes counted. Changes `template`."""
        loops = list(template.find_all(nodes.For))
        _charge_values(template)
        for loop in loops:
            loop.iter = _filtered(loop.iter, "_steps")
        code = self.compile(template)
        return self.template_class.from_code(self, code, self.make_globals(None))

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(__context)
        budget.step()
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str):
            _check_string_call(budget, owner, name, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _budget(context)
        if operator == "*" and not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            for sequence, count in ((left, right), (right, left)):
                if hasattr(sequence, "__len__") and isinstance(count, int):
                    budget.require_size(len(sequence) * count)
        elif operator == "*" and any(abs(value) > 1 << 64 for value in (left, right)):
            raise RenderLimitError("the template multiplies numbers beyond 64 bits")
        elif operator == "**" and not (abs(left) <= 1 << 16 and abs(right) <= 4):
            raise RenderLimitError("the template raises numbers to powers beyond 65536 ** 4")
        elif operator == "%" and isinstance(left, str):
            _check_percent(budget, left, right)
        result = super().call_binop(context, operator, left, right)
        budget.charge(result)
        return result

    def render_bounded(self, template: jinja2.Template, variables: dict[str, Any], limits: RenderLimits) -> str:
        """The text of `template`. Raises `TemplateError`, and what the template's own operations raise."""
        budget = RenderBudget(limits)
        pieces: list[str] = []
        num_chars = 0
        for piece in template.generate({**variables, _BUDGET: budget}):
            num_chars += len(piece)
            budget.require_size(num_chars)
            pieces.append(piece)
        return "".join(pieces)


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}` marks an assistant's words for training; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _TemplateDict:
    """`dict(…)` without the class's unbound methods, which would change what the sandbox calls immutable."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _TemplateNamespace(Namespace):
    """`namespace(…)` that keeps no names with a leading underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _require_public(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def _require_public(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"chat templates cannot keep {name!r} in a namespace; use a name without underscore")


def _budget(context: Context) -> RenderBudget:
    budget = context.parent[_BUDGET]
    assert isinstance(budget, RenderBudget)
    return budget


_MAKERS = (nodes.Concat, nodes.Call, nodes.Filter, nodes.List, nodes.Dict, nodes.Tuple)
"""Expressions that make a value larger than their parts; binary operators are intercepted instead."""


def _charge_values(node: nodes.Node) -> None:
    """Charge what every expression of `_MAKERS` below `node` makes, innermost first."""
    for name, value in list(node.iter_fields()):
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, nodes.Node):
                _charge_values(child)
        if isinstance(node, (nodes.CallBlock, nodes.FilterBlock)) and name in ("call", "filter"):
            continue  # the compiler wants these as they are; what they make goes to the output
        charged = [_filtered(child, "_charged") if _is_maker(child) else child for child in children]
        setattr(node, name, charged if isinstance(value, list) else charged[0])


def _is_maker(node: Any) -> bool:
    return isinstance(node, _MAKERS) and getattr(node, "ctx", "load") == "load"


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _check_string_call(
    budget: RenderBudget, owner: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Refuse calls of string methods whose result would be far larger than what they are given."""
    if name in ("format", "format_map"):
        if ":" in owner:
            raise SecurityError("chat templates cannot use format specifications; join strings with ~")
        _check_fields(budget, owner, owner.count("{"), [*args, *kwargs.values()])
    if name in _WIDTH_METHODS and any(isinstance(value, int) and value > _MAX_WIDTH for value in args):
        raise RenderLimitError(f"the template calls {name} with a width beyond {_MAX_WIDTH}")
    if name == "replace" and len(args) >= 2:
        _check_replacement(budget, owner, str(args[0]), str(args[1]))
    if name == "join" and args:
        budget.require_size(len(owner) * _length(args[0]))


def _check_percent(budget: RenderBudget, template: str, values: Any) -> None:
    if not _PLAIN_PERCENT.fullmatch(template):
        raise SecurityError("chat templates can format with %s, %d and %r only; join strings with ~")
    listed = values if isinstance(values, (list, tuple)) else [values]
    _check_fields(budget, template, template.count("%"), list(listed))


def _check_fields(budget: RenderBudget, template: str, num_fields: int, values: list[Any]) -> None:
    longest = max((len(str(value)) for value in values), default=0)
    budget.require_size(len(template) + num_fields * longest)


def _check_replacement(budget: RenderBudget, text: str, old: str, new: str) -> None:
    budget.require_size(len(text) + text.count(old) * len(new))


def _length(values: Any) -> int:
    return len(values) if hasattr(values, "__len__") else 0


@jinja2.pass_context
def _steps(context: Context, values: Iterable[Any]) -> Iterable[Any]:
    """What a loop walks over, each pass counted; sized things keep their length."""
    budget = _budget(context)
    if isinstance(values, jinja2.Undefined):
        return values
    if isinstance(values, dict):
        values = list(values)
    if isinstance(values, (str, list, tuple, range)):
        return _CountedSequence(values, budget)
    return _counted(values, budget)


class _CountedSequence:
    """A sequence whose iteration counts steps."""

    def __init__(self, values: Any, budget: RenderBudget) -> None:
        self._values = values
        self._budget = budget

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return _counted(self._values, self._budget)


def _counted(values: Iterable[Any], budget: RenderBudget) -> Iterator[Any]:
    for value in values:
        budget.step()
        yield value


@jinja2.pass_context
def _charged(context: Context, value: Any) -> Any:
    _budget(context).charge(value)
    return value


@jinja2.pass_context
def _map(context: Context, value: Iterable[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
    budget = _budget(context)
    for item in jinja2.filters.sync_do_map(context, value, *args, **kwargs):
        budget.step()
        budget.charge(item)
        yield item


@jinja2.pass_context
def _range(context: Context, *bounds: int) -> range:
    return _budget(context).range(*bounds)


@jinja2.pass_context
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    budget = _budget(context)
    values: list[Any] = []
    num_chars = 0
    for item in value:
        num_chars += len(d) + (len(item) if isinstance(item, str) else ITEM_CHARS)
        budget.require_size(num_chars)
        values.append(item)
    return jinja2.filters.sync_do_join(context.eval_ctx, values, d, attribute)


@jinja2.pass_context
def _replace(context: Context, s: str, old: str, new: str, count: int | None = None) -> str:
    text = str(s)
    _check_replacement(_budget(context), text, str(old), str(new))
    return text.replace(str(old), str(new), -1 if count is None else count)


@jinja2.pass_context
def _indent(context: Context, s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    size = len(width) if isinstance(width, str) else width
    _budget(context).require_size(len(s) + size * (s.count("\n") + 1))
    return jinja2.filters.do_indent(s, width, first, blank)


@jinja2.pass_context
def _format(context: Context, value: str, *args: Any, **kwargs: Any) -> str:
    _check_percent(_budget(context), str(value), [*args, *kwargs.values()])
    return jinja2.filters.do_format(value, *args, **kwargs)


def _to_json(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without Jinja's escaping of HTML characters, which models were not trained on."""
    if isinstance(indent, int) and indent > _MAX_WIDTH:
        raise RenderLimitError(f"the template asks tojson for an indent beyond {_MAX_WIDTH}")
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
