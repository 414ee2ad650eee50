"""What resolvers are given."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TypeVar

from strawberry.fastapi import BaseContext
from strawberry.types import Info

from query_api.kpis import Analytics
from query_api.live_kpis import LiveKpis
from query_api.live_sales import LiveSales
from query_api.lives import Lives
from query_api.loaders import Loaders
from query_api.members import Members
from query_api.quality import QualityAnswers
from query_api.quarantine.routes import Quarantine
from query_api.sales import Sales
from query_api.upstream import Platform

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What answers questions; one for the life of the process."""

    analytics: Analytics
    sales: Sales
    members: Members
    lives: Lives
    platform: Platform
    quality: QualityAnswers
    quarantine: Quarantine
    live_kpis: LiveKpis
    live_sales: LiveSales


class Context(BaseContext):
    """Of one request, or of one WebSocket."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self.loaders = Loaders(parts.members)


Asked = Info[Context, None]


def documented(kind: type[T]) -> type[T]:
    """A resolver's docstring is its field's description."""
    for field in kind.__strawberry_definition__.fields:  # type: ignore[attr-defined]
        if field.base_resolver is not None:
            field.description = inspect.getdoc(field.base_resolver.wrapped_func)
    return kind
