#include "agent/volume/merge.h"

#include <algorithm>

#include "agent/spdk/nvmf.h"
#include "agent/volume/address.h"

namespace sma::volume {
namespace {

using Addresses = google::protobuf::RepeatedPtrField<nvmf::Address>;

void AddMissing(const Addresses& asked, Addresses& known) {
  for (const nvmf::Address& address : asked) {
    bool has_it = std::any_of(known.begin(), known.end(), [&](const nvmf::Address& other) {
      return spdk::SameAddress(ToTransportAddress(address), ToTransportAddress(other));
    });
    if (!has_it) *known.Add() = address;
  }
}

absl::Status Differs(const char* what) {
  return absl::InvalidArgumentError(std::string("volume: is attached through ").append(what));
}

}  // namespace

absl::Status MergeConnection(const VolumeParameters& asked, VolumeParameters& known) {
  if (asked.connection_params_case() == VolumeParameters::CONNECTION_PARAMS_NOT_SET) {
    return absl::OkStatus();
  }
  if (known.connection_params_case() == VolumeParameters::CONNECTION_PARAMS_NOT_SET) {
    if (asked.has_nvmf()) *known.mutable_nvmf() = asked.nvmf();
    // An iSCSI bdev would have to have the name of the one that is there.
    return asked.has_iscsi() ? Differs("a bdev of the target's own") : absl::OkStatus();
  }
  if (asked.connection_params_case() != known.connection_params_case()) {
    return Differs("another kind of connection");
  }
  if (asked.has_iscsi()) {
    const auto& a = asked.iscsi();
    const auto& b = known.iscsi();
    bool same = a.portal() == b.portal() && a.target_iqn() == b.target_iqn() && a.lun() == b.lun();
    return same ? absl::OkStatus() : Differs("another logical unit");
  }
  const nvmf::VolumeConnectionParameters& from = asked.nvmf();
  nvmf::VolumeConnectionParameters& to = *known.mutable_nvmf();
  if (from.connection_params_case() != to.connection_params_case()) {
    return Differs("another kind of connection");
  }
  if (from.has_direct()) {
    if (from.subnqn() != to.subnqn()) return Differs("another subsystem");
    AddMissing(from.direct().addresses(), *to.mutable_direct()->mutable_addresses());
  } else {
    AddMissing(from.discovery().discovery_endpoints(),
               *to.mutable_discovery()->mutable_discovery_endpoints());
  }
  return absl::OkStatus();
}

}  // namespace sma::volume
