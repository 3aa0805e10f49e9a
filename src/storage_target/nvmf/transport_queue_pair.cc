// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/transport_queue_pair.h"

#include "storage_target/nvmf/admin_commands.h"
#include "storage_target/nvmf/fabrics_commands.h"
#include "storage_target/nvmf/io_commands.h"
#include "storage_target/reactor/hold_point.h"

namespace sma::storage_target::nvmf {

using nvme::Status;
using nvme::Transfer;

namespace {

bool IsFabrics(const nvme::Command& command) {
  return command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics);
}

}  // namespace

void TransportQueuePair::Start(Request& request) {
  AdvanceSqHead();
  request.data_size = 0;
  request.abort_requested = false;
  request.first_held_ns = 0;
  request.transfer = IsFabrics(request.command) ? nvme::TransferOf(request.command.nsid & 0xff)
                                                : nvme::TransferOf(request.command.opcode);
  Status status = Classify(request);
  if (status != Status::kSuccess) return Complete(request, status);
  if (request.data_size > request.host_size)
    return Complete(request, Status::kDataSglLengthInvalid);
  if (request.data_size > 0) status = LocateData(request);
  if (status != Status::kSuccess) return Complete(request, status);
  if (request.transfer == Transfer::kHostToController && request.data_size > 0)
    return ReceiveData(request);
  Execute(request);
}

void TransportQueuePair::Refuse(Request& request, Status status) {
  AdvanceSqHead();
  request.data_size = 0;
  request.transfer = Transfer::kNone;
  Complete(request, status);
}

// Sets request.data_size; returns the status with which the command fails before any data is
// transferred.
Status TransportQueuePair::Classify(Request& request) {
  if (IsFabrics(request.command)) return FabricsDataSize(*this, request, request.data_size);
  if (!connected() || connecting()) return Status::kCommandSequenceError;
  if (is_admin()) return AdminDataSize(*this, request, request.data_size);
  controller().NoteTraffic();
  return StartIo(*this, request, request.data_size);
}

void TransportQueuePair::Execute(Request& request) {
  SMA_HOLD_POINT("nvmf.execute");
  if (request.abort_requested) return Complete(request, Status::kAbortRequested);
  if (IsFabrics(request.command)) return ExecuteFabrics(*this, request);
  if (is_admin()) return ExecuteAdmin(*this, request);
  ExecuteIo(*this, request);
}

}  // namespace sma::storage_target::nvmf
