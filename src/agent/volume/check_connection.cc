// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/check_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "agent/spdk/bdev_iscsi.h"
#include "agent/volume/address.h"
#include "base/ip_address.h"
#include "base/nqn.h"
#include "base/strings.h"

namespace sma::volume {
namespace {

using Addresses = google::protobuf::RepeatedPtrField<nvmf::Address>;

constexpr int kMaxAddresses = 64;
constexpr size_t kMaxIscsiNameSize = 223;  // RFC 7143 §4.2.7.1
constexpr size_t kMaxChapSize = 255;
constexpr uint32_t kMaxLun = 0x3fff;             // flat space addressing (SAM-5 §4.7.7.3)
constexpr const char kDiscoveryPort[] = "8009";  // NVMe/TCP 1.0 §3.1.1
constexpr const char kSubsystemPort[] = "4420";
constexpr const char kIscsiPort[] = "3260";  // RFC 7143 §4.2.7

absl::Status Bad(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("volume.{}: {}", field, what));
}

absl::Status CheckAddresses(std::string_view field, const char* default_port,
                            Addresses& addresses) {
  if (addresses.empty()) return Bad(field, "missing");
  if (addresses.size() > kMaxAddresses) return Bad(field, "too many");
  Addresses checked;
  for (const nvmf::Address& address : addresses) {
    absl::StatusOr<nvmf::Address> one =
        CheckAddress(address, fmt::format("volume.{}", field), default_port);
    if (!one.ok()) return one.status();
    bool is_new = std::none_of(checked.begin(), checked.end(), [&](const nvmf::Address& other) {
      return other.SerializeAsString() == one->SerializeAsString();
    });
    if (is_new) *checked.Add() = *std::move(one);
  }
  addresses.Swap(&checked);
  return absl::OkStatus();
}

absl::Status CheckNvmf(nvmf::VolumeConnectionParameters& params) {
  if (!params.subnqn().empty() && !base::IsValidNqn(params.subnqn())) {
    return Bad("nvmf.subnqn", "is no NQN");
  }
  if (!params.hostnqn().empty() && !base::IsValidNqn(params.hostnqn())) {
    return Bad("nvmf.hostnqn", "is no NQN");
  }
  if (params.has_discovery()) {
    return CheckAddresses("nvmf.discovery.discovery_endpoints", kDiscoveryPort,
                          *params.mutable_discovery()->mutable_discovery_endpoints());
  }
  if (!params.has_direct()) return Bad("nvmf", "neither discovery nor direct");
  if (params.subnqn().empty()) return Bad("nvmf.subnqn", "missing");
  return CheckAddresses("nvmf.direct.addresses", kSubsystemPort,
                        *params.mutable_direct()->mutable_addresses());
}

bool IsIscsiName(std::string_view name) {
  bool known_type =
      name.starts_with("iqn.") || name.starts_with("eui.") || name.starts_with("naa.");
  return known_type && name.size() <= kMaxIscsiNameSize && spdk::IsUrlSafe(name);
}

// Returns `portal` as ADDRESS:PORT, with the default port if it has none; empty if it is invalid.
std::string CheckedPortal(std::string_view portal) {
  std::string_view host = portal;
  std::string_view port = kIscsiPort;
  const bool is_bracketed = portal.starts_with('[');
  size_t end = is_bracketed ? portal.find(']') : portal.find(':');
  if (is_bracketed) {
    if (end == std::string_view::npos) return "";
    host = portal.substr(1, end - 1);
    portal.remove_prefix(end + 1);
    if (!portal.empty() && portal.front() != ':') return "";
    if (!portal.empty()) port = portal.substr(1);
  } else if (end != std::string_view::npos) {
    host = portal.substr(0, end);
    port = portal.substr(end + 1);
  }
  nvmf::Address address;
  address.set_traddr(std::string(host));
  address.set_trsvcid(std::string(port));
  absl::StatusOr<nvmf::Address> checked = CheckAddress(address, "portal", kIscsiPort);
  if (!checked.ok() || port.empty()) return "";
  const bool is_v6 = checked->traddr().find(':') != std::string::npos;
  if (is_v6 != is_bracketed) return "";
  return is_v6 ? fmt::format("[{}]:{}", checked->traddr(), port)
               : fmt::format("{}:{}", checked->traddr(), port);
}

absl::Status CheckChap(std::string_view field, const iscsi::ChapCredentials& chap) {
  auto is_good = [](const std::string& text) {
    return !text.empty() && text.size() <= kMaxChapSize && spdk::IsUrlSafe(text);
  };
  // The message must not contain the secret.
  if (!is_good(chap.user()) || chap.user().find(':') != std::string::npos) {
    return Bad(field, "user is empty, too long or holds one of %@/?&=#:");
  }
  if (!is_good(chap.secret())) {
    return Bad(field, "secret is empty, too long or holds one of %@/?&=#");
  }
  return absl::OkStatus();
}

absl::Status CheckIscsi(iscsi::VolumeConnectionParameters& params) {
  std::string portal = CheckedPortal(params.portal());
  if (portal.empty()) return Bad("iscsi.portal", "is not ADDRESS:PORT");
  params.set_portal(std::move(portal));
  if (!IsIscsiName(params.target_iqn())) return Bad("iscsi.target_iqn", "is no iSCSI name");
  if (!IsIscsiName(params.initiator_iqn())) return Bad("iscsi.initiator_iqn", "is no iSCSI name");
  if (params.lun() > kMaxLun) return Bad("iscsi.lun", "too large");
  absl::Status status;
  if (params.has_chap()) status = CheckChap("iscsi.chap", params.chap());
  if (status.ok() && params.has_mutual_chap()) {
    if (!params.has_chap()) return Bad("iscsi.mutual_chap", "needs chap");
    status = CheckChap("iscsi.mutual_chap", params.mutual_chap());
  }
  return status;
}

}  // namespace

absl::Status CheckConnection(VolumeParameters& params) {
  if (params.has_nvmf()) return CheckNvmf(*params.mutable_nvmf());
  if (params.has_iscsi()) return CheckIscsi(*params.mutable_iscsi());
  return absl::OkStatus();
}

absl::Status ResolveHosts(const base::Context& context, VolumeParameters& params) {
  if (!params.has_nvmf()) return absl::OkStatus();
  nvmf::VolumeConnectionParameters& connection = *params.mutable_nvmf();
  Addresses& addresses = connection.has_direct()
                             ? *connection.mutable_direct()->mutable_addresses()
                             : *connection.mutable_discovery()->mutable_discovery_endpoints();
  for (nvmf::Address& address : addresses) {
    if (absl::Status status = ResolveHost(context, address); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace sma::volume
