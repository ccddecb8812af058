"""Between gRPC and every method: what is one too many, what cannot be decoded, and what was not expected."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import AbortError

from atm.errors import FieldViolation, InvalidArgumentError, ServiceError, UnexpectedError
from atm.server.admission import LIGHT_BYTES, REQUEST_FACTOR, Admission, Gate, Memory
from atm.server.errors import status_of

logger = logging.getLogger(__name__)

Decode = Callable[[bytes], Any]


class ErrorBoundary(grpc.GenericRpcHandler):
    """The methods of a service, with requests decoded here, so that malformed bytes are INVALID_ARGUMENT
    (gRPC says INTERNAL), and with every error of ATM answered with its code and details. `admission`
    says who is let in.

    Not a ServerInterceptor: that would wrap the method anew for each call.
    """

    def __init__(self, inner: grpc.GenericRpcHandler, admission: Admission) -> None:
        self._inner = inner
        self._admission = admission
        self._methods: dict[str, Any] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The method of a call, or None when it is not one of these."""
        name = handler_call_details.method
        method = self._methods.get(name)
        if method is None:
            inner = self._inner.service(handler_call_details)
            if inner is None:
                return None
            method = self._methods[name] = _bounded(inner, name, self._admission)
        return method


class BoundedServer:
    """What the generated `add_…_to_server` take for a server: it adds their methods translated."""

    def __init__(self, server: Any, admission: Admission, *, registers: bool) -> None:
        self._server = server
        self._admission = admission
        self._registers = registers

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds them."""
        bounded = [ErrorBoundary(handler, self._admission) for handler in handlers]
        self._server.add_generic_rpc_handlers(bounded)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds them by their names, so that gRPC's core tells them from unknown ones, if `registers`."""
        if self._registers:
            bounded = {
                name: _bounded(handler, f"/{service}/{name}", self._admission)
                for name, handler in handlers.items()
            }
            self._server.add_registered_method_handlers(service, bounded)


def _bounded(handler: Any, path: str, admission: Admission) -> Any:
    decode, encode = handler.request_deserializer or bytes, handler.response_serializer
    gate = admission.gate(path, streams=handler.response_streaming)
    if handler.unary_unary is not None:
        single = _single(handler.unary_unary, decode, gate, admission.memory)
        return grpc.unary_unary_rpc_method_handler(single, None, encode)
    if handler.unary_stream is not None:
        streaming = _streaming(handler.unary_stream, decode, _decoded, gate)
        return grpc.unary_stream_rpc_method_handler(streaming, None, encode)
    if handler.stream_stream is not None:
        streaming = _streaming(handler.stream_stream, decode, _decoded_each, gate)
        return grpc.stream_stream_rpc_method_handler(streaming, None, encode)
    return handler


def _single(behaviour: Any, decode: Decode, gate: Gate, memory: Memory) -> Any:
    async def call(data: bytes, context: Any) -> Any:
        try:
            with gate:
                if len(data) > LIGHT_BYTES:
                    memory.hold(context, REQUEST_FACTOR * len(data))
                return await behaviour(_decoded(data, decode), context)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            await _abort(context, error)

    return call


def _streaming(behaviour: Any, decode: Decode, prepare: Callable[[Any, Decode], Any], gate: Gate) -> Any:
    async def call(data: Any, context: Any) -> AsyncIterator[Any]:
        try:
            with gate:
                async for answer in behaviour(prepare(data, decode), context):
                    yield answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            await _abort(context, error)

    return call


def _decoded(data: bytes, decode: Decode) -> Any:
    try:
        return decode(data)
    except (DecodeError, ValueError) as error:
        violation = FieldViolation("", "the bytes are not this message, or hold text that is not UTF-8")
        raise InvalidArgumentError([violation], violation.description, reason="MALFORMED_REQUEST") from error


async def _decoded_each(stream: AsyncIterator[bytes], decode: Decode) -> AsyncIterator[Any]:
    async for data in stream:
        yield _decoded(data, decode)


async def _abort(context: Any, error: Exception) -> NoReturn:
    if isinstance(error, AbortError):
        raise error
    if not isinstance(error, ServiceError):
        logger.error("a call failed: a defect", exc_info=error)
        error = UnexpectedError("the server failed; its log says why")
    await context.abort_with_status(status_of(error))
    raise AssertionError("abort_with_status raises")
