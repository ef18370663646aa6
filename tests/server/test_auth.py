"""Several API keys, on the command line and in a file; none is ever shown."""

from pathlib import Path

import pytest
from server.conftest import InProcess
from server.fake_engine import FakeEngine
from starlette.datastructures import Headers

from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError
from octavo.server.auth import KeyCheck, load_keys
from octavo.server.errors import ApiError


def bearer(key: str) -> Headers:
    return Headers({"authorization": f"Bearer {key}"})


def test_any_of_the_keys_lets_in_and_says_which() -> None:
    check = KeyCheck(("first-key", "second-key"))
    assert check.require(bearer("first-key")) == 0
    assert check.require(bearer("second-key")) == 1
    for key in ("", "third", "first-key second-key", "first-ke", "first-key,second-key"):
        with pytest.raises(ApiError) as raised:
            check.require(bearer(key))
        assert raised.value.status == 401
    assert check.require(Headers({"x-api-key": "second-key"})) == 1
    assert KeyCheck(()).require(Headers({})) is None


def test_one_key_may_be_sent_both_ways() -> None:
    """As Anthropic's client does where both of its environment variables are set."""
    check = KeyCheck(("first-key", "second-key"))
    assert check.require(Headers({"authorization": "Bearer second-key", "x-api-key": "second-key"})) == 1
    for bearer_key in ("first-key", "", "wrong"):
        with pytest.raises(ApiError, match="is there twice"):
            check.require(Headers({"authorization": f"Bearer {bearer_key}", "x-api-key": "second-key"}))


@pytest.mark.parametrize("credentials", ["", "é", "%", "Zmlyc3Qta2V5", "Zmlyc3Qta2V5Og==", "OmZpcnN0LWtleQ", "/w=="])
def test_a_password_that_is_none(credentials: str) -> None:
    """Not base64, or without a colon, or with the key before it, or unfinished."""
    raw = [(b"authorization", f"Basic {credentials}".encode("latin-1"))]
    with pytest.raises(ApiError, match="the API key is"):
        KeyCheck(("first-key",)).require(Headers(raw=raw))


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time does not tell which key was right."""
    compared = []
    monkeypatch.setattr(
        "octavo.server.auth.hmac.compare_digest", lambda given, own: compared.append(own) or given == own
    )
    check = KeyCheck(("a", "b", "c"))
    check.require(bearer("a"))
    assert len(compared) == 3


def test_keys_of_a_file_are_added(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n key-b \n\nkey-c\n")
    assert load_keys(ServerConfig(api_key=("key-a",), api_key_file=str(file))) == ("key-a", "key-b", "key-c")
    server = InProcess(FakeEngine(), api_key_file=str(file))
    assert server.get("/v1/models").status_code == 401
    assert server.get("/v1/models", headers={"authorization": "Bearer key-c"}).status_code == 200


@pytest.mark.parametrize("text", ["", " \n", "two words\n", "schlüssel\n", "key-a\n", "x\nx\n", "x" * 2000, None])
def test_bad_files_are_refused_without_a_key_in_the_message(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_keys(ServerConfig(api_key=("key-a",), api_key_file=str(file)))
    assert raised.value.param == "api_key_file"
    for key in ("key-a", "two words", "schlüssel", "xxxx"):
        assert key not in str(raised.value)


def test_a_line_that_is_no_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("key-b\n\n# team a\n")
    with pytest.raises(ConfigError, match=r"line 3 is not a key .*no comments"):
        load_keys(ServerConfig(api_key=("key-a",), api_key_file=str(file)))
