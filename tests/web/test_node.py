"""node's tests of onebit.js, its types, and its package."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"


def run(*command: str, cwd: Path = HERE) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_module(node: str, site: Path) -> None:
    assert "# fail 0" in run(node, "--test", "--test-reporter=tap", "onebit.test.mjs")


def test_types(tmp_path: Path) -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("no tsc here")
    (tmp_path / "use.ts").write_text(
        """import { load, Label, Model, OnebitError } from "./onebit.js";
export async function write(file: ArrayBuffer): Promise<string> {
  const model: Model = await load(file, { precision: "int8" });
  let text = "";
  for await (const piece of model.generate("It was", { tokens: 5, stop: ["."] })) text += piece.text;
  const labels: Label[] = model.classify(new Uint8ClampedArray(4), { top: 1 });
  model.close();
  return text + labels[0].label + new OnebitError("x").message;
}
"""
    )
    shutil.copy(WEB / "onebit.d.ts", tmp_path)
    command = [
        tsc,
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "es2022",
        "--moduleResolution",
        "node",
        "use.ts",
    ]
    run(*command, cwd=tmp_path)


def test_package(node: str, site: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here")
    (package,) = json.loads(run(npm, "pack", "--dry-run", "--json", "--offline", cwd=site))
    assert {file["path"] for file in package["files"]} == {
        "LICENSE",
        "onebit.d.ts",
        "onebit.js",
        "onebit.wasm",
        "package.json",
        "worker.js",
    }


def test_version_is_the_project_s() -> None:
    version = next(
        line for line in (WEB.parent / "pyproject.toml").read_text().splitlines() if line.startswith("version = ")
    )
    assert json.loads((WEB / "package.json").read_text())["version"] == version.split('"')[1]


def test_size(site: Path) -> None:
    import gzip

    files = [site / name for name in ("onebit.wasm", "onebit.js", "worker.js")]
    assert sum(len(gzip.compress(file.read_bytes(), 9)) for file in files) <= 220_000
