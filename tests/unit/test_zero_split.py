"""Rationales as data sets have them, to steps."""

import pytest

from omni_r1.zero.split import chosen_letter, concludes, markup, reaches, split

CASES = {
    "labels": (
        "THOUGHT 1: A box on the heart.\nTHOUGHT 2: The box moves right.",
        ["A box on the heart.", "The box moves right."],
        "",
    ),
    "labels from 0, one of them N, in one line": (
        "THOUGHT 0: Look at it. THOUGHT N: Draw the line.",
        ["Look at it.", "Draw the line."],
        "",
    ),
    "steps in bold, words before them, a closing line": (
        "Let us look.\n**Step 1**: We see the ramp here.\n**Step 2**: It rolls.\n(C) is the correct answer",
        ["Let us look. We see the ramp here.", "It rolls."],
        "(C) is the correct answer",
    ),
    "steps and an abbreviation": (
        "Step 1: Look at Fig. 2. It has 3.5 cm.\nStep 2: Compare.\nStep 3: The answer is (A).",
        ["Look at Fig. 2. It has 3.5 cm.", "Compare."],
        "The answer is (A).",
    ),
    "numbers on lines": (
        "1. The sun is above.\n   It is noon.\n2) So shadows are short.",
        ["The sun is above. It is noon.", "So shadows are short."],
        "",
    ),
    "numbers in a line": (
        "1. Find the bar. 2. Read its height. 3. Compare.",
        ["Find the bar.", "Read its height.", "Compare."],
        "",
    ),
    "a decimal is no number of a step": (
        "The mass is 2. 5 kg would be more. The volume is 1.5 l.",
        ["The mass is 2.", "5 kg would be more.", "The volume is 1.5 l."],
        "",
    ),
    "lines, the last one the answer": (
        "The picture shows ice on a warm plate.\nHeat flows into the ice.\nTherefore, (B) ice is correct answer.",
        ["The picture shows ice on a warm plate.", "Heat flows into the ice."],
        "Therefore, (B) ice is correct answer.",
    ),
    "blank lines, windows ends, bullets": (
        "- The dog runs fast.\r\n\r\n- The cat sleeps there.\r\n",
        ["The dog runs fast.", "The cat sleeps there."],
        "",
    ),
    "a list behind a colon stays with it": (
        "The options are:\n(A) dog\n(B) cat\nThe animal has whiskers.\nThe answer is (B) cat",
        ["The options are: (A) dog (B) cat", "The animal has whiskers."],
        "The answer is (B) cat",
    ),
    "a line that goes on": (
        "The magnet is close to\nthe iron nail here.\nIt pulls the nail.",
        ["The magnet is close to the iron nail here.", "It pulls the nail."],
        "",
    ),
    "sentences": (
        "The man holds a bat, e.g. for baseball. He wears a cap! What is he? A player of the U.S. team.",
        ["The man holds a bat, e.g. for baseball.", "He wears a cap!", "What is he?", "A player of the U.S. team."],
        "",
    ),
    "a word alone is no step": (
        "Well. The leaf is green here. It makes sugar. Yes.",
        ["Well. The leaf is green here.", "It makes sugar. Yes."],
        "",
    ),
    "an answer alone is no reasoning": ("The answer is (A).", [], "The answer is (A)."),
    "nor in other words": ("The answer is purple.", [], "The answer is purple."),
    "nor announced twice": ("So the answer is (A).\nFinal Answer: A", [], "So the answer is (A)."),
    "a reason is": (
        "The answer is purple, since the box moves right.",
        ["The answer is purple, since the box moves right."],
        "",
    ),
    "and what leads there": (
        "The box moves right and\nwe see that\nthe answer is purple.",
        ["The box moves right and we see that the answer is purple."],
        "",
    ),
    "a formula": (
        r"The legs are $a=3$ and $b=4$." + "\n" + r"So $c=\sqrt{3^2+4^2}=5$ by the theorem.",
        ["The legs are $a=3$ and $b=4$.", r"So $c=\sqrt{3^2+4^2}=5$ by the theorem."],
        "",
    ),
    "a step that is only spoken of sets nothing apart": (
        "The picture shows four stages.\nIn Step 3. the larva is a pupa.\nUsing Step 1. The force is 30 N.",
        ["The picture shows four stages.", "In Step 3. the larva is a pupa.", "Using Step 1. The force is 30 N."],
        "",
    ),
    "the last step is drawn, what it announces is not": (
        "1. Area of A is 3.\n2. Area of B is 4. Compare both. The answer is (B).",
        ["Area of A is 3.", "Area of B is 4. Compare both."],
        "The answer is (B).",
    ),
    "announced twice": (
        "Iron is drawn to it.\nSo, the answer is (A).\nTherefore, (A) attract is correct answer",
        ["Iron is drawn to it."],
        "So, the answer is (A). Therefore, (A) attract is correct answer",
    ),
    "an option that is argued for": (
        "The sky is red now. Option (B) fits since the sun is setting.",
        ["The sky is red now.", "Option (B) fits since the sun is setting."],
        "",
    ),
    "quotes and brackets are kept": (
        'He said "Stop." Then he left it (on the left.) The man went.',
        ['He said "Stop."', "Then he left it (on the left.)", "The man went."],
        "",
    ),
    "choices in numbers are no steps": (
        "The choices are:\n1. a dog\n2. a cat\nThe animal has whiskers.\nIt has a long tail too.",
        ["The choices are: 1. a dog 2. a cat", "The animal has whiskers.", "It has a long tail too."],
        "",
    ),
    "steps behind a colon are": (
        "Follow these steps:\n1. Look at it.\n2.Find that thing.",
        ["Follow these steps: Look at it.", "Find that thing."],
        "",
    ),
    "small letters": ("step 1: look at it.\nstep 2: see this.", ["look at it.", "see this."], ""),
    "labels without a mark": ("Step 1 Look at it.\nStep 2 See this.", ["Look at it.", "See this."], ""),
    "numbers in words": ("Step one: Look at it. Step two: Find it.", ["Look at it.", "Find it."], ""),
    "one label": ("THOUGHT 1: A box on the heart.", ["A box on the heart."], ""),
    "headings are no answers": (
        "#### Scene\nI look at the heart.\n#### Count\nI count three boats.\n#### 3",
        ["#### Scene I look at the heart.", "#### Count I count three boats."],
        "",
    ),
    "nor is a sentence": (
        "I look there now.\nAnswer: we add the bars, 3 and 4, side by side, and get 7 apples.",
        ["I look there now.", "Answer: we add the bars, 3 and 4, side by side, and get 7 apples."],
        "",
    ),
    "nor are steps under such headings": (
        "#### Step 1: Look at it.\n#### Step 2: The box moves right.\n#### purple",
        ["Look at it.", "The box moves right."],
        "",
    ),
    "a closing line in small letters": (
        "A box on the heart.\nThe box moves right.\nso the answer is purple",
        ["A box on the heart.", "The box moves right."],
        "so the answer is purple",
    ),
    "below lines without an end mark": (
        "A box on the heart\nThe box moves right\nso the answer is purple",
        ["A box on the heart", "The box moves right"],
        "so the answer is purple",
    ),
    "a closing sentence in small letters": (
        "A box on the heart. The box moves right. so the answer is purple.",
        ["A box on the heart.", "The box moves right."],
        "so the answer is purple.",
    ),
    "after one that is none": (
        "A box on the heart. it moves right. the answer is purple.",
        ["A box on the heart. it moves right."],
        "the answer is purple.",
    ),
    "but not behind an abbreviation": (
        "The box moves right.\nIt holds things, e.g. the answer is (B) here.",
        ["The box moves right."],
        "It holds things, e.g. the answer is (B) here.",
    ),
    "a clause that an answer is joined to": (
        "A box on the heart.\nThe box moves right and the correct answer is the thing that it then holds, a fish.",
        ["A box on the heart.", "The box moves right and the correct answer is the thing that it then holds, a fish."],
        "",
    ),
    "a closing line of two sentences below numbers": (
        "1. Look at the box.\n2. It moves right.\nAll of it is seen. So the answer is (B).",
        ["Look at the box.", "It moves right.", "All of it is seen."],
        "So the answer is (B).",
    ),
    "a clause before the trajectory's own words": (
        "I look there now.\nTwo and three are five, so Final Answer: 5",
        ["I look there now."],
        "Two and three are five, so",
    ),
    "the trajectory's own words for an answer": (
        "I look there now.\nI see it now.\nTherefore, Final Answer: 5",
        ["I look there now.", "I see it now."],
        "",
    ),
    "and what stands before them": (
        "I look there now.\nTwo and three are five. So it must be this: Final Answer: 5",
        ["I look there now.", "Two and three are five."],
        "So it must be this:",
    ),
    "nothing": (" \n ", [], ""),
}


