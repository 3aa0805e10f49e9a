// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/fabrics_commands.h"

#include <bit>

#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvmf/control_call.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::FabricsType;
using nvme::Status;

// Connect is handled on the control reactor, which owns the tables of subsystems, hosts and
// controllers.
void Connect(QueuePair& queue_pair, Request& request) {
  // Checked again here, because the data of two Connect commands may have been requested.
  if (queue_pair.connected() || queue_pair.connecting()) {
    return queue_pair.Complete(request, Status::kCommandSequenceError);
  }
  ConnectRequest connect;
  connect.command = std::bit_cast<nvme::ConnectCommand>(request.command);
  QueuePair::CopyData(request, std::as_writable_bytes(std::span(&connect.data, 1)));
  queue_pair.BeginConnect();
  CallControlAsync(
      queue_pair,
      [&queue_pair, connect](ControlPlane& control, const ConnectDone& answer) {
        control.Connect(queue_pair, connect, answer);
      },
      [&queue_pair, &request](const ConnectResult& result) {
        queue_pair.FinishConnect(request, result);
      });
}

void GetProperty(QueuePair& queue_pair, Request& request) {
  auto command = std::bit_cast<nvme::PropertyCommand>(request.command);
  uint32_t size = (command.attributes & nvme::kPropertySizeMask) == nvme::kPropertySize8 ? 8 : 4;
  uint64_t value = 0;
  Status status = queue_pair.controller().ReadProperty(command.offset, size, value);
  queue_pair.Complete(request, status, status == Status::kSuccess ? value : 0);
}

void SetProperty(QueuePair& queue_pair, Request& request) {
  auto command = std::bit_cast<nvme::PropertyCommand>(request.command);
  uint32_t size = (command.attributes & nvme::kPropertySizeMask) == nvme::kPropertySize8 ? 8 : 4;
  queue_pair.Complete(request,
                      queue_pair.controller().WriteProperty(command.offset, size, command.value));
}

}  // namespace

Status FabricsDataSize(const QueuePair& queue_pair, const Request& request, uint32_t& size_bytes) {
  size_bytes = 0;
  FabricsType type = nvme::FabricsTypeOf(request.command);
  if (type == FabricsType::kConnect) {
    size_bytes = sizeof(nvme::ConnectData);
    return queue_pair.connected() || queue_pair.connecting() ? Status::kCommandSequenceError
                                                             : Status::kSuccess;
  }
  if (!queue_pair.connected()) return Status::kCommandSequenceError;
  switch (type) {
    case FabricsType::kPropertyGet:
    case FabricsType::kPropertySet:
      return queue_pair.is_admin() ? Status::kSuccess : Status::kInvalidOpcode;
    default:
      return Status::kInvalidOpcode;
  }
}

void ExecuteFabrics(QueuePair& queue_pair, Request& request) {
  switch (nvme::FabricsTypeOf(request.command)) {
    case FabricsType::kConnect:
      return Connect(queue_pair, request);
    case FabricsType::kPropertyGet:
      return GetProperty(queue_pair, request);
    case FabricsType::kPropertySet:
      return SetProperty(queue_pair, request);
    default:
      return queue_pair.Complete(request, Status::kInvalidOpcode);
  }
}

}  // namespace sma::storage_target::nvmf
