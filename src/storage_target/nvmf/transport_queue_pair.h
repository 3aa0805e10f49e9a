// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {

/// The base class of the queue pairs of transports: accepts commands and executes them. A transport
/// delivers commands and their data, and sends completions. Used only on the reactor's thread.
///
/// The life of a command: the transport calls Start. If the host has data to send, ReceiveData
/// requests it, and the transport calls Execute when the data has arrived. Otherwise the command is
/// executed immediately; if it needs memory for data to the host and AcquireBuffer has none, the
/// transport calls Execute again later. Respond ends the command: afterwards the transport owns the
/// request.
class TransportQueuePair : public QueuePair {
 protected:
  using QueuePair::QueuePair;

  /// Starts a command that has arrived: `command`, `host_size` and `queue_pair` are set.
  void Start(Request& request);
  /// Starts a command that the transport has found to be invalid.
  void Refuse(Request& request, nvme::Status status);
  void Execute(Request& request);
  void Resume(Request& request) final { Execute(request); }

  /// Called once for a command with data, when request.data_size is known and before any data is
  /// transferred: the transport checks that the host has provided enough room or data. Any result
  /// other than kSuccess ends the command.
  virtual nvme::Status LocateData(Request& /*request*/) { return nvme::Status::kSuccess; }
  /// Receives request.data_size bytes of data from the host, then calls Execute.
  virtual void ReceiveData(Request& request) = 0;

 private:
  nvme::Status Classify(Request& request);
};

}  // namespace sma::storage_target::nvmf
