"""Whole runs with Ray: with two workers and one, killed and continued, in a running cluster and in a local one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import onebit
from onebit.cli.main import main
from onebit.errors import DataError, OnebitError
from onebit.scoring import score
from onebit.scoring.cluster import cluster, require_ray

ray = pytest.importorskip("ray", reason="Ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def ray_cluster():
    """One cluster for all tests here; a run that finds Ray initialised uses it and leaves it."""
    require_ray()
    context = ray.init(
        address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL"
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def one_worker(ray_cluster, classifier, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("scores") / "one"
    summary = score(classifier, pictures, out, workers=1, part_records=2)
    assert (summary.records, summary.scored, summary.failed, summary.workers) == (24, 23, 1, 1)
    assert summary.errors == out / "_errors"
    return out


def rows_of(folder):
    return pq.read_table(folder).to_pylist()


def test_scores_are_those_of_classify(one_worker, classifier):
    session = onebit.load(classifier, threads=1)
    rows = rows_of(one_worker)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)  # the order of the data
    for row in rows:
        expected = session.classify([row["path"]])[0]
        assert list(zip(row["top_labels"], row["top_probabilities"], strict=True)) == expected


def test_two_workers_write_the_same_files(one_worker, classifier, pictures, tmp_path):
    # In a process of its own: all that it prints is the command's.
    words = ["score", classifier, pictures, "--out", tmp_path / "two", "--workers", "2", "--part", "2", "--json"]
    output = subprocess.run([sys.executable, "-m", "onebit", *words], capture_output=True, text=True, check=True)
    summary = json.loads(output.stdout)
    assert (summary["records"], summary["scored"], summary["failed"], summary["workers"]) == (24, 23, 1, 2)
    left = "1 hidden file or folder, the first part1/.hidden.png and 1 other file, the first notes.txt"
    # A machine that is slow enough says how far it is.
    lines = [line for line in output.stderr.splitlines() if not line.startswith("score: ")]
    assert lines == [f"note: {pictures}: left out {left}"]
    names = sorted(path.name for path in one_worker.iterdir())
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    for name in names:
        if name.startswith("part"):
            assert (tmp_path / "two" / name).read_bytes() == (one_worker / name).read_bytes()


def test_a_finished_run_has_nothing_left_to_do(one_worker, classifier, pictures):
    before = {path: path.stat().st_mtime_ns for path in one_worker.iterdir()}
    summary = score(classifier, pictures, one_worker, part_records=2)
    assert (summary.scored, summary.failed, summary.before, summary.workers) == (23, 1, 24, 0)
    assert {path: path.stat().st_mtime_ns for path in one_worker.iterdir()} == before


def test_killed_and_taken_up(one_worker, ray_cluster, classifier, pictures, tmp_path):
    out = tmp_path / "out"
    words = ["score", classifier, pictures, "--out", out, "--workers", "1", "--part", "2", "--address", ray_cluster]
    process = subprocess.Popen([sys.executable, "-m", "onebit", *map(str, words)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("part-*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 0 < len(done) < 12
    summary = score(classifier, pictures, out, workers=2, part_records=2)
    assert summary.before == sum(2 for _ in done)
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in done.items())
    assert rows_of(out) == rows_of(one_worker)
    assert rows_of(out / "_errors") == rows_of(one_worker / "_errors")


def test_a_worker_that_dies_is_replaced(one_worker, ray_cluster, classifier, pictures, tmp_path):
    killed = []

    def kill(done, records, rate):
        if not killed:
            found = subprocess.run(["pgrep", "-f", "ray::.*Map"], capture_output=True, text=True, check=False)
            mine = [int(pid) for pid in found.stdout.split() if descends(int(pid), os.getpid())]
            os.kill(mine[0], signal.SIGKILL)
            killed.append(mine[0])

    score(classifier, pictures, tmp_path / "out", workers=1, part_records=1, progress=kill)
    assert killed
    assert rows_of(tmp_path / "out") == rows_of(one_worker)


def descends(pid, ancestor):
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return pid == ancestor


def test_texts_and_strict(language, texts, tmp_path, capfd):
    words = [str(word) for word in ("score", language, texts, "--out", tmp_path / "out", "--workers", "1")]
    assert main(words) == 0
    output = capfd.readouterr().out
    assert (
        f"scored 2 of 5 records into {tmp_path / 'out'}\n  3 failed: {tmp_path / 'out' / '_errors'} lists them"
        in output
    )
    assert main([*words, "--strict"]) == 1
    assert [row["id"] for row in rows_of(tmp_path / "out" / "_errors")] == ["binary.txt", "empty.txt", "latin.txt"]


def test_nothing_but_bad_records(classifier, tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    for _ in range(2):  # the second time nothing is left to do
        with pytest.raises(DataError, match=r"all 1 records failed, see .*_errors; the first is a.png: "):
            score(classifier, tmp_path / "a.png", tmp_path / "out")


def test_more_workers_than_the_cluster_has_room_for():
    with pytest.raises(OnebitError, match="4 workers of 1 threads do not fit in the cluster, which has 3 processors"):  # noqa: SIM117
        with cluster(4, None, None):
            pass


def test_what_ray_says_of_an_error_is_one_line(classifier, pictures, tmp_path, monkeypatch):
    class Broken:
        def __init__(self, **_):
            pass

        def __call__(self, row):
            return 1 // 0

    monkeypatch.setattr("onebit.scoring.worker.RayWorker", Broken)
    with pytest.raises(OnebitError) as raised:
        score(classifier, pictures, tmp_path / "out", workers=1)
    assert (
        str(raised.value)
        == "[score] a worker stopped: ZeroDivisionError: integer division or modulo by zero; run again to continue"
    )


def test_a_model_that_changes_under_way_is_refused(classifier, language, pictures, tmp_path, monkeypatch):
    model = tmp_path / "model.onebit"
    model.write_bytes(classifier.read_bytes())
    monkeypatch.setattr("onebit.scoring.worker.digest_of", lambda file: "0" * 64)  # here; the workers read the file
    with pytest.raises(OnebitError, match="is not the model that the run was started with"):
        score(model, pictures, tmp_path / "out", workers=1)


def test_a_cluster_of_its_own(one_worker, classifier, pictures, tmp_path):
    """As a user runs it, without PyTorch: Ray starts, says nothing, and is gone at the end."""
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning", "datasets", "sklearn", "matplotlib"):
            raise ImportError(f"{name} is not installed", name=name)
sys.meta_path.insert(0, Refuse())
from onebit.cli.main import main
status = main(sys.argv[1:])
import ray
assert not ray.is_initialized()
sys.exit(status)
"""
    words = ["score", classifier, pictures / "part0", "--out", tmp_path / "out", "--workers", "1"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"scored 8 of 8 records into {tmp_path / 'out'}"
    assert "records/s with 1 workers of" in lines[1]
    assert len(lines) == 2
    names = {f"part0/{row['id']}" for row in rows_of(tmp_path / "out")}
    assert names == {row["id"] for row in rows_of(one_worker) if row["id"].startswith("part0/")}
