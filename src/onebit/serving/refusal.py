"""What a request is refused with, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onebit.printable import one_line

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status, 400 to 599.
        message: one line: what was seen, what is allowed, what to do.
        param: the field of the request that is wrong.
        code: a word for programs.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, one_line(message), param, code
        self.headers = dict(headers or {})

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
