"""Files behind pre-signed links: the lists of failed rows and the exports."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from .answers import Answer
from .fields import text

__all__ = ["Files"]

_DENIED = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{0}</Code><Message>{1}</Message><RequestId>SIMULATOR0000000</RequestId></Error>"""


class Files:
    """Files behind pre-signed links, answered the way S3 answers them.

    Args:
        life: seconds for which a link works.
        clock: the loop's clock.
    """

    def __init__(self, life: float, clock: Callable[[], float]) -> None:
        self.base_url = ""
        self._life = life
        self._clock = clock
        self._files: dict[str, tuple[bytes, float]] = {}

    def publish(self, path: str, content: bytes) -> str:
        """Store a file; its link."""
        self._files[path] = (content, self._clock() + self._life)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        credential = quote(f"SIMULATOR/{stamp[:8]}/ap-south-1/s3/aws4_request", safe="")
        return (
            f"{self.base_url}{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={stamp}"
            f"&X-Amz-Expires={int(self._life)}&X-Amz-SignedHeaders=host"
            f"&X-Amz-Security-Token=SIMULATOR%2FTOKEN%3D%3D&X-Amz-Signature={self._sign(path)}"
        )

    def expire(self) -> None:
        """End every link now, as if its life were over."""
        now = self._clock()
        self._files = {path: (content, now) for path, (content, _) in self._files.items()}

    def read(self, path: str, signature: object) -> Answer:
        """The file, or the XML with which S3 refuses."""
        content, expires = self._files.get(path, (None, 0.0))
        if not hmac.compare_digest(text(signature), self._sign(path)):
            return _denied(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
        if content is None:
            return _denied(404, "NoSuchKey", "The specified key does not exist.")
        if self._clock() >= expires:
            return _denied(403, "AccessDenied", "Request has expired")
        return Answer(content, "text/csv")

    def _sign(self, path: str) -> str:
        return hmac.new(b"simulator-only", path.encode(), hashlib.sha256).hexdigest()


def _denied(code: int, word: str, message: str) -> Answer:
    return Answer(_DENIED.format(word, message).encode(), "application/xml", code)
