"""docs/results.md has each study in one form: a question, an answer in one sentence, a table or what a command prints, the command."""

import re

import pages
import pytest

PAGE = pages.ROOT / "docs" / "results.md"
STUDIES = {
    title: body
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S)
    if title != "Also measured"
}


@pytest.mark.parametrize("title", STUDIES)
def test_a_study_has_its_parts(title):
    question, answer = re.match(
        r"\n\*\*Question\.\*\* (.+?)\n\n\*\*Answer\.\*\* (.+?)\n\n", STUDIES[title], re.S
    ).groups()
    assert question.endswith("?")
    assert len(pages.sentences(answer.replace("\n", " "))) == 1
    assert re.search(r"^\| ?-{3}|^ {4}-{3}", STUDIES[title], re.M)
    assert re.search(r"^ {4}(python benchmarks/|onebit )", STUDIES[title], re.M)


def test_every_study_is_in_the_table_above():
    anchors = {target[1:] for target in pages.links(PAGE) if target.startswith("#")}
    assert {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in STUDIES} == anchors
