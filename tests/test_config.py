from __future__ import annotations

from pathlib import Path

import pytest

from assistant.config import OPENAI_URL, Config
from assistant.errors import ConfigError


def test_argument_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config().k == 8
    Path("assistant.toml").write_text("k = 5\nllm_model = 'from-file'\n")
    assert (Config().k, Config().llm_model) == (5, "from-file")
    monkeypatch.setenv("ASSISTANT_K", "6")
    assert Config().k == 6
    assert Config(k=7).k == 7
    assert Config(k=7).llm_model == "from-file"
    assert Config(llm_model=None).llm_model is None


def test_a_named_file_is_read_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("evidence_tokens = 900")
    assert Config(tmp_path / "mine.toml").evidence_tokens == 900
    with pytest.raises(ConfigError, match="does not exist"):
        Config(tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"libary": "x"}, "did you mean 'library'"),
        ({"k": 0}, "k .* is 0; give a number from 1 to 100"),
        ({"k": "many"}, "k .*'many'"),
        ({"k": True}, "k .*True"),
        ({"llm_timeout_s": -1}, "llm_timeout_s"),
        ({"search": "quick"}, "choose one of auto, exact, chroma"),
        ({"llm_base_url": "ftp://x"}, "http or https"),
        ({"llm_model": 7}, "llm_model"),
    ],
)
def test_wrong_settings_are_refused_with_the_value_and_the_next_step(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**settings)  # type: ignore[arg-type]


def test_wrong_names_and_values_in_the_file_are_refused() -> None:
    Path("assistant.toml").write_text("evidence_token = 900")
    with pytest.raises(ConfigError, match=r"assistant.toml.*did you mean 'evidence_tokens'"):
        Config()
    Path("assistant.toml").write_text("k = [")
    with pytest.raises(ConfigError, match="cannot read the settings"):
        Config()


def test_a_key_from_the_environment_never_goes_to_an_address_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("assistant.toml").write_text("llm_base_url = 'http://evil.invalid/v1'\nllm_model = 'm'")
    monkeypatch.setenv("ASSISTANT_LLM_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert Config().api_key is None
    assert Config(llm_base_url="http://mine.invalid/v1").api_key == "sk-secret"
    assert Config(llm_api_key="sk-asked").api_key == "sk-asked"


def test_the_openai_key_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert Config().api_key == "sk-openai" and Config().llm_base_url == OPENAI_URL
    assert Config(llm_base_url="http://other.invalid/v1").api_key is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy.invalid/v1/")
    assert Config().llm_base_url == "http://proxy.invalid/v1/" and Config().api_key == "sk-openai"


def test_no_key_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_LLM_API_KEY", "sk-secret")
    config = Config(k=9)
    assert "sk-secret" not in repr(config) + str(config) + config.digest
    assert "pass1" not in repr(Config(llm_base_url="http://me:pass1@127.0.0.1:1/v1"))
    assert "k=9" in repr(config)


def test_the_digest_tells_settings_apart_that_shape_answers() -> None:
    assert Config(k=9).digest != Config(k=8).digest
    assert Config(llm_api_key="a", library="x").digest == Config(llm_api_key="b", library="y").digest


def test_a_changed_address_leaves_the_key_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(llm_base_url="http://127.0.0.1:1/v1", llm_api_key="secret-of-the-first-address")
    assert config.changed(k=3).api_key == "secret-of-the-first-address" and config.changed(k=3).k == 3
    assert config.changed(llm_base_url="http://127.0.0.1:2/v1").api_key is None
    both = config.changed(llm_base_url="http://127.0.0.1:2/v1", llm_api_key="another")
    assert both.api_key == "another" and config.api_key == "secret-of-the-first-address"
    monkeypatch.setenv("ASSISTANT_LLM_API_KEY", "from-outside")
    assert Config().changed(llm_base_url="http://127.0.0.1:2/v1").api_key is None


@pytest.mark.parametrize("address", ["", "ftp://x", "http://", "http://[", "http://h:99999", "javascript:alert(1)"])
def test_a_changed_address_is_checked(address: str) -> None:
    with pytest.raises(ConfigError, match="llm_base_url"):
        Config().changed(llm_base_url=address)
    with pytest.raises(ConfigError, match="did you mean 'k'|unknown"):
        Config().changed(kk=3)  # type: ignore[call-arg]