@pytest.mark.parametrize("name", CASES)
def test_steps(name):
    text, steps, conclusion = CASES[name]
    found = split(text, 20)
    assert (list(found.steps), found.conclusion) == (steps, conclusion)


@pytest.mark.parametrize("most", range(1, 8))
def test_at_most_so_many_and_no_word_is_lost(most):
    sentences = [f"The {word} thing is here." for word in ("first", "second", "third", "fourth", "fifth", "sixth")]
    found = split("\n".join(sentences), most)
    assert len(found.steps) == min(most, 6) and " ".join(found.steps).split() == " ".join(sentences).split()
    sizes = [step.count("thing") for step in found.steps]
    assert max(sizes) - min(sizes) <= 1


def test_what_concludes():
    assert concludes("So the answer is (C).") and concludes("(D) text is correct answer")
    assert concludes("Therefore (B) fits.") and concludes("The correct answer: 42")
    assert not concludes("The correct tool is a lever.") and not concludes("Compare (A) with (B).")
    assert not concludes("The answer is " + "long " * 80)
    assert concludes("Based on the picture, the answer is red.") and concludes("So, thus, the answer is red.")
    assert not concludes("The box moves right, so option (B) is correct.")
    assert not concludes("The box moves right; therefore, the answer is red.")


ANSWER_LINES = [
    *("Final Answer: red", "**Answer:** 5", "#### 5", "Answer: 5", "**Final Answer**: 5", "**Final Answer:**\n5"),
    *("final answer: red", "answer: red", "**Final Answer: red**", "#### red", "#### so it is red in the end"),
    "Answer: (B) a red fish which is right of the heart",
    f"**Answer: (B)** a fish{' of the sea' * 12}",
    f"Final Answer: a fish{' of the sea' * 12}",
]


