// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/admin_commands.h"

#include <functional>

#include "storage_target/nvme/log_page.h"
#include "storage_target/nvmf/control_call.h"
#include "storage_target/nvmf/feature_commands.h"
#include "storage_target/nvmf/identify.h"
#include "storage_target/nvmf/log_pages.h"
#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::AdminOpcode;
using nvme::Status;

// Executes Abort (NVMe Base 2.0 §5.1). Bit 0 of dword 0 is set if the command was not aborted.
void AbortCommand(QueuePair& queue_pair, Request& request) {
  auto queue_id = static_cast<uint16_t>(request.command.cdw10);
  auto cid = static_cast<uint16_t>(request.command.cdw10 >> 16);
  if (queue_id == queue_pair.queue_id()) {
    bool aborted = queue_pair.controller().async_events().Abort(cid) || queue_pair.Abort(cid);
    return queue_pair.Complete(request, Status::kSuccess, aborted ? 0 : 1);
  }
  CallControlAsync(
      queue_pair,
      [&queue_pair, queue_id, cid](ControlPlane& control, const std::function<void(bool)>& answer) {
        control.AbortCommand(queue_pair.controller(), queue_id, cid, answer);
      },
      [&queue_pair, &request](bool aborted) {
        queue_pair.Complete(request, Status::kSuccess, aborted ? 0 : 1);
      });
}

bool IsFeatureCommand(AdminOpcode opcode) {
  return opcode == AdminOpcode::kGetFeatures || opcode == AdminOpcode::kSetFeatures;
}

}  // namespace

Status AdminDataSize(const QueuePair& queue_pair, const Request& request, uint32_t& size_bytes) {
  size_bytes = 0;
  const nvme::Command& command = request.command;
  if ((command.flags & nvme::kFuseMask) != 0) return Status::kInvalidField;
  auto opcode = static_cast<AdminOpcode>(command.opcode);
  if (IsFeatureCommand(opcode)) {
    size_bytes = FeatureDataSize(command);
    return Status::kSuccess;
  }
  switch (opcode) {
    case AdminOpcode::kIdentify:
      size_bytes = nvme::kIdentifySize;
      return Status::kSuccess;
    case AdminOpcode::kGetLogPage: {
      uint64_t size = nvme::GetLogPage::Decode(command).size_bytes;
      if (size > queue_pair.limits().max_io_size) return Status::kInvalidField;
      size_bytes = static_cast<uint32_t>(size);
      return Status::kSuccess;
    }
    case AdminOpcode::kAbort:
    case AdminOpcode::kAsyncEventRequest:
    case AdminOpcode::kKeepAlive:
      return Status::kSuccess;
    default:
      return Status::kInvalidOpcode;
  }
}

void ExecuteAdmin(QueuePair& queue_pair, Request& request) {
  Controller& controller = queue_pair.controller();
  controller.NoteAdminCommand();
  switch (static_cast<AdminOpcode>(request.command.opcode)) {
    case AdminOpcode::kIdentify:
      return Identify(queue_pair, request);
    case AdminOpcode::kGetLogPage:
      return ReadLogPage(queue_pair, request);
    case AdminOpcode::kGetFeatures:
      return GetFeatures(queue_pair, request);
    case AdminOpcode::kSetFeatures:
      return SetFeatures(queue_pair, request);
    case AdminOpcode::kAbort:
      return AbortCommand(queue_pair, request);
    case AdminOpcode::kAsyncEventRequest:
      return controller.async_events().Add(request);
    case AdminOpcode::kKeepAlive:
      return queue_pair.Complete(request, Status::kSuccess);
    default:
      return queue_pair.Complete(request, Status::kInvalidOpcode);
  }
}

}  // namespace sma::storage_target::nvmf
