"""What is asked meanwhile goes together, a lone question alone, and each gets its own rows or its own error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from assistant.sharing import LAST, Shared, remembered


class Slow:
    """Encodes a text as its length; the first time it waits until it may go on. A text "bad" fails all it is with."""

    def __init__(self):
        self.calls: list[list[str]] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, texts):
        self.calls.append(texts)
        if len(self.calls) == 1:
            self.begun.set()
            assert self.may_go_on.wait(30)
        if "bad" in texts:
            raise ValueError("a bad text")
        return np.array([[len(text)] for text in texts], dtype=np.float32).reshape(len(texts), 1)


def ask_meanwhile(slow, shared, questions):
    """Ask questions, a thread each, while a first one is being served; return the futures of these."""
    pool = ThreadPoolExecutor(len(questions) + 1)
    first = pool.submit(shared.encode, ["first"])
    assert slow.begun.wait(30)
    asked = [pool.submit(shared.encode, each) for each in questions]
    for _ in range(3000):
        if len(shared._waiting) == len(questions):
            break
        threading.Event().wait(0.01)
    slow.may_go_on.set()
    wait([first, *asked], timeout=30)
    pool.shutdown()
    assert first.result().tolist() == [[5]]
    return asked


def test_what_is_asked_while_one_is_served_goes_together():
    slow = Slow()
    questions = [["a"], ["bb", "ccc"], [], ["dddd"]]
    asked = ask_meanwhile(slow, Shared(slow), questions)
    assert [each.result().tolist() for each in asked] == [[[1]], [[2], [3]], [], [[4]]]
    assert slow.calls[0] == ["first"]
    assert sorted(slow.calls[1]) == ["a", "bb", "ccc", "dddd"]
    assert len(slow.calls) == 2


def test_a_question_alone_is_served_at_once():
    slow = Slow()
    slow.may_go_on.set()
    shared = Shared(slow)
    assert shared.encode(["a"]).tolist() == [[1]]
    assert shared.encode(["bb"]).tolist() == [[2]]
    assert slow.calls == [["a"], ["bb"]]


def test_an_error_is_that_of_the_one_who_caused_it():
    slow = Slow()
    shared = Shared(slow)
    good, bad, other = ask_meanwhile(slow, shared, [["a"], ["bad"], ["cc"]])
    assert (good.result().tolist(), other.result().tolist()) == ([[1]], [[2]])
    with pytest.raises(ValueError, match="a bad text"):
        bad.result()
    assert shared.encode(["after"]).tolist() == [[5]]


def test_many_threads_get_their_own_rows():
    shared = Shared(lambda texts: np.array([[int(text)] for text in texts], dtype=np.float32))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: shared.encode([str(i), str(i + 1)]), range(2000)))
    assert all(rows.tolist() == [[i], [i + 1]] for i, rows in enumerate(found))


def test_a_question_is_encoded_once_until_many_others_were_asked():
    calls = []

    def encode(texts):
        calls.append(texts)
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    ask = remembered(encode)
    assert [ask(["bb"]).tolist(), ask(("bb",)).tolist(), ask(["a", "bb"]).tolist()] == [[[2]], [[2]], [[1], [2]]]
    assert calls == [["bb"], ["a", "bb"]]
    with pytest.raises(ValueError, match="read-only"):
        ask(["bb"])[0, 0] = 9
    for i in range(LAST):
        ask([f"another {i}"])
    ask(["bb"])
    assert calls.count(["bb"]) == 2
