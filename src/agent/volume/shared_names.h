// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <compare>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/spdk/nvmf.h"

namespace sma::volume {

/// A path to a remote subsystem, as it is kept in the record.
struct RemotePath {
  std::string traddr;
  std::string trsvcid;
  std::string subnqn;

  static RemotePath Of(const spdk::TransportAddress& address, std::string subnqn) {
    return {.traddr = address.traddr, .trsvcid = address.trsvcid, .subnqn = std::move(subnqn)};
  }
  spdk::TransportAddress address() const {
    return {.trtype = "tcp", .adrfam = "", .traddr = traddr, .trsvcid = trsvcid};
  }
  friend auto operator<=>(const RemotePath&, const RemotePath&) = default;
};

/// The names of the agent's connections that one volume uses or depends on and may share with
/// others, and the paths through which it was found: the parsed record::Volume::connection.
struct SharedNames {
  std::vector<std::string> services;     // discovery services
  std::vector<std::string> controllers;  // of remote subsystems
  std::set<RemotePath> paths;

  /// Parses the result of ToText; lines of another form are skipped. Records of earlier versions
  /// have no paths.
  static SharedNames Parse(const std::string& text);
  std::string ToText() const;

  // Add a name unless it is already in the list.
  void AddService(std::string name);
  void AddController(std::string name);
  void Add(const SharedNames& names);
  /// Returns the name in `services` or `controllers` whose key (KeyOf) is `key`.
  std::optional<std::string> Find(std::string_view key) const;
  std::vector<std::string> All() const;
};

bool Contains(const std::vector<std::string>& names, const std::string& name);

}  // namespace sma::volume
