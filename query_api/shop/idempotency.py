"""Requests that may be sent twice (draft-ietf-httpapi-idempotency-key-header).

A request with an Idempotency-Key is answered once; the same request with the same key gets the same answer
again. The answer is written in the transaction that makes the change, so there is never one without the
other. Failures are not kept: the same request may succeed later. A key is kept for `KEPT`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

import orjson

from query_api.errors import AnswerErasedError, BadInputError, ConflictError, KeyReusedError
from query_api.shop.database import Connection
from schemas.personal import CustomerKey, PersonalDataError

KEPT = timedelta(hours=24)
REPLAYED = "Idempotency-Replayed"
_MAX_CHARS = 255
_FIELD = "answer"

_FIND = "SELECT request_hash, status, headers, body FROM ops.idempotency_keys WHERE scope = $1 AND key = $2"
_KEEP = """
INSERT INTO ops.idempotency_keys (scope, key, request_hash, status, headers, body)
VALUES ($1, $2, $3, $4, $5::jsonb, $6)
"""
_FORGET = """
DELETE FROM ops.idempotency_keys WHERE (scope, key) IN (
    SELECT scope, key FROM ops.idempotency_keys WHERE created_at < clock_timestamp() - $1::interval
    ORDER BY created_at LIMIT 100 FOR UPDATE SKIP LOCKED
)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Once:
    """One key, within one client's use of one method and path."""

    scope: str
    key: str
    request_hash: str

    @classmethod
    def of(cls, key: str | None, subject: str, method: str, path: str, *content: bytes) -> Once | None:
        """None without a key. Raises BadInputError for a key that is none."""
        if key is None:
            return None
        if not 0 < len(key) <= _MAX_CHARS or not key.isprintable() or not key.isascii():
            raise BadInputError(f"Idempotency-Key must have 1 to {_MAX_CHARS} printable characters")
        digest = hashlib.sha256()
        for part in content:
            digest.update(len(part).to_bytes(8, "big") + part)
        return cls(f"{subject} {method} {path}", key, digest.hexdigest())

    async def earlier(self, db: Connection, key: CustomerKey | None) -> Answer | None:
        """The answer that this request got before; claims the key for this transaction if there is none.

        `key`: of the customer whose answer is kept encrypted. Raises ConflictError while another request
        with the key is under way, KeyReusedError where the key was used for another request,
        AnswerErasedError.
        """
        claimed = await db.fetchval(
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", f"{self.scope}\x1f{self.key}"
        )
        if not claimed:
            raise ConflictError("a request with this Idempotency-Key is under way; wait for its answer")
        row = await db.fetchrow(_FIND, self.scope, self.key)
        if row is None:
            return None
        if row["request_hash"] != self.request_hash:
            raise KeyReusedError("this Idempotency-Key was used for a request with another content")
        headers = {**orjson.loads(row["headers"]), REPLAYED: "true"}
        return Answer(row["status"], headers, _unsealed(row["body"], key, sealed="X-Sealed" in headers))

    async def keep(self, db: Connection, answer: Answer, key: CustomerKey | None) -> None:
        """`key`: encrypts the body, which holds personal data."""
        headers, body = dict(answer.headers), answer.body
        if key is not None and body:
            headers["X-Sealed"], body = "1", key.encrypt(_FIELD, body.decode()).encode()
        await db.execute(_FORGET, KEPT)
        await db.execute(
            _KEEP,
            self.scope,
            self.key,
            self.request_hash,
            answer.status,
            orjson.dumps(headers).decode(),
            body,
        )


def _unsealed(body: bytes, key: CustomerKey | None, *, sealed: bool) -> bytes:
    if not sealed:
        return body
    try:
        if key is None:
            raise PersonalDataError("the key is gone")
        return key.decrypt(_FIELD, body.decode()).encode()
    except PersonalDataError:
        raise AnswerErasedError(
            "the answer to this request held personal data that was erased since"
        ) from None
