// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/status.h"

namespace sma::storage_target::nvmf {

class Controller;
class NamespaceTable;

/// A Connect command and its data that were received from the host.
struct ConnectRequest {
  nvme::ConnectCommand command;
  nvme::ConnectData data;
};

struct ConnectResult;
using ConnectDone = std::function<void(const ConnectResult& result)>;

/// The result of a Connect command; members other than `status` and `dw0` are set only with
/// kSuccess.
struct ConnectResult {
  nvme::Status status = nvme::Status::kSuccess;
  uint32_t dw0 = 0;
  std::shared_ptr<Controller> controller;
  std::shared_ptr<NamespaceTable> namespaces;
  uint16_t queue_id = 0;
  uint32_t queue_size = 0;
  bool sq_flow_control = true;

  static ConnectResult Error(nvme::Status status, uint32_t dw0 = 0) {
    ConnectResult result;
    result.status = status;
    result.dw0 = dw0;
    return result;
  }
  /// Return the error for an invalid field of the command or of the data; `offset` is the field's
  /// offset.
  static ConnectResult InvalidCommand(size_t offset) {
    return Error(nvme::Status::kConnectInvalidParameters, nvme::InvalidConnectCommand(offset));
  }
  static ConnectResult InvalidData(size_t offset) {
    return Error(nvme::Status::kConnectInvalidParameters, nvme::InvalidConnectData(offset));
  }
};

}  // namespace sma::storage_target::nvmf
