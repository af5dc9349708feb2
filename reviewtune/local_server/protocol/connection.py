"""Connections of clients: uvicorn's, with errors in OpenAI's shape, and an end for clients that send nothing."""

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from reviewtune.local_server.protocol.api_errors import ApiError

PATIENCE = 30.0  # seconds until a client has sent the head of its first request
LINGER = 5  # seconds for the rest of a body whose request is answered already, so that its client sees the answer


class Connection(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._silence = self.loop.call_later(PATIENCE, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that was refused before it was complete."""
        is_unfinished = self.conn.their_state is h11.SEND_BODY
        self.timeout_keep_alive = LINGER if is_unfinished else self.config.timeout_keep_alive
        super().on_response_complete()

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has headers above uvicorn's limit of 64 kB, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = ApiError(400, f"{msg} Its headers may have at most 64 kB.")
            body = json.dumps(error.body).encode()
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            response = h11.Response(status_code=400, headers=[*headers, ("connection", "close")])
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
