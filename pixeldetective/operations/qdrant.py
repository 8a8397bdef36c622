"""Questions to Qdrant over HTTP: the client library costs every command 1.7 seconds of imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from pixeldetective.errors import PixdError
from pixeldetective.records import VECTOR, point_id
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import Endpoints


class Qdrant:
    """Asks about collections and points; changes nothing. Every method raises PixdError if Qdrant does not answer."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._url = endpoints.qdrant_url
        headers = {"api-key": settings.qdrant_api_key} if settings.qdrant_api_key else {}
        self._client = httpx.Client(base_url=self._url, headers=headers, timeout=30.0, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def incarnation(self, collection: str) -> str | None:
        """The incarnation behind a collection's alias, or None if there is none yet."""
        found = self._ask("GET", "/aliases")
        for alias in (found or {}).get("aliases", []):
            if alias["alias_name"] == collection:
                return str(alias["collection_name"]).rpartition(".")[2]
        return None

    def count(self, collection: str, *, searchable: bool = False) -> int | None:
        """Number of points, or of those that have a vector, exactly; None if there is no such collection."""
        body: dict[str, Any] = {"exact": True}
        if searchable:
            body["filter"] = {"must": [{"has_vector": VECTOR}]}
        found = self._ask("POST", f"/collections/{collection}/points/count", body)
        return None if found is None else int(found["count"])

    def points(self, collection: str, contents: Sequence[str], *, vectors: bool = False) -> dict[str, dict[str, Any]]:
        """The points of these contents by sha256: {"payload", "vector"}; those that are missing are left out."""
        if not contents:
            return {}
        body = {"ids": [point_id(sha256) for sha256 in contents], "with_payload": True, "with_vector": vectors}
        found = self._ask("POST", f"/collections/{collection}/points", body) or []
        return {point["payload"]["sha256"]: point for point in found}

    def with_path(self, collection: str, pid: str) -> list[str]:
        """The contents whose point carries a path id."""
        body = {
            "filter": {"must": [{"key": "paths", "match": {"value": pid}}]},
            "limit": 100,
            "with_payload": ["sha256"],
        }
        found = self._ask("POST", f"/collections/{collection}/points/scroll", body) or {"points": []}
        return [str(point["payload"]["sha256"]) for point in found["points"]]

    def scroll(self, collection: str, *, vectors: bool = False) -> Iterator[dict[str, Any]]:
        """Every point of a collection."""
        offset: Any = None
        while True:
            body = {"limit": 1000, "offset": offset, "with_payload": True, "with_vector": vectors}
            found = self._ask("POST", f"/collections/{collection}/points/scroll", body)
            if found is None:
                return
            yield from found["points"]
            offset = found["next_page_offset"]
            if offset is None:
                return

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise PixdError(
                f"Qdrant at {self._url} does not answer ({error or type(error).__name__}). Is it running? `pixd ps` "
                "shows the local stack; PIXD_QDRANT_URL names another."
            ) from None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise PixdError(f"Qdrant at {self._url} refused a request ({answer.status_code}): {answer.text[:300]}")
        return answer.json()["result"]
