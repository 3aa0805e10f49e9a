// SPDX-License-Identifier: Apache-2.0

// Checks that connection parameters with any content are either rejected or converted to a
// canonical form that does not change when checked again, and that any answer of a target about its
// connections is either parsed or rejected.

#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/spdk/notify.h"
#include "agent/volume/address.h"
#include "agent/volume/check_connection.h"
#include "agent/volume/merge.h"
#include "agent/volume/shared_names.h"

namespace {

using sma::VolumeParameters;

void Require(bool condition) {
  if (!condition) std::abort();
}

void TryAddress(std::string_view text) {
  const size_t first = text.find('\n');
  const size_t second = first == std::string_view::npos ? first : text.find('\n', first + 1);
  if (second == std::string_view::npos) return;
  sma::nvmf::Address address;
  address.set_trtype(std::string(text.substr(0, first)));
  address.set_traddr(std::string(text.substr(first + 1, second - first - 1)));
  address.set_trsvcid(std::string(text.substr(second + 1)));
  auto checked = sma::volume::CheckAddress(address, "field", "4420");
  if (!checked.ok()) return Require(checked.status().message().find("field") == 0);
  auto again = sma::volume::CheckAddress(*checked, "field", "1");
  Require(again.ok() && again->SerializeAsString() == checked->SerializeAsString());
  Require(sma::spdk::SameAddress(sma::volume::ToTransportAddress(*checked),
                                 sma::volume::ToTransportAddress(*again)));
}

void TryConnection(const std::string& bytes) {
  VolumeParameters params;
  if (!params.ParseFromString(bytes)) return;
  if (!sma::volume::CheckConnection(params).ok()) return;
  VolumeParameters again = params;
  Require(sma::volume::CheckConnection(again).ok());
  Require(again.SerializeAsString() == params.SerializeAsString());
  Require(sma::volume::MergeConnection(params, again).ok());
  Require(again.SerializeAsString() == params.SerializeAsString());
}

void TryAnswer(std::string_view text) {
  sma::jsonrpc::Json answer = sma::jsonrpc::Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (answer.is_discarded()) return;
  const sma::spdk::TransportAddress address{"tcp", "ipv4", "10.0.0.1", "8009"};
  auto services = sma::spdk::ParseDiscoveryInfo(answer);
  for (const auto& service : services.value_or(std::vector<sma::spdk::DiscoveryService>())) {
    Require(sma::spdk::SameAddress(service.address, service.address));
    for (const auto& referral : service.referrals) sma::spdk::SameAddress(referral, address);
  }
  auto controllers = sma::spdk::ParseControllers(answer);
  for (const auto& controller : controllers.value_or(std::vector<sma::spdk::Controller>())) {
    for (const auto& path : controller.paths) sma::spdk::SameAddress(path.address, address);
  }
  sma::spdk::ParseBdevs(answer).IgnoreError();
  auto events = sma::spdk::ParseNotifications(answer);
  if (events.ok() && !events->empty()) Require(events->front().id <= events->back().id);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  google::protobuf::SetLogHandler(nullptr);  // silences its complaints about invalid UTF-8
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      TryAddress(rest);
      break;
    case 1:
      TryConnection(std::string(rest));
      break;
    case 2:
      TryAnswer(rest);
      break;
    default: {
      const auto names = sma::volume::SharedNames::Parse(std::string(rest));
      Require(sma::volume::SharedNames::Parse(names.ToText()).ToText() == names.ToText());
    }
  }
  return 0;
}
