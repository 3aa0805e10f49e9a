# SPDX-License-Identifier: Apache-2.0
"""The agent's side of Python plugins: loads them and calls their device types and engines. Only the agent imports it:
the module `_sma_agent` is the agent itself."""

import importlib
import inspect
import json
import logging
import traceback

import grpc
import _sma_agent

from spdk.rpc.client import JSONRPCException, error_text

from .device import DeviceException, DeviceManager
from .proto import sma_pb2
from .qos import QosException
from .volume import CryptoEngine, CryptoException, VolumeException, crypto

_log = logging.getLogger("plugins")
_REFUSALS = (DeviceException, CryptoException, QosException, VolumeException)

# Device types and crypto engines; the agent identifies them by their index.
_objects = []


class _LogHandler(logging.Handler):
    def emit(self, record):
        _sma_agent.log(record.levelno, f"{record.name}: {self.format(record)}")


class AgentClient:
    """The client of plugins: calls use the agent's own connection, with the deadline of the gRPC call
    that the plugin is serving."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **params: self.call(name, {k: v for k, v in params.items() if v is not None})

    def call(self, method, params=None):
        """Returns the result. Raises JSONRPCException."""
        is_result, answer = _sma_agent.call_target(method, json.dumps(params) if params else "")
        if is_result:
            return json.loads(answer)
        error = json.loads(answer)
        if "code" in error:
            raise JSONRPCException(error_text(method, params, 0, error))
        raise JSONRPCException(f"{method}: {error['message']}")

    def close(self):
        pass


class _AgentCryptoEngine(crypto.CryptoEngine):
    """Returned by get_crypto_engine if the agent's own engine is used: knows the bdev of the volume to which the
    current call applies."""

    def __init__(self, name):
        super().__init__(name)

    def get_crypto_bdev(self, volume_id):
        return _sma_agent.crypto_bdev(volume_id)


def start(log_level):
    """Redirects Python's logging to the agent's log."""
    logging.basicConfig(level=log_level, handlers=[_LogHandler()], format="%(message)s")


def load(module_name):
    """Imports a plugin. Returns a list of tuples: kind ("device" or "crypto engine"), number, name and protocol. Raises
    ImportError with a one-line message; the traceback is logged."""
    try:
        module = importlib.import_module(module_name)
        devices = [_add("device", cls(AgentClient)) for cls in getattr(module, "devices", [])]
        engines = [_add("crypto engine", cls()) for cls in getattr(module, "crypto_engines", [])]
    except BaseException as error:
        _log.error("plugin %s:\n%s", module_name, traceback.format_exc())
        raise ImportError(f"{type(error).__name__}: {error}") from None
    if not devices and not engines:
        raise ImportError("the module has neither `devices` nor `crypto_engines`")
    return devices + engines


def _add(kind, thing):
    base = DeviceManager if kind == "device" else CryptoEngine
    if not isinstance(thing, base):
        raise TypeError(f"{type(thing).__name__} does not derive from {base.__name__}")
    for attribute in ("name", "protocol") if kind == "device" else ("name",):
        if not isinstance(getattr(thing, attribute, None), str) or not getattr(thing, attribute):
            raise TypeError(f"{type(thing).__name__} has no {attribute}")
    if kind == "crypto engine":
        crypto.register_crypto_engine(thing)
    _objects.append(thing)
    return kind, len(_objects) - 1, thing.name, getattr(thing, "protocol", "")


def use_crypto_engine(name):
    """Makes get_crypto_engine return the engine named in the configuration."""
    try:
        crypto.set_crypto_engine(name)
    except ValueError:
        crypto.register_crypto_engine(_AgentCryptoEngine(name))
        crypto.set_crypto_engine(name)


def call(number, method, argument):
    """Calls a method with its serialized request, or with JSON. Returns a gRPC status code, a message and the
    serialized response."""
    try:
        return 0, "", _METHODS[method](_objects[number], argument)
    except _REFUSALS as error:
        return _refusal(error)
    except NotImplementedError:
        return grpc.StatusCode.UNIMPLEMENTED.value[0], f"{method} is not implemented by {_objects[number].name}", b""
    except BaseException as error:
        _log.error("%s.%s:\n%s", _objects[number].name, method, traceback.format_exc())
        lost = isinstance(error, JSONRPCException) and _sma_agent.target_was_lost()
        code = grpc.StatusCode.UNAVAILABLE if lost else grpc.StatusCode.INTERNAL
        return code.value[0], f"{_objects[number].name}: {method} failed: {_one_line(error)}", b""


def _refusal(error):
    """Returns a valid error code: if the plugin's code is invalid or OK, that is a bug in the plugin, but the call has
    failed."""
    code = getattr(error.code, "value", (error.code,))[0]
    if not isinstance(code, int) or not 0 < code <= 16:
        code = grpc.StatusCode.UNKNOWN.value[0]
    return code, str(error.message), b""


def _one_line(error):
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _answer(method, message, answer):
    """Serializes `answer`. Accepts a message of the same type from any generated class."""
    expected = message.DESCRIPTOR.full_name
    if getattr(getattr(answer, "DESCRIPTOR", None), "full_name", None) != expected:
        raise TypeError(f"{method} gave {type(answer).__name__}, not {expected}")
    return answer.SerializeToString()


# Device types

def _create_device(manager, argument):
    response = manager.create_device(sma_pb2.CreateDeviceRequest.FromString(argument))
    answer = _answer("create_device", sma_pb2.CreateDeviceResponse, response)
    if not response.handle:
        raise ValueError("create_device returned no handle")
    return answer


def _without_answer(method, message):
    def passed(manager, argument):
        getattr(manager, method)(message.FromString(argument))
        return b""
    return passed


def _owns_device(manager, argument):
    overridden = type(manager).owns_device is not DeviceManager.owns_device
    owns = manager.owns_device if overridden else getattr(manager, "own_device", manager.owns_device)
    return b"1" if owns(argument.decode()) else b""


def _get_qos_capabilities(manager, argument):
    try:
        response = manager.get_qos_capabilities(sma_pb2.GetQosCapabilitiesRequest.FromString(argument))
    except NotImplementedError:
        response = sma_pb2.GetQosCapabilitiesResponse()
    return _answer("get_qos_capabilities", sma_pb2.GetQosCapabilitiesResponse, response)


def _init_device(manager, argument):
    manager.init(json.loads(argument))
    return b""


def _allow_delete_volumes(manager, _):
    return b"1" if manager.allow_delete_volumes else b""


# Crypto engines

def _init_engine(engine, argument):
    engine.init(AgentClient, json.loads(argument))
    return b""


def _with_key(method):
    """Calls a method that may lack the parameter `tweak_mode`."""
    def passed(engine, argument):
        function = getattr(engine, method)
        volume_id, key, cipher, key2, tweak_mode = json.loads(argument)
        try:
            inspect.signature(function).bind(volume_id, key, cipher, key2, tweak_mode)
        except TypeError:
            if tweak_mode:
                raise CryptoException(grpc.StatusCode.INVALID_ARGUMENT,
                                      f"Crypto engine {engine.name} has no tweak modes") from None
            function(volume_id, key, cipher, key2)
        else:
            function(volume_id, key, cipher, key2, tweak_mode)
        return b""
    return passed


def _cleanup(engine, argument):
    engine.cleanup(argument.decode())
    return b""


def _get_crypto_bdev(engine, argument):
    name = engine.get_crypto_bdev(argument.decode())
    if name is not None and not isinstance(name, str):
        raise TypeError(f"get_crypto_bdev gave {type(name).__name__}, not a name")
    return (name or "").encode()


_METHODS = {
    "init_device": _init_device,
    "allow_delete_volumes": _allow_delete_volumes,
    "create_device": _create_device,
    "delete_device": _without_answer("delete_device", sma_pb2.DeleteDeviceRequest),
    "attach_volume": _without_answer("attach_volume", sma_pb2.AttachVolumeRequest),
    "detach_volume": _without_answer("detach_volume", sma_pb2.DetachVolumeRequest),
    "owns_device": _owns_device,
    "set_qos": _without_answer("set_qos", sma_pb2.SetQosRequest),
    "get_qos_capabilities": _get_qos_capabilities,
    "init_engine": _init_engine,
    "setup": _with_key("setup"),
    "verify": _with_key("verify"),
    "cleanup": _cleanup,
    "get_crypto_bdev": _get_crypto_bdev,
}
