"""Octavo's attention under the name `flash_attn`, for code that imports that package, transformers among it."""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn import bert_padding, dense, kvcache, rotary, varlen

logger = logging.getLogger(__name__)

PACKAGE = "flash_attn"
VERSION = "2.8.3+octavo"
"""That of the functions' signatures, and who has written them."""

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        dense.flash_attn_func,
        dense.flash_attn_qkvpacked_func,
        dense.flash_attn_kvpacked_func,
        varlen.flash_attn_varlen_func,
        varlen.flash_attn_varlen_qkvpacked_func,
        varlen.flash_attn_varlen_kvpacked_func,
        kvcache.flash_attn_with_kvcache,
    )
}
_PADDING: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        bert_padding.index_first_axis,
        bert_padding.index_put_first_axis,
        bert_padding.pad_input,
        bert_padding.unpad_input,
    )
}
_ROTARY: Mapping[str, Callable[..., Any]] = {"apply_rotary_emb": rotary.apply_rotary_emb}

_TRANSFORMERS = "transformers"
_AVAILABLE = "is_flash_attn_2_available"
_MATRIX = "FLASH_ATTENTION_COMPATIBILITY_MATRIX"
_LOADED = "_loaded_implementation"
_TAUGHT_AT_IMPORT = (f"{_TRANSFORMERS}.utils.import_utils", f"{_TRANSFORMERS}.modeling_flash_attention_utils")


def patch_flash_attn(*, replace: bool = False) -> "FlashAttnPatch":
    """From now on `import flash_attn` finds Octavo's functions, in this process; and so does
    `attn_implementation="flash_attention_2"` of transformers, which is told that a CPU will do.

    There are flash_attn, .flash_attn_interface, .bert_padding and .layers.rotary (apply_rotary_emb); what they lack is an
    ImportError. Package metadata name flash-attn 2.8.3+octavo. Modules that imported names of the real package before keep them.
    Returns what undoes it, with `unpatch()` or as a context; of several calls, the last to be undone undoes it. Raises
    `OpArgumentError` where the real package is installed, unless `replace`.
    """
    for finder in sys.meta_path:
        if isinstance(finder, _Replacement):
            return FlashAttnPatch(finder)
    if not replace and (PACKAGE in sys.modules or find_spec(PACKAGE) is not None):
        raise OpArgumentError(
            "flash_attn: got a real one, installed here; allowed none; use that, or call patch_flash_attn(replace=True)",
            param="replace",
        )
    replacement = _Replacement()
    replacement.apply()
    return FlashAttnPatch(replacement)


class FlashAttnPatch:
    """One call's hold on the replacement, which stays for as long as somebody has one."""

    def __init__(self, replacement: "_Replacement") -> None:
        self._replacement: _Replacement | None = replacement
        replacement.num_holders += 1

    def unpatch(self) -> None:
        """Everything as it was, unless another call still needs it; a second time does nothing."""
        replacement, self._replacement = self._replacement, None
        if replacement is None:
            return
        replacement.num_holders -= 1
        if replacement.num_holders == 0:
            replacement.undo()

    def __enter__(self) -> "FlashAttnPatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unpatch()


class _Replacement(DistributionFinder):
    """Owns what was replaced, and gives it back. Among `sys.meta_path` it answers for the package's metadata, and sees
    transformers being imported."""

    def __init__(self) -> None:
        self.num_holders = 0
        self._real_modules: dict[str, ModuleType] = {}
        self._real_check: Callable[..., bool] | None = None

    def apply(self) -> None:
        self._real_modules = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_in(name, PACKAGE)}
        sys.modules.update({module.__name__: module for module in _modules()})
        sys.meta_path.insert(0, self)
        self.teach_transformers()

    def undo(self) -> None:
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if _is_in(name, PACKAGE)]:
            del sys.modules[name]
        sys.modules.update(self._real_modules)
        if self._real_check is not None:
            _swap(_is_available, self._real_check)
            self._real_check = None

    def teach_transformers(self) -> None:
        """If it is imported: FlashAttention 2 is available, and runs on a CPU."""
        import_utils = sys.modules.get(_TAUGHT_AT_IMPORT[0])
        if import_utils is None:
            return
        if self._real_check is None:
            self._real_check = vars(import_utils).get(_AVAILABLE)
        if self._real_check is None:
            logger.warning("this version of transformers has no %s: its attention was not patched", _AVAILABLE)
            return
        _swap(self._real_check, _is_available)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _TAUGHT_AT_IMPORT:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _TeachingLoader(spec.loader, self)
        return spec

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        name = None if context is None else context.name
        return [_Metadata()] if name is None or name.replace("-", "_").lower() == PACKAGE else []


class _Metadata(Distribution):
    """Says flash-attn, and which one."""

    def read_text(self, filename: str) -> str | None:
        files = {
            "METADATA": f"Metadata-Version: 2.1\nName: flash-attn\nVersion: {VERSION}\nSummary: Octavo's attention\n",
            "top_level.txt": f"{PACKAGE}\n",
        }
        return files.get(filename)

    def locate_file(self, path: str | PathLike[str]) -> Path:
        return Path(__file__).parent / path


class _TeachingLoader(Loader):
    """Loads a module of transformers, and then has the patch look at it."""

    def __init__(self, inner: Loader, replacement: _Replacement) -> None:
        self.inner = inner
        self.replacement = replacement

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.inner
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        self.inner.exec_module(module)
        self.replacement.teach_transformers()


def _is_available(kernels_fallback_ok: bool = False) -> bool:
    """transformers' question, whether FlashAttention 2 can be imported and its device is there."""
    return True


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _swap(old: Callable[..., bool], new: Callable[..., bool]) -> None:
    """In whatever of transformers asks `old` whether FlashAttention 2 is available."""
    for name, module in list(sys.modules.items()):
        names = vars(module) if _is_in(name, _TRANSFORMERS) else {}
        if names.get(_AVAILABLE) is old:
            names[_AVAILABLE] = new
        entry = names.get(_MATRIX, {}).get(2, {})
        if entry.get("general_availability_check") in (old, new):
            entry["general_availability_check"] = new
            devices = [device for device in entry["supported_devices"] if device[0] is not _is_available]
            entry["supported_devices"] = (*devices, *([(new, "cpu")] if new is _is_available else []))
            names[_LOADED] = None  # so that the next model imports again


def _modules() -> list[ModuleType]:
    """The package and its parts, each known to its parent."""
    root = _module(PACKAGE, {"__version__": VERSION, **_FUNCTIONS}, is_package=True)
    interface = _module(f"{PACKAGE}.flash_attn_interface", _FUNCTIONS)
    padding = _module(f"{PACKAGE}.bert_padding", _PADDING)
    layers = _module(f"{PACKAGE}.layers", {}, is_package=True)
    rotary_module = _module(f"{PACKAGE}.layers.rotary", _ROTARY)
    vars(root).update(flash_attn_interface=interface, bert_padding=padding, layers=layers)
    vars(layers)["rotary"] = rotary_module
    return [root, interface, padding, layers, rotary_module]


def _module(name: str, names: Mapping[str, object], *, is_package: bool = False) -> ModuleType:
    module = ModuleType(name, "Octavo's attention under flash-attn's names.")
    module.__spec__ = ModuleSpec(name, None, origin="octavo", is_package=is_package)
    vars(module).update(names, __all__=[each for each in names if not each.startswith("_")])
    if is_package:
        module.__path__ = []
    return module
