# SPDX-License-Identifier: Apache-2.0
"""The gRPC messages and stubs, generated from proto/ as by any client."""

import importlib
import pathlib
import sys
import tempfile

from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
_FOLDER = tempfile.TemporaryDirectory(prefix="sma-wire-")


def generate(folder):
    """Generates Python modules for each file of proto/ in `folder`."""
    protos = sorted(str(path) for path in (ROOT / "proto").glob("*.proto"))
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={folder}",
                 f"--grpc_python_out={folder}", *protos]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed")


def _load():
    generate(_FOLDER.name)
    sys.path.append(_FOLDER.name)
    return [importlib.import_module(name) for name in ("sma_pb2", "sma_pb2_grpc", "sma_admin_pb2",
                                                       "sma_admin_pb2_grpc")]


FOLDER = _FOLDER.name
sma, sma_grpc, admin, admin_grpc = _load()
