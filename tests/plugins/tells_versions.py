# SPDX-License-Identifier: Apache-2.0
"""Logs which packages it imports."""

import importlib.util
import logging

import google.protobuf
import grpc
import spdk.rpc.client
import spdk.sma
from shapes import NvmeDevice

logging.warning("protobuf %s", google.protobuf.__version__)
logging.warning("grpc has a server: %s", hasattr(grpc, "server"))
logging.warning("spdk of PyPI is there: %s", importlib.util.find_spec("spdk.cli") is not None)
assert "/lib/sma/python/" in spdk.sma.__file__ and "/lib/sma/python/" in spdk.rpc.client.__file__

devices = [NvmeDevice]
