"""Which form of message content a chat template reads: a string, or a list of parts.

Judged from the template's syntax tree, as vLLM does: a template that loops over a message's content
reads parts. Names are followed through `set`, loops and macro arguments until nothing new is found.
"""

from dataclasses import dataclass, field

from jinja2 import nodes

from octavo.core.strenum import StrEnum


class ContentFormat(StrEnum):
    STRING = "string"
    PARTS = "parts"
    EITHER = "either"
    """It asks which form it got."""


def detect_content_format(template: nodes.Template) -> ContentFormat:
    """The form of content that `template` reads."""
    names = _Names()
    while names.grow(template):
        pass
    if not any(names.is_content(loop.iter) for loop in template.find_all(nodes.For)):
        return ContentFormat.STRING
    asks = any(test.name == "string" for test in template.find_all(nodes.Test))
    return ContentFormat.EITHER if asks else ContentFormat.PARTS


@dataclass(slots=True)
class _Names:
    """Names that stand for the list of messages, for one message, or for a message's content."""

    lists: set[str] = field(default_factory=lambda: {"messages"})
    items: set[str] = field(default_factory=lambda: {"message"})
    contents: set[str] = field(default_factory=set)

    def grow(self, template: nodes.Template) -> bool:
        """Follow the names one step; whether any was added."""
        before = len(self.lists) + len(self.items) + len(self.contents)
        for loop in template.find_all(nodes.For):
            if isinstance(loop.target, nodes.Name) and self.is_list(loop.iter):
                self.items.add(loop.target.name)
        for assignment in template.find_all(nodes.Assign):
            if isinstance(assignment.target, nodes.Name):
                self._bind(assignment.target.name, assignment.node)
        macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}
        for call in template.find_all(nodes.Call):
            macro = macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
            if macro is not None:
                for parameter, argument in zip(macro.args, call.args, strict=False):
                    self._bind(parameter.name, argument)
        return len(self.lists) + len(self.items) + len(self.contents) > before

    def _bind(self, name: str, value: nodes.Node) -> None:
        if self.is_list(value):
            self.lists.add(name)
        elif self.is_item(value):
            self.items.add(name)
        elif self.is_content(value):
            self.contents.add(name)

    def is_list(self, node: nodes.Node) -> bool:
        node = _unwrapped(node)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return self.is_list(node.node)
        return isinstance(node, nodes.Name) and node.name in self.lists

    def is_item(self, node: nodes.Node) -> bool:
        node = _unwrapped(node)
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            return self.is_list(node.node)
        return isinstance(node, nodes.Name) and node.name in self.items

    def is_content(self, node: nodes.Node) -> bool:
        node = _unwrapped(node)
        if isinstance(node, nodes.Getattr):
            return node.attr == "content" and self.is_item(node.node)
        if isinstance(node, nodes.Getitem):
            if isinstance(node.arg, nodes.Slice):
                return self.is_content(node.node)
            return isinstance(node.arg, nodes.Const) and node.arg.value == "content" and self.is_item(node.node)
        return isinstance(node, nodes.Name) and node.name in self.contents


def _unwrapped(node: nodes.Node) -> nodes.Node:
    """What a chain of filters and tests is applied to."""
    while isinstance(node, (nodes.Filter, nodes.Test)) and node.node is not None:
        node = node.node
    return node