@pytest.mark.parametrize("line", ANSWER_LINES)
def test_an_answer_line_alone_is_no_reasoning(line):
    assert split(line, 20) == split(f"{line}\n{line}", 20) == split("", 20)


@pytest.mark.parametrize("line", ["final answer: red", "answer: red", "**Final Answer: red**", "#### 5"])
def test_a_final_answer_in_the_same_line_is_not_written_a_second_time(line):
    assert split(f"I look there. I see it now. {line}", 20) == split("I look there. I see it now.", 20)


@pytest.mark.parametrize("line", ANSWER_LINES)
@pytest.mark.parametrize(
    "steps",
    [
        "I look there.\nI see it now.\n",
        "THOUGHT 1: I look there.\nTHOUGHT 2: I see it now.\n",
        "A box.\n",
    ],
)
def test_a_final_answer_line_is_not_written_a_second_time(steps, line):
    without, found = split(steps, 20), split(steps + line, 20)
    assert len(without.steps) == steps.count("\n") and found == without
    announced = split(f"{steps}So the answer is red.\n{line}", 20)
    assert (announced.steps, announced.conclusion) == (without.steps, "So the answer is red.")


@pytest.mark.parametrize(
    "text",
    [
        "I look. Final Answer: red.\nI look at it again.",
        "So it must be this: Final Answer: red",  # all there is is a step, unless it is the answer alone
        "<think>I look at it.</think>\n<answer>red</answer>",
        "I look at it.\nThe answer is <reserved12866>red<reserved12867>",
        "I look at <image> here.",
    ],
)
def test_what_is_laid_out_already_is_told(text):
    assert markup(split(text, 20))
    assert not markup(split("I look: 3 < 5 > 4.\nThe final answer: red.", 20))


@pytest.mark.parametrize(
    ("rationale", "letter"),
    [
        ("(A) is wrong.\n(B) ice is correct answer", "B"),
        ("(A) first. [Answer] (B) (A)", "A"),
        ("It must be ice, since stone is hard to melt, thus ice", "B"),
        ("I take B", "B"),
        ("it is b", "B"),
        ("(F) is none of them", None),
        ("nobody knows", None),
    ],
)
def test_the_letter_a_rationale_comes_to(rationale, letter):
    assert chosen_letter(rationale, ["stone", "ice"]) == letter


def test_more_letters_than_six():
    assert chosen_letter("(G) it is", list("qrstuvw")) == "G"


def test_an_answer_in_a_choices_words_is_reached_by_them():
    assert reaches("So it is ice.", "ice", ["stone", "ice"]) and not reaches("It is (A).", "ice", ["stone", "ice"])


def test_reaching_the_answer_without_choices():
    assert reaches("So it is Blue.", "blue", ()) and not reaches("bluebell", "blue", ())
    assert (
        reaches("3.5 cm (half)", "(half)", ())
        and reaches("(B)", "B", ["x", "y"])
        and not reaches("(A)", "B", ["x", "y"])
    )


@pytest.mark.parametrize(
    ("answer", "said", "not_said"),
    [
        ("A", ["So (A).", "It is option A.", "The answer is A", "Answer: **A**", "I look.\nA", "A is correct."], []),
        ("B", ["So it is B.", "Therefore, B", "The answer must be B.", "It is *B*."], ["B flat is heard."]),
        ("a", ["The answer is a.", "so (a)"], ["So the answer is a boat.", "It is a boat."]),
        ("A", [], ["A boat is there.", "It is a boat: the answer is a boat.", "Plan A fails.", "the answer is (B)"]),
        ("(B)", ["the answer is B.", "(B) fits", "[Answer] B"], ["Take vitamin B."]),
        ("x", ["So the answer is x."], ["The x axis."]),
        (
            "3",
            ["It is 3.", "x=3, so", "$3$", "(3)", "2+1=3"],
            ["3.5", "-3", "−3", "13", "3,000", "1,3", ".3", "1/3", "3/4"],
        ),
        ("-3", ["So it is -3.", "x=−3"], ["it is 3", "8-3", "-3.5", "-30"]),
        ("3.5", ["is 3.5 cm", "is 3.5."], ["13.5", "3.55", "-3.5", "3.5.1"]),
        ("3 cm", ["is 3 cm long"], ["is 1.3 cm", "-3 cm", "3 cmx"]),
    ],
)
def test_numbers_stand_alone_and_letters_are_named(answer, said, not_said):
    assert [text for text in said if not reaches(text, answer, ())] == []
    assert [text for text in not_said if reaches(text, answer, ())] == []
