"""What a GraphQL document would cost, measured before any other rule looks at it. Pure.

The usual validation rules may take time that is quadratic in a document, and expanding fragments may be
exponential: a few hundred bytes of nested fragments cost a depth limiter seconds. Here each selection set
is visited once and each fragment is measured once and remembered, so the time is linear in the document.

    cost of a field         = 1 + factor x cost of its selections
    factor                  = the value of `first` where the field takes one,
                              else the weight given for "Type.field",
                              else LIST_FACTOR for a list, else 1
    cost of a selection set = the sum over its fields, with fragments expanded
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SchemaMetaFieldDef,
    SelectionSetNode,
    TypeMetaFieldDef,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
)

LIST_FACTOR = 5
"""For lists without `first`: those of introspection."""

Variables = Mapping[str, Any]


class TooCostlyError(Exception):
    """The document is refused; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds, all inclusive. Counts are taken with fragments expanded."""

    tokens: int = 2_000
    cost: int = 50_000
    first: int = 1_000
    fields: int = 400
    aliases: int = 40
    repeats: int = 10
    """Of one response name in one selection set: merging them is quadratic."""
    depth: int = 40
    """Nested selection sets; a fragment counts as a level."""
    root_fields: int = 20
    definitions: int = 50
    """Operations and fragments of one document."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Of a selection set. `names`: how often each response name stands directly in it."""

    cost: int = 0
    fields: int = 0
    aliases: int = 0
    depth: int = 0
    names: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class CostRule:
    """Measures documents against one schema. `weights`: factors by "Type.field"."""

    schema: GraphQLSchema
    limits: Limits = field(default_factory=Limits)
    weights: Mapping[str, int] = field(default_factory=dict)

    def check(self, document: DocumentNode, variables: Variables | None = None) -> int:
        """The highest cost of the document's operations. Raises `TooCostlyError` with the limit that was hit.

        Fragments that no operation uses count too: validation visits them as well.
        """
        fragments: dict[str, FragmentDefinitionNode] = {}
        operations: list[OperationDefinitionNode] = []
        if len(document.definitions) > self.limits.definitions:
            raise TooCostlyError(f"more than {self.limits.definitions} operations and fragments")
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                operations.append(definition)
            elif isinstance(definition, FragmentDefinitionNode):
                if definition.name.value in fragments:
                    raise TooCostlyError(f"there are two fragments named '{definition.name.value}'")
                fragments[definition.name.value] = definition
        highest = 0
        for operation in operations:
            walk = _Walk(self, fragments, _values(operation, variables or {}))
            measure = walk.operation(operation)
            self._enforce(measure)
            if measure.names.total() > self.limits.root_fields:
                raise TooCostlyError(
                    f"more than {self.limits.root_fields} fields at the root of an operation"
                )
            highest = max(highest, measure.cost)
        walk = _Walk(self, fragments, variables or {})
        for name in fragments:
            self._enforce(walk.fragment(name, 0))
        return highest

    def _enforce(self, measure: Measure) -> None:
        for what, value, limit in (
            ("cost", measure.cost, self.limits.cost),
            ("number of fields", measure.fields, self.limits.fields),
            ("number of aliases", measure.aliases, self.limits.aliases),
        ):
            if value > limit:
                raise TooCostlyError(
                    f"the {what} of this query is {_short(value)}; at most {limit} is allowed"
                )


