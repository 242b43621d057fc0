"""Bodies of requests: photographs, in memory alone, within limits that hold while they are being read.

A body is refused by its Content-Length before a byte of it is read, and otherwise as soon as it grows too large. All
bodies that are held share a budget, so that many large ones are told to come back instead of filling the memory; a slow
client holds no more of it than it has sent, and only for so long.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cervix_jax.serving.responses import RequestError, busy

MAX_BODY = 40_000_000  # bytes; photographs of phones have 2 to 12 million
MAX_HELD = 200_000_000  # bytes of all bodies
MAX_PHOTOGRAPHS = 16  # of a request
UPLOAD_SECONDS = 60.0  # for a whole body


class Uploads:
    """Reads the photographs of requests, and knows how many bytes are held."""

    def __init__(self, max_body: int = MAX_BODY, max_held: int = MAX_HELD, seconds: float = UPLOAD_SECONDS):
        self.max_body, self._max_held, self._seconds = max_body, max_held, seconds
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    @contextlib.asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[list[bytes]]:
        """The photographs of a request, held while the block runs.

        Args:
          request: its body is a file, or multipart/form-data with several; names of files are not looked at.

        Raises:
          RequestError: the body is too large, too slow, empty or no form; or too many bytes are held.
          starlette.requests.ClientDisconnect: the client has gone.
        """
        taken = [0]
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    files = await self._read(request, taken)
            except TimeoutError as error:
                raise RequestError(408, "slow", f"the photograph took more than {self._seconds:g} s to come") from error
            yield files
        finally:
            self._held -= taken[0]

    async def _read(self, request: Request, taken: list[int]) -> list[bytes]:
        length = request.headers.get("content-length", "0")
        if int(length) > self.max_body:
            raise self._too_large()
        chunks = self._chunks(request, taken)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data":
            files = await _form_files(request, chunks)
        else:
            files = [b"".join([chunk async for chunk in chunks])]
        if not any(files):
            raise RequestError(400, "empty", "there is no photograph in the request")
        return files

    async def _chunks(self, request: Request, taken: list[int]) -> AsyncGenerator[bytes, None]:
        async for chunk in request.stream():
            taken[0] += len(chunk)
            self._held += len(chunk)
            if taken[0] > self.max_body:
                raise self._too_large()
            if self._held > self._max_held:
                raise busy(5)
            yield chunk

    def _too_large(self) -> RequestError:
        return RequestError(413, "too_large", f"at most {self.max_body:,} bytes are read; send fewer photographs")


class _MemoryParser(MultiPartParser):
    """Keeps files in memory: none is as large as what would be written to a temporary file."""

    spool_max_size = MAX_BODY * 10


async def _form_files(request: Request, chunks: AsyncGenerator[bytes, None]) -> list[bytes]:
    try:
        parser = _MemoryParser(request.headers, chunks, max_files=MAX_PHOTOGRAPHS, max_fields=MAX_PHOTOGRAPHS)
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError, UnicodeError) as error:
        raise RequestError(400, "form", "the form cannot be read, or holds too many photographs") from error
    files = []
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.append(await value.read())
    await form.close()
    return files
