"""`pointsman route` needs no server."""

import msgspec
from cli_gateway import Run


def test_a_prompt_is_explained_as_a_table(run: Run) -> None:
    done = run("route", "score", "Prove that the square root of 2 is irrational.")
    assert done.code == 0
    assert done.out.startswith("REASONING: score 0.")
    assert "reasoning" in done.out
    assert "length" in done.out


def test_a_prompt_is_explained_as_json(run: Run) -> None:
    found = msgspec.json.decode(run("route", "score", "hello", "--json").out)
    assert found["tier"] == "SIMPLE"
    assert {signal["name"] for signal in found["signals"]} >= {"easy", "length"}


def test_the_evaluation_prints_accuracy_confusion_languages_and_time(run: Run) -> None:
    done = run("route", "score", "--evaluate")
    assert done.code == 0
    for words in ("held out:", "right or one tier off", "label / judged as", "REASONING", "language", "ja", " us"):
        assert words in done.out


def test_the_evaluation_as_json_has_both_parts(run: Run) -> None:
    found = msgspec.json.decode(run("route", "score", "--evaluate", "--json").out)
    assert set(found) == {"development", "held_out"}
    assert found["held_out"]["result"]["total"] > 300
    assert found["held_out"]["median_us"] > 0


def test_a_text_and_an_evaluation_exclude_each_other(run: Run) -> None:
    for arguments in ((), ("text", "--evaluate")):
        done = run("route", "score", *arguments)
        assert done.code == 2
        assert "either a TEXT or --evaluate" in done.err
