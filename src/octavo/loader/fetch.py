"""From a name to a model on this machine: a path, an alias, or a Hugging Face repository."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from octavo.core.errors import ModelFetchError, ModelNotFoundError, UnsupportedModelError
from octavo.core.near_names import did_you_mean
from octavo.loader.aliases import ALIASES
from octavo.loader.file_endings import wrong_ending
from octavo.loader.model_cache import cached_path, is_cached
from octavo.loader.pull import manual_instructions, pull

logger = logging.getLogger(__name__)

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(rf"(?P<repo_id>{_PART}/{_PART})(@(?P<revision>[\w./-]+))?(:(?P<file_name>[^:]+))?")
_FILES = ("*.safetensors", "*.json", "*.model", "*.jinja", "*.txt")
_NOT_FILES = ("*/*", "consolidated*")  # other formats lie in folders; consolidated* repeats the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repository:
    """«org/name», «org/name@revision», «org/name:file.gguf»."""

    repo_id: str
    revision: str | None
    file_name: str | None


def resolve_model(name: str, *, cache_dir: Path, allow_download: bool = True, progress: bool = True) -> Path:
    """Return the .gguf file or model directory that `name` stands for, fetching it where it is not here.

    In this order: a path that exists; an alias (below `cache_dir`); a Hugging Face repository
    (in that library's own cache, with the user's own token and endpoint), whose GGUF file is
    chosen as «org/name:file.gguf» and whose revision as «org/name@revision».

    Raises `ModelNotFoundError` where the name leads nowhere, or only to the network and
    `allow_download` is False; `UnsupportedModelError` for a file or repository of another format.
    """
    path = _existing_path(name)
    if path is not None:
        if name in ALIASES:
            logger.info("%s is taken as the path %s, not as the alias", name, path.absolute())
        if path.is_dir() or path.suffix.lower() == ".gguf":
            return path
        raise wrong_ending(path)
    if name in ALIASES:
        return _resolve_alias(name, cache_dir, allow_download, progress)
    repository = _parse_repository(name)
    if repository is None:
        raise _unknown(name)
    return _resolve_repository(repository, allow_download)


def _existing_path(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError):  # too long, NUL in it, «~nobody»: no path in any case
        return None
    return path if name else None


def _resolve_alias(name: str, cache_dir: Path, allow_download: bool, progress: bool) -> Path:
    alias = ALIASES[name]
    if allow_download:
        return pull(alias, cache_dir=cache_dir, progress=progress)
    if is_cached(alias, cache_dir):
        return cached_path(alias, cache_dir)
    raise ModelNotFoundError(
        f"{name!r} is not on this machine and downloads are off; allow them, or "
        + manual_instructions(alias, cache_dir),
        param="model",
    )


def _parse_repository(name: str) -> _Repository | None:
    """None where `name` is not spelt like a repository, or rather like a path."""
    match = _REPOSITORY.fullmatch(name)
    if match is None or ".." in name:
        return None
    if match["file_name"] is None and name.lower().endswith((".gguf", ".safetensors", ".bin", ".pt")):
        return None
    return _Repository(repo_id=match["repo_id"], revision=match["revision"], file_name=match["file_name"])


def _resolve_repository(repository: _Repository, allow_download: bool) -> Path:
    if repository.file_name is not None and not repository.file_name.lower().endswith(".gguf"):
        raise wrong_ending(Path(repository.file_name))
    import huggingface_hub

    logger.info(
        "%s: looking at the Hugging Face hub%s",
        repository.repo_id,
        "" if allow_download else "'s cache on this machine",
    )
    if repository.file_name is not None:
        file_name = repository.file_name
        return Path(
            _ask_hub(
                repository,
                allow_download,
                lambda: huggingface_hub.hf_hub_download(
                    repository.repo_id, file_name, revision=repository.revision, local_files_only=not allow_download
                ),
            )
        )
    directory = Path(
        _ask_hub(
            repository,
            allow_download,
            lambda: huggingface_hub.snapshot_download(
                repository.repo_id,
                revision=repository.revision,
                allow_patterns=list(_FILES),
                ignore_patterns=list(_NOT_FILES),
                local_files_only=not allow_download,
            ),
        )
    )
    if not any(directory.glob("*.safetensors")):
        raise _without_safetensors(repository, directory, allow_download)
    return directory


def _ask_hub(repository: _Repository, allow_download: bool, call: Callable[[], str]) -> str:
    """Run `call`; every way in which the hub cannot answer becomes a `ModelNotFoundError`."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return call()
    except Exception as error:  # its HTTP library, and so what it raises, differs between versions
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        wanted = repository.repo_id + (f":{repository.file_name}" if repository.file_name else "")
        remedy = (
            "check the name, the revision and the network, and for a gated model log in («hf auth login»)"
            if allow_download
            else "allow downloads"
        )
        has_answered = isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError))
        kind = ModelNotFoundError if has_answered or not allow_download else ModelFetchError
        raise kind(
            f"{wanted!r} is no path or alias here, and the Hugging Face hub did not give it ({reason[:300]}); "
            f"{remedy}, or name a directory, a .gguf file or an alias: {', '.join(ALIASES)}",
            param="model",
        ) from error


def _without_safetensors(repository: _Repository, directory: Path, allow_download: bool) -> UnsupportedModelError:
    """The error for a repository of GGUF files, which one must choose from, or of pickles."""
    names: list[str] = []
    if allow_download:
        from huggingface_hub import list_repo_files

        files = _ask_hub(
            repository,
            allow_download,
            lambda: "\n".join(list_repo_files(repository.repo_id, revision=repository.revision)),
        )
        names = [name for name in files.splitlines() if name.lower().endswith(".gguf")]
    revision = f"@{repository.revision}" if repository.revision else ""
    if names:
        choices = ", ".join(f"{repository.repo_id}{revision}:{name}" for name in names[:8])
        problem = f"has GGUF files; choose one: {choices}{', …' if len(names) > 8 else ''}"
    else:
        problem = f"has no safetensors (see {directory}); choose a repository with safetensors or GGUF files"
    return UnsupportedModelError(f"{repository.repo_id!r} {problem}", param="model")


def _unknown(name: str) -> ModelNotFoundError:
    hint = did_you_mean(name.lower(), ALIASES)
    return ModelNotFoundError(
        f"model {name[:200]!r} is no path that exists, no alias ({', '.join(ALIASES)}) and no Hugging Face repository "
        "(org/name)" + (f"; {hint}" if hint else ""),
        param="model",
    )
