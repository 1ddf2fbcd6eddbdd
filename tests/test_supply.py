"""What is installed in CI is what is locked: versions and digests of all that pyproject.toml asks for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
LINE = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^ ;]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")


def asked_for(extra: str | None) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(each) for each in project["dependencies"] + project["optional-dependencies"].get(extra, [])]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_hold_versions_and_digests_and_nothing_else(lock: Path) -> None:
    """No index, no address and no option: where packages come from is for who installs them to say."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    assert lines and not [line for line in lines if not LINE.fullmatch(line)]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        assert line.endswith("\\") == after.startswith("    --hash="), "each version has its digests"


@pytest.mark.parametrize(("name", "extra"), [("demo.txt", None), ("test.txt", "test")])
def test_locks_hold_what_is_asked_for(name: str, extra: str | None) -> None:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    locked: dict[str, list[Requirement]] = {}
    for line in lines:
        if not line.startswith(" "):
            requirement = Requirement(line.removesuffix("\\"))
            locked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for wanted in asked_for(extra):
        versions = [str(each.specifier).removeprefix("==") for each in locked.get(canonicalize_name(wanted.name), [])]
        assert versions and all(wanted.specifier.contains(version) for version in versions), (
            f"{wanted} is asked for, but {name} has {versions or 'none'}: make lock"
        )
