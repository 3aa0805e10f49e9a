#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sma::volume {

/// The connections of the target that one volume uses, or hangs on, together with others:
/// record::Volume::connection in parts. Only connections that the agent has made.
struct SharedNames {
  std::vector<std::string> services;     // discovery services
  std::vector<std::string> controllers;  // of remote subsystems

  /// From what ToText gave; lines of another form are left out.
  static SharedNames Parse(const std::string& text);
  std::string ToText() const;

  // Add what is not there yet.
  void AddService(std::string name);
  void AddController(std::string name);
  void Add(const SharedNames& names);
  /// The name in `services` or `controllers` whose key (KeyOf) is `key`.
  std::optional<std::string> Find(std::string_view key) const;
  std::vector<std::string> All() const;
};

}  // namespace sma::volume
