// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/merge.h"

#include <algorithm>

#include "absl/strings/match.h"
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

absl::Status DiffersError(const char* what) {
  return absl::InvalidArgumentError(std::string("volume: is attached through ").append(what));
}

}  // namespace

absl::Status MergeConnection(const VolumeParameters& asked, VolumeParameters& known) {
  if (asked.connection_params_case() == VolumeParameters::CONNECTION_PARAMS_NOT_SET) {
    return absl::OkStatus();
  }
  if (known.connection_params_case() == VolumeParameters::CONNECTION_PARAMS_NOT_SET) {
    if (asked.has_nvmf()) *known.mutable_nvmf() = asked.nvmf();
    // The iSCSI bdev would need the name of the existing local bdev.
    return asked.has_iscsi() ? DiffersError("a bdev of the target's own") : absl::OkStatus();
  }
  if (asked.connection_params_case() != known.connection_params_case()) {
    return DiffersError("another kind of connection");
  }
  if (asked.has_iscsi()) {
    const auto& a = asked.iscsi();
    const auto& b = known.iscsi();
    const bool same = a.portal() == b.portal() && a.lun() == b.lun() &&
                      absl::EqualsIgnoreCase(a.target_iqn(), b.target_iqn());
    return same ? absl::OkStatus() : DiffersError("another logical unit");
  }
  const nvmf::VolumeConnectionParameters& from = asked.nvmf();
  nvmf::VolumeConnectionParameters& to = *known.mutable_nvmf();
  if (from.connection_params_case() != to.connection_params_case()) {
    return DiffersError("another kind of connection");
  }
  if (from.has_direct()) {
    if (from.subnqn() != to.subnqn()) return DiffersError("another subsystem");
    AddMissing(from.direct().addresses(), *to.mutable_direct()->mutable_addresses());
  } else {
    AddMissing(from.discovery().discovery_endpoints(),
               *to.mutable_discovery()->mutable_discovery_endpoints());
  }
  return absl::OkStatus();
}

}  // namespace sma::volume
