"""A schema registry in memory, for tests: the answers of :class:`schemas.registry.RegistryClient`."""

from schemas.registry import RegistryUnavailable, UnknownSchema


class InMemoryRegistry:
    """Ids count from 1; equal texts share an id. ``available = False`` makes it fail as an outage does."""

    def __init__(self) -> None:
        self.available = True
        self._texts: dict[int, str] = {}
        self._subjects: dict[str, list[int]] = {}

    def register(self, subject: str, schema: str) -> int:
        """Id of the schema, registering it if it is new."""
        self._answer()
        schema_id = next(
            (known for known, text in self._texts.items() if text == schema), len(self._texts) + 1
        )
        self._texts[schema_id] = schema
        versions = self._subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def by_id(self, schema_id: int) -> str:
        """Schema text of an id."""
        self._answer()
        try:
            return self._texts[schema_id]
        except KeyError:
            raise UnknownSchema(f"the registry knows no schema {schema_id}") from None

    def ids(self, subject: str) -> dict[int, str]:
        """Versions of a subject, oldest first."""
        self._answer()
        return {schema_id: self._texts[schema_id] for schema_id in self._subjects.get(subject, [])}

    def _answer(self) -> None:
        if not self.available:
            raise RegistryUnavailable("the registry is down")
