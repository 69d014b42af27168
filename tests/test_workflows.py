"""The targets that workflows call exist. Otherwise a workflow that does not fit the Makefile is noticed only after a push."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="needs the repository")


def targets(text):
    """The targets that lines of a shell make."""
    for words in re.findall(r"(?:^|&& |; )make ([^#\n;&|]*)", text, re.MULTILINE):
        # Values of variables may hold spaces within quotes.
        for word in re.sub(r"\S+=(\"[^\"]*\"|\S*)", "", words).split():
            if not word.startswith("-"):
                yield word


def defined():
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs():
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield pytest.param(job, id=f"{path.stem}-{name}")


def test_targets_are_found_among_other_words():
    line = 'cd x && make wheels PYTHON=python WHEELS="--compilers zig" test; make -s lint'
    assert list(targets(line)) == ["wheels", "test", "lint"]
    assert {"test", "engine-test", "wheels"} <= defined()


@pytest.mark.parametrize("job", list(jobs()))
def test_a_job_makes_targets_that_exist(job):
    made = [target for step in job["steps"] for target in targets(step.get("run", ""))]
    assert made
    assert set(made) <= defined()
    assert job["timeout-minutes"] <= 60


def test_the_script_of_all_checks_makes_targets_that_exist():
    path = ROOT / ".ci/run"
    if not path.exists():
        pytest.skip("needs the repository")
    lines = "\n".join(line.strip() for line in path.read_text().splitlines())
    made = set(targets(lines))
    assert "test" in made
    assert made <= defined()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read(path):
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_every_python_that_is_supported_is_tested_on_both_machines():
    matrix = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text())["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert [machine.endswith("-arm") for machine in matrix["machine"]] == [False, True]
