#pragma once

#include "target/nvmf/queue_pair.h"

namespace sma::target::nvmf {

/// A queue pair as its transport drives it: takes commands and executes them. Transports derive
/// from it; they bring the commands and their data and take the answers. The reactor's thread only.
///
/// The life of a command: the transport calls Start. If the host has data to send, ReceiveData asks
/// the transport for them and it calls Execute when they are there. Otherwise the command is
/// executed at once; where it needs memory for data to the host, AcquireBuffer asks for it, and
/// when there is none, the transport calls Execute again once there is. Respond ends it: the
/// request is the transport's again.
class TransportQueuePair : public QueuePair {
 protected:
  using QueuePair::QueuePair;

  /// A command has arrived: `command`, `host_size` and `queue_pair` are set.
  void Start(Request& request);
  /// The same for one that the transport finds invalid.
  void Refuse(Request& request, nvme::Status status);
  void Execute(Request& request);

  /// Called once for a command with data, when it is known how many (request.data_size) and before
  /// any are moved: the transport checks that the host has that much room or data for it. Anything
  /// but kSuccess ends the command.
  virtual nvme::Status LocateData(Request& /*request*/) { return nvme::Status::kSuccess; }
  /// Fetches request.data_size bytes of data from the host, then calls Execute.
  virtual void ReceiveData(Request& request) = 0;

 private:
  nvme::Status Classify(Request& request);
};

}  // namespace sma::target::nvmf
