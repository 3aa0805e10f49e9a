#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "target/nvme/fabrics.h"
#include "target/nvme/status.h"

namespace sma::target::nvmf {

class Controller;
class NamespaceTable;

/// A Connect command and its data, as they came.
struct ConnectRequest {
  nvme::ConnectCommand command;
  nvme::ConnectData data;
};

struct ConnectResult;
using ConnectDone = std::function<void(const ConnectResult& result)>;

/// What the target answers; all but `status` and `dw0` only with kSuccess.
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
  /// The field of the command or of the data, by its offset, is at fault.
  static ConnectResult InvalidCommand(size_t offset) {
    return Error(nvme::Status::kConnectInvalidParameters, nvme::InvalidConnectCommand(offset));
  }
  static ConnectResult InvalidData(size_t offset) {
    return Error(nvme::Status::kConnectInvalidParameters, nvme::InvalidConnectData(offset));
  }
};

}  // namespace sma::target::nvmf
