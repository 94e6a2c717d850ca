"""A DynamoDB table that keeps ledgers: rows that are written once and read in order, and leases.

Every row has two keys: `ledger`, whose it is, and `key`, what of it. All writes are conditional, all reads strongly
consistent. https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pointsman.aws.operation import Transport
from pointsman.aws.sending import Reply, Sender, nothing
from pointsman.errors import PreconditionFailed
from pointsman.model import Value

Row: TypeAlias = Mapping[str, str | float | bytes]
"""Attributes by name, the two keys among them."""

KEYS = (("ledger", "HASH"), ("key", "RANGE"))
TTL = "ttl"
"""The attribute that says when a row may go, in epoch seconds. Leases must not have it: their tokens only grow."""


class Described(Value, frozen=True, kw_only=True):
    """A table as it stands. `keys`: (name, HASH or RANGE, type); `size` (bytes) and `rows` as AWS counted last."""

    status: str
    keys: tuple[tuple[str, str, str], ...]
    protected: bool
    size: int
    rows: int

    @property
    def fits(self) -> bool:
        return self.keys == tuple((name, kind, "S") for name, kind in KEYS)


class Table(Sender):
    def __init__(self, transport: Transport, name: str) -> None:
        super().__init__(transport)
        self.name = name

    # Rows

    def put(self, row: Row) -> None:
        """Raises PreconditionFailed where there is a row of these keys."""
        self._send(
            "PutItem",
            nothing,
            mutates=True,
            **self._of(),
            Item=_item(row),
            ConditionExpression="attribute_not_exists(#key)",
            ExpressionAttributeNames={"#key": "key"},
        )

    def rows(self, ledger: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        """The rows with keys from `first` to `last`, both included, in their order."""
        after: Any = None
        while True:
            page, after = self._send(
                "Query",
                lambda reply: ([_row(each) for each in reply["Items"]], reply.get("LastEvaluatedKey")),
                **self._of(),
                ConsistentRead=True,
                KeyConditionExpression="#ledger = :ledger AND #key BETWEEN :first AND :last",
                ExpressionAttributeNames={"#ledger": "ledger", "#key": "key"},
                ExpressionAttributeValues=_item({":ledger": ledger, ":first": first, ":last": last}),
                ExclusiveStartKey=after,
            )
            yield from page
            if not after:
                return

    # Leases: rows that change. `holder` is "" once it was given back; `token` grows with every other holder.

    def lease(self, ledger: str, key: str) -> dict[str, Any] | None:
        return self._send(
            "GetItem",
            lambda reply: _row(reply["Item"]) if reply.get("Item") else None,
            **self._of(ledger=ledger, key=key),
            ConsistentRead=True,
        )

    def take(self, ledger: str, key: str, holder: str, expires: float, now: float) -> dict[str, Any] | None:
        """The lease with its new holder; None where another's has not expired, or it is this holder's already."""
        return self._change(
            *(ledger, key, "SET #holder = :holder, #expires = :expires, #token = if_not_exists(#token, :none) + :one"),
            "attribute_not_exists(#key) OR (#holder <> :holder AND #expires <= :now)",
            {":holder": holder, ":expires": expires, ":now": now, ":none": 0, ":one": 1},
        )

    def renew(self, ledger: str, key: str, holder: str, expires: float) -> dict[str, Any] | None:
        """The lease of the same holder for longer, expired or not; None where it is another's."""
        values: Row = {":holder": holder, ":expires": expires}
        return self._change(ledger, key, "SET #expires = :expires", "#holder = :holder", values)

    def give_back(self, ledger: str, key: str, holder: str, token: int) -> None:
        """Nothing where it is another's by now."""
        values: Row = {":holder": holder, ":token": token, ":nobody": "", ":past": 0}
        condition = "#holder = :holder AND #token = :token"
        self._change(ledger, key, "SET #holder = :nobody, #expires = :past", condition, values)

    def _change(self, ledger: str, key: str, update: str, condition: str, values: Row) -> dict[str, Any] | None:
        names = {f"#{name}": name for name in ("key", "holder", "expires", "token") if f"#{name}" in update + condition}
        try:
            return self._send(
                "UpdateItem",
                lambda reply: _row(reply["Attributes"]),
                mutates=True,
                **self._of(ledger=ledger, key=key),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=_item(values),
                ReturnValues="ALL_NEW",
            )
        except PreconditionFailed:
            return None

    # The table itself

    def described(self) -> Described | None:
        return self._or_none("DescribeTable", _described, **self._of())

    def create(self) -> None:
        """On demand, protected from deletion. Conflict where it is there, or on its way."""
        self._send(
            "CreateTable",
            nothing,
            mutates=True,
            **self._of(),
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in KEYS],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in KEYS],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
        )

    def protect(self) -> None:
        self._send("UpdateTable", nothing, mutates=True, **self._of(), DeletionProtectionEnabled=True)

    def backed_up(self) -> bool:
        """Whether it can be put back to any moment of the last 35 days."""
        return self._send("DescribeContinuousBackups", _backed_up, **self._of())

    def back_up(self) -> None:
        wanted = {"PointInTimeRecoveryEnabled": True}
        self._send(
            "UpdateContinuousBackups", nothing, mutates=True, **self._of(), PointInTimeRecoverySpecification=wanted
        )

    def expires_by(self) -> str:
        """The attribute by which rows expire, "" where none does."""
        return self._send("DescribeTimeToLive", _expires_by, **self._of())

    def expire(self) -> None:
        wanted = {"AttributeName": TTL, "Enabled": True}
        self._send("UpdateTimeToLive", nothing, mutates=True, **self._of(), TimeToLiveSpecification=wanted)

    def _of(self, **keys: str) -> dict[str, Any]:
        given = {"Key": _item(keys)} if keys else {}
        return {"service": "dynamodb", "subject": f"table {self.name}", "TableName": self.name, **given}


def _item(row: Row) -> dict[str, dict[str, str | bytes]]:
    return {
        name: {"S": each} if isinstance(each, str) else {"B": each} if isinstance(each, bytes) else {"N": repr(each)}
        for name, each in row.items()
    }


def _row(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes of other types than ours are left out: somebody may have added them by hand."""
    found: dict[str, Any] = {}
    for name, typed in item.items():
        match typed:
            case {"S": str(text)}:
                found[name] = text
            case {"B": bytes(packed)}:
                found[name] = packed
            case {"N": str(number)}:
                found[name] = float(number)
    return found


def _described(reply: Reply) -> Described:
    table = reply["Table"]
    types = {each["AttributeName"]: each["AttributeType"] for each in table.get("AttributeDefinitions", ())}
    keys = [(each["AttributeName"], each["KeyType"]) for each in table["KeySchema"]]
    return Described(
        status=table["TableStatus"],
        keys=tuple((name, kind, types.get(name, "")) for name, kind in keys),
        protected=bool(table.get("DeletionProtectionEnabled")),
        size=int(table.get("TableSizeBytes", 0)),
        rows=int(table.get("ItemCount", 0)),
    )


def _backed_up(reply: Reply) -> bool:
    told = reply["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(told.get("PointInTimeRecoveryStatus") == "ENABLED")


def _expires_by(reply: Reply) -> str:
    told = reply["TimeToLiveDescription"]
    return str(told["AttributeName"]) if told.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") else ""


__all__ = ["KEYS", "TTL", "Described", "Row", "Table"]
