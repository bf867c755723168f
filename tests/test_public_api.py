from __future__ import annotations

import assistant


def test_the_table_of_contents_is_frozen() -> None:
    assert assistant.__all__ == [
        "Answer", "Assistant", "AssistantError", "Citation", "Config", "ConfigError", "CorpusError", "EncoderMismatch",
        "Hit", "LLMError", "LLMRejected", "LLMTimeout", "LLMUnavailable", "LLMUnparsable", "LibraryBusy",
        "LibraryDamaged", "Paper",
        "PromptError", "StoreError", "ask",
    ]  # fmt: skip


def test_every_name_can_be_imported_and_is_documented() -> None:
    for name in assistant.__all__:
        assert getattr(assistant, name).__doc__, name


def test_a_module_never_hides_the_function_ask() -> None:
    from assistant.answer import Assistant  # noqa: F401

    assert callable(assistant.ask)
