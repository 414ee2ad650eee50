"""What an image's builder installs: the part of the lock that its extras need."""

from __future__ import annotations

import tomllib

import pytest

from deploy.docker.lock_subset import (
    SubsetError,
    constraints,
    entries,
    normalised,
    requirements,
    subset,
)
from deploy.local.layout import CHECKOUT

LOCK = """\
# a comment
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
Typing_Extensions==1.0 \\
    --hash=sha256:cc \\
    --hash=sha256:dd
yarl==1.1 \\
    --hash=sha256:ee
"""


def test_entry_keeps_its_marker_and_all_its_hashes() -> None:
    assert (
        subset(LOCK, {"numpy", "typing-extensions"})
        == LOCK.removeprefix("# a comment\n").partition("yarl")[0]
    )


def test_constraints_are_the_lock_without_hashes() -> None:
    assert constraints(LOCK).splitlines() == [
        "numpy==2.4.6 ; python_full_version < '3.12'",
        "numpy==2.5.5 ; python_full_version >= '3.12'",
        "Typing_Extensions==1.0",
        "yarl==1.1",
    ]


def test_package_that_the_lock_does_not_hold_ends_the_build() -> None:
    with pytest.raises(SubsetError, match="does not hold left-pad"):
        subset(LOCK, {"numpy", "left-pad"})


def test_extra_that_the_project_does_not_have_ends_the_build() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    with pytest.raises(SubsetError, match="no extra nonsense"):
        requirements(project, ["nonsense"])


def test_requirements_are_the_projects_own_and_those_of_the_extras() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    table = tomllib.loads(project)["project"]
    found = requirements(project, ["quality", "ledger"])
    extras = table["optional-dependencies"]
    assert found == [*table["dependencies"], *extras["quality"], *extras["ledger"]]


def test_every_entry_of_the_real_lock_is_pinned_and_hashed() -> None:
    found = entries((CHECKOUT / "requirements.lock").read_text())
    assert found
    assert [name for name, entry in found if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert [name for name, _ in found if name != normalised(name)] == []
