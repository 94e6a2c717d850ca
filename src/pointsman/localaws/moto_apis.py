"""moto's HTTP and WebSocket APIs, with the list of authorizers that it lacks.

Imports moto, so nothing may import this before moto is wanted.
"""

from __future__ import annotations

import json
from typing import Any, cast

from moto.apigatewayv2.responses import ApiGatewayV2Response


def put_apis_right() -> None:
    def get_authorizers(self: Any) -> tuple[int, dict[str, str], str]:
        api = self.apigatewayv2_backend.get_api(self.path.split("/")[-2])
        return 200, {}, json.dumps({"items": [each.to_json() for each in api.authorizers.values()]})

    cast(Any, ApiGatewayV2Response).get_authorizers = get_authorizers


__all__ = ["put_apis_right"]
