"""A Python for 64-bit Arm in a folder, to run under qemu-user on another machine.

Debian's packages are unpacked there and not installed, so nothing of the machine changes.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

# The release of Debian that has a version of Python. For others there is no Python to be had.
RELEASES = {"3.11": "bookworm", "3.13": "trixie"}
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SETTINGS = """APT::Architecture "arm64"; APT::Architectures "arm64";
Dir::State "{apt}"; Dir::State::lists "{apt}/lists"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}/cache";
Dir::Etc::sourcelist "{apt}/sources.list"; Dir::Etc::sourceparts "-";
"""
# pip does not know that what runs on an older C library runs on a newer one.
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 36)] + ["manylinux2014_aarch64"]


def install(folder: Path, version: str, wheel: Path, pip: Path) -> list[str | Path] | str:
    """The command that runs a Python for Arm which has a wheel and what that depends on; or why there is none.

    Args:
        folder: where all of it goes. Python stays there for the next time, the wheel is replaced.
        version: of Python, as "3.11".
        wheel: built for Arm.
        pip: a Python that has pip.
    """
    release = RELEASES.get(version)
    if release is None:
        return f"no Python {version} for Arm"
    missing = [name for name in ("qemu-aarch64", "apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here"
    root = folder / "root"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _unpack(folder, root, version, release)
        except (subprocess.CalledProcessError, StopIteration):
            return f"Debian's Python {version} for Arm cannot be had"
        (folder / "complete").touch()
    shutil.rmtree(folder / "site", ignore_errors=True)
    number = version.replace(".", "")
    words = ["--target", folder / "site", "--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    words += [f"--abi={abi}" for abi in (f"cp{number}", "abi3", "none")] + [f"--platform={name}" for name in PLATFORMS]
    _run(pip, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words, wheel)
    command: list[str | Path] = ["qemu-aarch64", "-L", root, "-E", f"PYTHONPATH={folder / 'site'}"]
    return [*command, root / f"usr/bin/python{version}"]


def _unpack(folder: Path, root: Path, version: str, release: str) -> None:
    apt = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    # From where this machine has its own packages.
    listed = _run("apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)").splitlines()
    place = next(line.split()[2] for line in listed if line.startswith("Debian main "))
    (apt / "sources.list").write_text(f"deb [arch=arm64 signed-by={KEYS}] {place} {release} main\n")
    (apt / "apt.conf").write_text(SETTINGS.format(apt=apt))
    env = ["env", f"APT_CONFIG={apt / 'apt.conf'}", "DEBIAN_FRONTEND=noninteractive"]
    _run(*env, "apt-get", "update", "-qq")
    words = ["--download-only", "--no-install-recommends", "-y", "-qq"]
    _run(*env, "apt-get", "install", *words, f"python{version}", "libstdc++6")
    root.mkdir()
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        _run("dpkg", "-x", package, root)
    if not (root / "lib").exists():
        # Packages of newer releases count on these links to be there.
        (root / "lib").symlink_to("usr/lib")
    shutil.rmtree(apt)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