class _Walk:
    """One pass over an operation; remembers each fragment's measure."""

    def __init__(
        self, rule: CostRule, fragments: Mapping[str, FragmentDefinitionNode], variables: Variables
    ) -> None:
        self._rule = rule
        self._fragments = fragments
        self._variables = variables
        self._known: dict[str, Measure] = {}
        self._open: set[str] = set()

    def operation(self, node: OperationDefinitionNode) -> Measure:
        return self._selections(node.selection_set, self._rule.schema.get_root_type(node.operation), 0)

    def fragment(self, name: str, level: int) -> Measure:
        """An unknown fragment costs nothing here: validation refuses it."""
        if name in self._known:
            return self._known[name]
        if name in self._open:
            raise TooCostlyError(f"fragment '{name}' contains itself")
        node = self._fragments.get(name)
        if node is None:
            return Measure()
        self._open.add(name)
        on = self._rule.schema.get_type(node.type_condition.name.value)
        measure = self._selections(node.selection_set, on, level)
        self._open.discard(name)
        self._known[name] = measure
        return measure

    def _selections(self, node: SelectionSetNode | None, on: GraphQLNamedType | None, level: int) -> Measure:
        """`level`: how deep this set stands on the way that led here."""
        if node is None:
            return Measure()
        limits = self._rule.limits
        if level >= limits.depth:
            raise TooCostlyError(f"nested deeper than {limits.depth} levels")
        cost = fields = aliases = depth = 0
        names: Counter[str] = Counter()
        for selection in node.selections:
            if isinstance(selection, FieldNode):
                inner = self._field(selection, on, level)
                names[(selection.alias or selection.name).value] += 1
            elif isinstance(selection, FragmentSpreadNode):
                inner = self.fragment(selection.name.value, level + 1)
                names.update(inner.names)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner_type = self._rule.schema.get_type(condition.name.value) if condition else on
                inner = self._selections(selection.selection_set, inner_type, level + 1)
                names.update(inner.names)
            else:
                continue
            cost += inner.cost
            fields += inner.fields
            aliases += inner.aliases
            depth = max(depth, inner.depth)
        self._enforce_shape(names, level + 1 + depth)
        return Measure(cost, fields, aliases, depth + 1, names)

    def _field(self, node: FieldNode, on: GraphQLNamedType | None, level: int) -> Measure:
        definition = _definition(self._rule.schema, on, node.name.value)
        child = get_named_type(definition.type) if definition else None
        inner = self._selections(node.selection_set, child, level + 1)
        return Measure(
            cost=1 + self._factor(node, definition, on) * inner.cost,
            fields=1 + inner.fields,
            aliases=(node.alias is not None) + inner.aliases,
            depth=inner.depth,
        )

    def _factor(self, node: FieldNode, definition: GraphQLField | None, on: GraphQLNamedType | None) -> int:
        if definition is None:
            return 1
        if "first" in definition.args:
            return self._first(node, definition.args["first"].default_value)
        weight = self._rule.weights.get(f"{on.name}.{node.name.value}") if on else None
        if weight is not None:
            return weight
        return LIST_FACTOR if is_list_type(get_nullable_type(definition.type)) else 1

    def _first(self, node: FieldNode, default: Any) -> int:
        """The value of `first`. One of a wrong type counts as the highest: validation refuses it."""
        highest = self._rule.limits.first
        value: Any = default
        for argument in node.arguments or ():
            if argument.name.value != "first":
                continue
            if isinstance(argument.value, VariableNode):
                value = self._variables.get(argument.value.name.value, default)
            elif isinstance(argument.value, IntValueNode):
                value = _integer(argument.value.value)
            else:
                value = highest
        if isinstance(value, bool) or not isinstance(value, int):
            return highest
        if not 0 <= value <= highest:
            raise TooCostlyError(f"first must be between 0 and {highest}, not {_short(value)}")
        return value

    def _enforce_shape(self, names: Counter[str], depth: int) -> None:
        limits = self._rule.limits
        if depth > limits.depth:
            raise TooCostlyError(f"nested deeper than {limits.depth} levels")
        if names and (most := names.most_common(1)[0])[1] > limits.repeats:
            raise TooCostlyError(f"'{most[0]}' stands more than {limits.repeats} times in one selection")


def _definition(schema: GraphQLSchema, on: GraphQLNamedType | None, name: str) -> GraphQLField | None:
    if on is schema.query_type:
        if name == "__schema":
            return SchemaMetaFieldDef
        if name == "__type":
            return TypeMetaFieldDef
    if isinstance(on, GraphQLObjectType | GraphQLInterfaceType):
        found: GraphQLField | None = on.fields.get(name)
        return found
    return None


def _values(operation: OperationDefinitionNode, given: Variables) -> dict[str, Any]:
    """The variables of an operation: what was given, else the default if it is an integer."""
    values = dict(given)
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name not in values and isinstance(definition.default_value, IntValueNode):
            values[name] = _integer(definition.default_value.value)
    return values


def _integer(text: str) -> int:
    """Python refuses to convert very long digit strings; one that long is only ever out of range."""
    return int(text) if len(text) < 20 else 10**20


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**12 else "beyond 10^12"
