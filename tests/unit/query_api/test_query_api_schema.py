"""The schema: the committed file is the generated one, and it is what INTERFACES promises."""

from __future__ import annotations

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    build_schema,
)

from query_api.graph import SDL_FILE, sdl

# What is served of the published contract. Its further types are left out of the schema until they are built.
PROMISED = """
scalar Decimal
scalar DateTime
scalar Date
enum By { REVENUE QUANTITY }
enum Grain { MINUTE HOUR DAY MONTH YEAR }
enum EventStatus { GOLD QUARANTINED IN_FLIGHT }
input Range { from: Date, to: Date }
input SaleFilter { range: Range, country: String, stockCode: String, customerId: String, invoiceNo:
    String,
  isReturn: Boolean }
type Sale { eventId: ID! source: String! invoiceNo: String! lineNo: Int! stockCode: String!
    description: String
  quantity: Int! unitPrice: Decimal! currency: String! amount: Decimal! amountGbp: Decimal
    customerId: String
  country: String countryCode: String region: String invoiceTs: DateTime! isReturn: Boolean!
    isProduct: Boolean!
  qualityScore: Float! customerKey: ID! productKey: ID! revision: Int! recordedAt: DateTime! }
type SaleEdge { cursor: String! node: Sale! }
type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
type SaleConnection { totalCount: Int! edges: [SaleEdge!]! pageInfo: PageInfo! }
type Kpis { revenue: Decimal! grossRevenue: Decimal! returns: Decimal! orders: Int! lines: Int!
    units: Int!
  customers: Int! averageOrderValue: Decimal }
type SeriesPoint { at: DateTime! revenue: Decimal! orders: Int! lines: Int! }
type CountryRevenue { country: String countryCode: String region: String revenue: Decimal! orders:
    Int! lines: Int! }
type ProductSales { stockCode: String! description: String revenue: Decimal! quantity: Int! lines: Int! }
type Hop { stage: String! at: DateTime topic: String partition: Int offset: String }
type EventLife { eventId: ID! status: EventStatus! reason: String hops: [Hop!]! sale: Sale }
type Ledger { accepted: Int! duplicates: Int! quarantined: Int! resolved: Int! inFlight: Int!
    balanced: Boolean! }
type Stage { name: String! state: String! lag: Int lagSeconds: Float p50Ms: Float p99Ms: Float }
type Pipeline { stages: [Stage!]! ledger: Ledger! }
type Customer { id: ID! customerKey: ID! name: String email: String country: String countryCode: String
    segment: String valueTier: String effectiveDate: DateTime! expiryDate: DateTime isCurrent: Boolean!
    versionNumber: Int! history: [Customer!]! sales(first: Int = 50, after: String): SaleConnection! }
type CustomerEdge { cursor: String! node: Customer! }
type CustomerConnection { totalCount: Int! edges: [CustomerEdge!]! pageInfo: PageInfo! }
type Product { stockCode: ID! productKey: ID! description: String category: String listPrice: Decimal
    effectiveDate: DateTime! expiryDate: DateTime isCurrent: Boolean! versionNumber: Int!
    history: [Product!]! }
type ProductEdge { cursor: String! node: Product! }
type ProductConnection { totalCount: Int! edges: [ProductEdge!]! pageInfo: PageInfo! }
type RuleCount { rule: String! severity: String! count: Int! }
type Quality { score: Float! rows: Int! rejected: Int! warned: Int!
  byRule(source: String, range: Range): [RuleCount!]! }
type Invoice { invoiceNo: ID! source: String! invoiceTs: DateTime! customer: Customer country: String
  isReturn: Boolean!
  amount: Decimal! amountGbp: Decimal lines: [Sale!]! }
type Query {
  sales(first: Int = 50, after: String, filter: SaleFilter): SaleConnection!
  invoice(invoiceNo: String!): Invoice
  customer(id: String!, asOf: DateTime): Customer
  product(stockCode: String!, asOf: DateTime): Product
  customers(first: Int = 50, after: String): CustomerConnection!
  products(first: Int = 50, after: String): ProductConnection!
  kpis(range: Range, country: String, asOf: DateTime): Kpis!
  salesSeries(range: Range, grain: Grain = DAY, country: String): [SeriesPoint!]!
  revenueByCountry(range: Range, first: Int = 50): [CountryRevenue!]!
  topProducts(range: Range, first: Int = 10, by: By = REVENUE, includeNonProducts: Boolean = false):
    [ProductSales!]!
  event(id: ID!): EventLife
  pipeline: Pipeline!
  quality: Quality! }
type Subscription { kpis: Kpis! sales(filter: SaleFilter): Sale! }
"""


def test_committed_schema_is_the_generated_one() -> None:
    assert SDL_FILE.read_text(encoding="utf-8") == sdl(), "run: python -m query_api.graph"


def test_schema_is_what_the_interface_promises() -> None:
    promised, served = _shapes(PROMISED), _shapes(sdl())
    assert served == promised


def _shapes(text: str) -> dict[str, object]:
    """Every named type as comparable data, descriptions left out."""
    return {
        name: _shape(named)
        for name, named in build_schema(text).type_map.items()
        if not name.startswith("__")
    }


def _shape(named: GraphQLNamedType) -> object:
    if isinstance(named, GraphQLObjectType):
        return {
            name: (
                str(field.type),
                {key: (str(arg.type), arg.default_value) for key, arg in field.args.items()},
            )
            for name, field in named.fields.items()
        }
    if isinstance(named, GraphQLInputObjectType):
        return {name: (str(one.type), one.default_value) for name, one in named.fields.items()}
    if isinstance(named, GraphQLEnumType):
        return list(named.values)
    assert isinstance(named, GraphQLScalarType)
    return "scalar"
