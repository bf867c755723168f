"""The error tree: each child is named by what the user can do about it.

    AssistantError
    ├── ConfigError         a setting or an argument is wrong: change it
    ├── CorpusError         a source could not be read: fix the file or its name
    ├── StoreError          the library on disk refuses: see the message
    │   ├── EncoderMismatch the library was built with another encoder
    │   ├── LibraryBusy     another process is writing to the library: wait
    │   └── LibraryDamaged  its file cannot be trusted: it is restored from the journal at the next opening
    ├── NotAllowed          these credentials are not good for that: use others
    ├── Busy                too many questions at once: ask again in so many seconds
    ├── PromptError         a prompt file is unusable: mend the file
    └── LLMError            the endpoint gave no usable answer
        ├── LLMTimeout      nothing usable before the deadline
        ├── LLMUnavailable  refused, reset, cut, DNS, TLS, 5xx, 429
        ├── LLMRejected     other 4xx, redirects, content filters
        └── LLMUnparsable   a reply that cannot be read

Each message has three parts: what failed, the value found, the next step. A key never appears in one.
"""

from __future__ import annotations

from typing import ClassVar


class AssistantError(Exception):
    """The root: catch it to catch everything this package raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What the command line exits with: 1 failed, 2 wrong usage, 3 unreadable library or source."""


class ConfigError(AssistantError):
    """A setting or an argument is unknown or out of range."""

    exit_code = 2


class CorpusError(AssistantError):
    """A source is missing, unreadable or of no known format."""

    exit_code = 3


class StoreError(AssistantError):
    """The library on disk cannot be opened, read or written."""

    exit_code = 3


class EncoderMismatch(StoreError):
    """The library holds vectors of another encoder than the one configured."""


class LibraryBusy(StoreError):
    """Another process holds the write lock of the library."""


class LibraryDamaged(StoreError):
    """The library's file is damaged, gone, or has lost commits."""


class NotAllowed(AssistantError):
    """The credentials are missing, wrong, or not good for what was asked."""


class Busy(AssistantError):
    """Too many questions wait already."""

    retry_s: int = 5
    """When it is worth asking again."""


class PromptError(AssistantError):
    """A prompt file is missing, unreadable or has missing or unknown variables."""

    exit_code = 2


class LLMError(AssistantError):
    """The endpoint gave no usable answer; `kind` is the word used in `Answer.fallback`."""

    kind: ClassVar[str] = "llm_unavailable"
    can_retry: ClassVar[bool] = False

    requests: int = 0
    """Requests sent before it was raised."""
    too_long: bool = False
    """True when the endpoint says that the prompt does not fit its context: ask again with less evidence."""


class LLMTimeout(LLMError):
    """The deadline of the question passed."""

    kind = "llm_timeout"


class LLMUnavailable(LLMError):
    """Refused, reset or cut connection, DNS or TLS failure, 5xx or 429."""

    kind = "llm_unavailable"
    can_retry = True


class LLMRejected(LLMError):
    """The endpoint refuses this request: another 4xx, a redirect, a content filter."""

    kind = "llm_rejected"


class LLMUnparsable(LLMError):
    """The endpoint replied with something that is no chat completion."""

    kind = "llm_unparsable"
