"""The control plane of the local Lambda service: which versions and aliases exist, and which version a call reaches.

Reading order: `errors` (how AWS refuses) → `wire` (AWS's service model: routes, shapes, constraints) → `address`
(names and ARNs) → `settings` (a function's configuration) → `packages` (zips on disk) → `schemas` and `store` (SQLite)
→ `sources` (where code comes from) → one file per family of resources (`functions`, `managed`, `layers`, `signing`,
`aliases`, `policies`, `event_invokes`, `event_queue`, `event_sources`, `concurrency`, `controls`, `urls`, `tags`) →
`state` (all of them, and where an invocation goes) → `operations` (the table of them) → `pace` (how fast waits pass) →
`destinations`, `asynchronous` (events: retried, reported) → `running`, `invocations`, `streams` → `visits`,
`url_answers` (requests to function URLs) → `routes` (HTTP).
"""

from pointsman.localaws.lambda_.errors import LambdaError, NetworkMissing, ObjectMissing
from pointsman.localaws.lambda_.invocations import InvokeReply
from pointsman.localaws.lambda_.routes import LambdaService
from pointsman.localaws.lambda_.state import LambdaState
from pointsman.localaws.lambda_.urls import UrlOf
from pointsman.localaws.lambda_.visits import Caller, Visit, addressed

__all__ = [
    "Caller",
    "InvokeReply",
    "LambdaError",
    "LambdaService",
    "LambdaState",
    "NetworkMissing",
    "ObjectMissing",
    "UrlOf",
    "Visit",
    "addressed",
]
