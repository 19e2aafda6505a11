import pytest

from omni_r1.perpo.reward import grade
from omni_r1.trajectory import extract_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("THOUGHT 1: look. Final Answer: red", "red"),
        ("Final Answer: red\nFinal Answer: blue\nand more", "blue"),
        ("<reserved12856>hm<reserved12857><reserved12866> 4 <reserved12867>", "4"),
        ("no answer here", None),
        ("Final Answer:  ", None),
        ("", None),
        ("<reserved12866>3<reserved12867> no: <reserved12866>4<reserved12867>", "4"),
        ("Final Answer: 3 <reserved12866>4<reserved12867>", "4"),  # tags first
        ("Final Answer: red</s>", "red"),
        ("Final Answer: red <image_2></s><pad><pad>", "red"),
        ("<reserved12866>4</s><reserved12867></s>", "4"),
        ("Final Answer: </s>", None),
        ("Final Answer: \\boxed{B}", "\\boxed{B}"),  # the grader's business
        ("Final Answer: a < b", "a < b"),
        ("Final Answer: <b>", "<b>"),
        ("<reserved12866>4", None),  # cut off
    ],
)
def test_extract(response, answer):
    assert extract_answer(response) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        ("Red.", "red", True),
        ("the red", "red", True),
        ("The answer is 1,000", "1000", True),
        ("3.0", "3", True),
        ("-2", "\u22122", True),
        ("dark red", "red", False),
        ("incorrect", "correct", False),  # 0.875 alike: the original pays this
        ("unbalanced forces", "balanced forces", False),
        ("5 apples", "9 apples", False),
        ("3 or 4", "3", False),
        ("1,2,3", "123", False),
        ("A B", "B", False),
        ("a house", "house", True),
        ("5!", "5", False),
        ("red!", "red", True),
        ("5\u00b2", "52", False),
        ("5\u00b2", "5^2", True),
        ("well-known", "well known", True),
        ("", "", False),
        (None, "red", False),
    ],
)
def test_grade(answer, gold, correct):
    verdict = grade(answer, gold)
    assert verdict.correct is correct
    assert verdict.reason
