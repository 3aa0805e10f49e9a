// SPDX-License-Identifier: Apache-2.0

#include "agent/probe/nvme_connect.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

#include "agent/probe/timed_socket.h"
#include "base/uuid.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/status.h"
#include "storage_target/nvme/tcp_pdu.h"

namespace sma::probe {
namespace {

namespace nvme = storage_target::nvme;
namespace pdu = storage_target::nvme::tcp;

constexpr uint16_t kQueueSize = 32;

/// A Connect capsule: the command and its in-capsule data.
struct ConnectCapsule {
  pdu::CapsuleCmd capsule;
  nvme::ConnectData data;
};
static_assert(sizeof(ConnectCapsule) == sizeof(pdu::CapsuleCmd) + sizeof(nvme::ConnectData));

// Returns false if the name and its terminating NUL do not fit.
bool SetName(const std::string& name, std::array<char, 256>& field) {
  if (name.size() >= field.size()) return false;
  std::copy(name.begin(), name.end(), field.begin());
  return true;
}

bool FillCapsule(const std::string& subnqn, const std::string& hostnqn, ConnectCapsule& request) {
  nvme::ConnectCommand command;
  command.sgl.type = nvme::SglType::kDataBlockOffset;
  command.sgl.length = sizeof(nvme::ConnectData);
  command.sq_size = kQueueSize - 1;
  request.capsule.command = std::bit_cast<nvme::Command>(command);
  request.capsule.header.pdo = sizeof(pdu::CapsuleCmd);
  request.capsule.header.plen = sizeof(ConnectCapsule);
  request.data.host_id = base::Uuid::Random().bytes();
  return SetName(subnqn, request.data.subsystem_nqn) && SetName(hostnqn, request.data.host_nqn);
}

ConnectAnswer ConnectAnswerOf(const nvme::Completion& completion) {
  switch (nvme::StatusOf(completion.status)) {
    case nvme::Status::kSuccess:
      return ConnectAnswer::kAccepted;
    case nvme::Status::kConnectInvalidHost:
      return ConnectAnswer::kHostRefused;
    case nvme::Status::kConnectInvalidParameters:
      return completion.dw0 == nvme::InvalidConnectData(offsetof(nvme::ConnectData, subsystem_nqn))
                 ? ConnectAnswer::kNoSubsystem
                 : ConnectAnswer::kUnknown;
    default:
      return ConnectAnswer::kUnknown;
  }
}

}  // namespace

ConnectAnswer ProbeNvmeConnect(const std::string& ip, const std::string& port,
                               const std::string& subnqn, const std::string& hostnqn,
                               base::TimePoint deadline) {
  ConnectCapsule request;
  if (!FillCapsule(subnqn, hostnqn, request)) return ConnectAnswer::kUnknown;
  TimedSocket socket(ip, port, deadline);
  const pdu::IcReq initialize;
  pdu::IcResp initialized;
  if (!socket.valid() || !socket.Send(&initialize, sizeof(initialize)) ||
      !socket.Receive(&initialized, sizeof(initialized)) ||
      initialized.header.type != pdu::PduType::kIcResp || initialized.digests != 0 ||
      initialized.cpda > 1) {
    return ConnectAnswer::kUnknown;
  }
  pdu::CapsuleResp response;
  if (!socket.Send(&request, sizeof(request)) || !socket.Receive(&response, sizeof(response)) ||
      response.header.type != pdu::PduType::kCapsuleResp) {
    return ConnectAnswer::kUnknown;
  }
  return ConnectAnswerOf(response.completion);
}

}  // namespace sma::probe
