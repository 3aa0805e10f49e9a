# SPDX-License-Identifier: Apache-2.0
"""The messages of the service, generated from its .proto files: sma_pb2 and the files that it imports."""
