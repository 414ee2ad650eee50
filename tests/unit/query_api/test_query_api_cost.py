"""The cost rule: equal to a naive oracle, linear in time, and clear about what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_introspection_query,
    get_named_type,
    is_list_type,
    is_non_null_type,
    parse,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.cost import LIST_FACTOR, CostRule, Limits, TooCostlyError
from query_api.graph import WEIGHTS, build_schema

SCHEMA = build_schema()._schema
NO_LIMITS = Limits(
    tokens=10**9,
    cost=10**30,
    fields=10**12,
    aliases=10**12,
    repeats=10**12,
    depth=10**3,
    root_fields=10**12,
    definitions=10**6,
)
RULE = CostRule(SCHEMA, Limits(), WEIGHTS)

NASTY = (
    "query{...A0}"
    + "".join(f"fragment A{i} on Query{{...A{i + 1} ...A{i + 1}}}" for i in range(19))
    + "fragment A19 on Query{kpis{lines}}"
)
NESTED = (
    "{__schema{types{...F0}}}"
    + "".join(
        f"fragment F{i} on __Type{{x:ofType{{...F{i + 1}}} y:ofType{{...F{i + 1}}}}}" for i in range(18)
    )
    + "fragment F18 on __Type{name}"
)


def naive(document: DocumentNode, variables: dict[str, Any]) -> int:
    """The definition of cost, with every fragment expanded where it stands."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))

    def of_set(selections: SelectionSetNode | None, on: Any) -> int:
        total = 0
        for one in selections.selections if selections else ():
            if isinstance(one, FragmentSpreadNode):
                fragment = fragments[one.name.value]
                total += of_set(fragment.selection_set, SCHEMA.type_map[fragment.type_condition.name.value])
            elif isinstance(one, InlineFragmentNode):
                total += of_set(one.selection_set, on)
            elif isinstance(one, FieldNode):
                total += of_field(one, on)
        return total

    def of_field(node: FieldNode, on: Any) -> int:
        assert isinstance(on, GraphQLObjectType)
        field = on.fields[node.name.value]
        factor = 1
        if "first" in field.args:
            factor = field.args["first"].default_value
            for argument in node.arguments or ():
                if isinstance(argument.value, IntValueNode):
                    factor = int(argument.value.value)
                elif isinstance(argument.value, VariableNode):
                    factor = variables[argument.value.name.value]
        elif f"{on.name}.{node.name.value}" in WEIGHTS:
            factor = WEIGHTS[f"{on.name}.{node.name.value}"]
        else:
            bare = field.type.of_type if is_non_null_type(field.type) else field.type
            factor = LIST_FACTOR if is_list_type(bare) else 1
        return 1 + factor * of_set(node.selection_set, get_named_type(field.type))

    return of_set(operation.selection_set, SCHEMA.query_type)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Documents over the real schema; fragment i spreads only fragments after it."""
    objects = [t for t in SCHEMA.type_map.values() if isinstance(t, GraphQLObjectType) and t.name[0] != "_"]
    kinds = draw(st.lists(st.sampled_from(objects), max_size=5))

    def selection(on: GraphQLObjectType, level: int, usable: list[int]) -> str:
        parts = [field(on, level, usable) for _ in range(draw(st.integers(1, 3)))]
        fitting = [i for i in usable if kinds[i] is on]
        if fitting:
            parts += [f"...F{draw(st.sampled_from(fitting))}" for _ in range(draw(st.integers(0, 2)))]
        if level < 3 and draw(st.booleans()):
            parts.append(f"... on {on.name} {{{selection(on, level + 1, usable)}}}")
        return " ".join(parts)

    def field(on: GraphQLObjectType, level: int, usable: list[int]) -> str:
        leaves = [
            n for n, f in on.fields.items() if not isinstance(get_named_type(f.type), GraphQLObjectType)
        ]
        names = leaves if level >= 4 and leaves else list(on.fields)
        name = draw(st.sampled_from(names))
        alias = draw(st.sampled_from(["", "a:", "b:"]))
        first = ""
        if "first" in on.fields[name].args:
            first = draw(st.sampled_from(["", "(first:0)", "(first:7)", "(first:1000)", "(first:$n)"]))
        child = get_named_type(on.fields[name].type)
        inner = ""
        if isinstance(child, GraphQLObjectType):
            inner = "{" + (selection(child, level + 1, usable) if level < 6 else "__typename") + "}"
        return f"{alias}{name}{first}{inner}".replace("{__typename}", "{" + leaf(child) + "}")

    def leaf(on: Any) -> str:
        return next(iter(on.fields)) if isinstance(on, GraphQLObjectType) else ""

    assert SCHEMA.query_type is not None
    text = f"query($n:Int){{{selection(SCHEMA.query_type, 0, list(range(len(kinds))))}}}"
    for place, kind in enumerate(kinds):
        text += (
            f" fragment F{place} on {kind.name}{{{selection(kind, 2, list(range(place + 1, len(kinds))))}}}"
        )
    return text


@given(documents(), st.integers(0, 1000))
@settings(max_examples=120, deadline=None)
def test_cost_equals_the_naive_definition(text: str, n: int) -> None:
    document = parse(text)
    assert CostRule(SCHEMA, NO_LIMITS, WEIGHTS).check(document, {"n": n}) == naive(document, {"n": n})


@given(documents(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_limit_on_cost_refuses_exactly_above_it(text: str, n: int) -> None:
    operation_only = text.partition(" fragment")[0]
    if "...F" in operation_only:
        return
    document = parse(operation_only)
    cost = naive(document, {"n": n})
    assert CostRule(SCHEMA, replace(NO_LIMITS, cost=cost), WEIGHTS).check(document, {"n": n}) == cost
    with pytest.raises(TooCostlyError, match="cost"):
        CostRule(SCHEMA, replace(NO_LIMITS, cost=cost - 1), WEIGHTS).check(document, {"n": n})


@pytest.mark.parametrize("text", [NASTY, NESTED], ids=["spreads", "fields"])
def test_nested_fragments_are_refused_in_milliseconds(text: str) -> None:
    document = parse(text)
    begun = time.process_time()
    with pytest.raises(TooCostlyError):
        RULE.check(document)
    assert time.process_time() - begun < 0.05
    # What is measured is really exponential: the whole of it, without limits, in the same linear time.
    begun = time.process_time()
    assert CostRule(SCHEMA, NO_LIMITS, WEIGHTS).check(document) > 2**18
    assert time.process_time() - begun < 0.05


@pytest.mark.parametrize(
    "text",
    [
        "{" + "kpis{lines} " * 300 + "}",
        "{" + "kpis{" + "lines " * 1000 + "}}",
        "{" + "...F " * 200 + "} fragment F on Query{kpis{lines}}",
        "{" + "".join(f"...F{i} " for i in range(200)) + "}"
        + "".join(f"fragment F{i} on Query{{kpis{{lines}}}}" for i in range(200)),
        "{" + "".join(f"a{i}:kpis{{lines}} " for i in range(200)) + "}",
        "{kpis" + "{kpis" * 150 + "}" * 150 + "}",
    ],
    ids=["fields", "leaves", "one fragment", "many fragments", "aliases", "depth"],
)  # fmt: skip
def test_what_would_make_validation_slow_is_refused_before_it(text: str) -> None:
    document = parse(text)
    begun = time.process_time()
    with pytest.raises(TooCostlyError):
        RULE.check(document)
    assert time.process_time() - begun < 0.05


def _repeated(levels: int, times: int) -> str:
    inner = "name"
    for _ in range(levels):
        inner = " ".join([f"ofType{{{inner}}}"] * times)
    return "{__schema{types{" + inner + "}}}"


@pytest.mark.parametrize(
    "text",
    [
        _repeated(1, 10),
        _repeated(2, 10),
        _repeated(3, 5),
        _repeated(5, 2),
        "{kpis{" + "".join(f"...F{i} " for i in range(9)) + "}}"
        + "".join(f"fragment F{i} on Kpis{{lines units orders}}" for i in range(9)),
    ],
)  # fmt: skip
def test_what_is_let_through_validates_quickly(text: str) -> None:
    document = parse(text)
    RULE.check(document)
    best = min(_timed(lambda: validate(SCHEMA, document)) for _ in range(3))
    assert best < 0.2


def _timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def test_fragment_cycle_is_refused() -> None:
    text = "{...A} fragment A on Query{...B} fragment B on Query{...A}"
    with pytest.raises(TooCostlyError, match="contains itself"):
        RULE.check(parse(text))


def test_cycle_in_an_unused_fragment_is_refused() -> None:
    text = "{kpis{lines}} fragment A on Kpis{...B} fragment B on Kpis{...A}"
    with pytest.raises(TooCostlyError, match="contains itself"):
        RULE.check(parse(text))


@pytest.mark.parametrize("first", ["1001", "-1", "9" * 5000])
def test_first_out_of_range_is_refused_with_the_range(first: str) -> None:
    with pytest.raises(TooCostlyError, match="between 0 and 1000"):
        RULE.check(parse(f"{{sales(first:{first}){{totalCount}}}}"))


def test_first_is_taken_from_the_variable_and_from_its_default() -> None:
    document = parse("query($n:Int=20){sales(first:$n){totalCount}}")
    assert RULE.check(document) == 21
    assert RULE.check(document, {"n": 30}) == 31
    with pytest.raises(TooCostlyError):
        RULE.check(document, {"n": 1001})


def test_first_of_a_wrong_type_counts_as_the_highest() -> None:
    document = parse("query($n:Int){sales(first:$n){totalCount}}")
    assert RULE.check(document, {"n": "many"}) == 1001
    assert RULE.check(parse('{sales(first:"2"){totalCount}}')) == 1001


def test_unknown_fields_and_fragments_are_left_to_validation() -> None:
    assert RULE.check(parse("{nope{deeper} ...Missing}")) == 2


def test_a_full_page_with_every_field_is_allowed() -> None:
    sale = SCHEMA.type_map["Sale"]
    assert isinstance(sale, GraphQLObjectType)
    fields = " ".join(sale.fields)
    page = f"sales(first:1000){{totalCount edges{{cursor node{{{fields}}}}} pageInfo{{endCursor}}}}"
    assert RULE.check(parse(f"{{{page}}}")) < Limits().cost
    with pytest.raises(TooCostlyError, match="cost"):
        RULE.check(parse(f"{{{page} b:{page}}}"))


def test_the_introspection_query_of_clients_is_allowed() -> None:
    RULE.check(parse(get_introspection_query(input_value_deprecation=True)))
