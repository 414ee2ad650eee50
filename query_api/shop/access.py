"""Who asks, and what they may do: the one place that REST v1 asks.

Until authentication is built, everyone who reaches the service (on loopback) is the local administrator,
whatever token they send. A route names the permissions that it needs; a real `principal` only has to fill in
the roles.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from query_api.errors import ForbiddenError


class Permission(enum.Enum):
    READ = "read"
    WRITE = "write"
    # Personal data in clear; without it, it is left out.
    READ_PERSONAL = "read_personal"
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class Principal:
    """`subject` separates the idempotency keys of one client from another's."""

    subject: str
    permissions: frozenset[Permission]

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


LOCAL = Principal("local", frozenset(Permission))


async def principal() -> Principal:
    return LOCAL


def require(*needed: Permission) -> Callable[[Principal], Principal]:
    """A dependency that gives the principal, or refuses with 403."""

    def check(found: Annotated[Principal, Depends(principal)]) -> Principal:
        missing = [permission.value for permission in needed if not found.may(permission)]
        if missing:
            raise ForbiddenError(f"this needs the permission {', '.join(missing)}")
        return found

    return check
