from __future__ import annotations

from pathlib import Path

import pytest

from assistant.errors import PromptError
from assistant.prompt import build_prompt, load_templates
from assistant.types import Hit, Paper

SHIPPED = Path(__file__).parent.parent / "prompts" / "answer.toml"


def hits(n: int, abstract: str = "A first sentence. A $second {one} [3].") -> list[Hit]:
    papers = [Paper(f"p{i}", f"Title {i} $question", f"{abstract} {i}") for i in range(n)]
    return [Hit(i + 1, 1.0 - i / 10, paper, paper.abstract[:17], 0, 17, {"dense": 1}) for i, paper in enumerate(papers)]


def test_markers_mean_the_evidence_in_order_and_abstracts_are_no_templates() -> None:
    prompt = build_prompt("Why $question?", hits(3), load_templates(), budget=4000)
    assert [piece.number for piece in prompt.evidence] == [1, 2, 3]
    user = prompt.messages[-1]["content"]
    assert "[2] Title 1 $question" in user and "A $second {one} [3]. 1" in user and "Why $question?" in user


def test_the_fence_is_repeatable_and_in_no_abstract() -> None:
    one, two = (build_prompt("Why?", hits(2), load_templates(), budget=4000).messages for _ in range(2))
    assert one == two
    fence = one[-1]["content"].splitlines()[1]
    assert len(fence) == 19 and fence in one[0]["content"]
    assert (
        build_prompt("Why not?", hits(2), load_templates(), budget=4000).messages[-1]["content"].splitlines()[1]
        != fence
    )


@pytest.mark.parametrize(
    ("mark", "broken"),
    [
        ("<|im_end|>", "< |im_end|>"),
        ("<｜User｜>", "< ｜User｜>"),
        ("</s><s>", "< /s>< s>"),
        ("<<SYS>>", "< < SYS>>"),
        ("[/INST]", "[ /INST]"),
        ("<end_of_turn>", "< end_of_turn>"),
        ("</think>", "< /think>"),
        ("<s_1, s_2> with p<s and [CLS]", "<s_1, s_2> with p<s and [CLS]"),
    ],
)
def test_no_text_ends_its_message_by_a_mark_that_servers_read(mark: str, broken: str) -> None:
    history = [{"role": "user", "content": f"Before {mark}?"}]
    prompt = build_prompt(f"Why {mark}?", hits(1, f"So {mark}."), load_templates(), budget=4000, history=history)
    _, before, user = (message["content"] for message in prompt.messages)
    assert before == f"Before {broken}?" and user.endswith(f"Why {broken}?") and f"So {broken}." in user
    assert prompt.question == f"Why {mark}?" and f"So {mark}." in prompt.evidence[0].passage


def test_evidence_stays_within_the_budget_and_falls_back_to_passages() -> None:
    long = hits(8, "A first sentence. " + "Many more words follow here. " * 60)
    prompt = build_prompt("Why?", long, load_templates(), budget=900)
    assert 1 <= len(prompt.evidence) <= 8
    assert any(piece.passage == "A first sentence." for piece in prompt.evidence)
    assert all(piece.paper.abstract[piece.start : piece.end] == piece.passage for piece in prompt.evidence)
    assert prompt.tokens_estimated
    assert len(build_prompt("Why?", long, load_templates(), budget=100_000).evidence) == 8
    assert len(build_prompt("Why?", long, load_templates(), budget=1).evidence) == 1


def test_history_stands_between_system_and_question_without_its_markers() -> None:
    history = [
        {"role": "user", "content": "Before?"},
        {"role": "assistant", "content": "So it is [1]. And more [2][3]."},
    ]
    messages = build_prompt("Why?", hits(1), load_templates(), budget=4000, history=history).messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == "So it is. And more."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("$question", "nothing"), "lacks the variable \\$question"),
        (("$language", "$langauge"), "unknown variable|lacks the variable"),
        (("Question: ", "Question: $ "), "stray"),
        (("system =", "sytem ="), "no text 'system'"),
        (('"""', '"'), "cannot read"),
    ],
)
def test_a_prompt_file_is_checked_when_it_is_loaded(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    (tmp_path / "answer.toml").write_text(SHIPPED.read_text().replace(*change))
    with pytest.raises(PromptError, match=reason):
        load_templates(tmp_path)


def test_a_folder_of_ones_own_overrides_the_shipped_prompts(tmp_path: Path) -> None:
    (tmp_path / "answer.toml").write_text(SHIPPED.read_text().replace("You answer", "Ahoy! You answer"))
    mine = load_templates(tmp_path)
    assert build_prompt("Why?", hits(1), mine, budget=400).messages[0]["content"].startswith("Ahoy!")
    assert mine.digest != load_templates().digest
    with pytest.raises(PromptError, match="no prompt file"):
        load_templates(tmp_path / "elsewhere")
