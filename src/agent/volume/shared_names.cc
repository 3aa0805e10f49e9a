// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/shared_names.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_split.h"
#include "agent/volume/connection_names.h"

namespace sma::volume {
namespace {

// Each name is on its own line, after a word for its kind. NQNs contain no control characters.
constexpr std::string_view kService = "discovery ";
constexpr std::string_view kController = "controller ";
constexpr std::string_view kPath = "path ";

// An NQN comes last, since it may contain spaces.
std::optional<RemotePath> ParsePath(const std::string& text) {
  const std::vector<std::string> words = absl::StrSplit(text, absl::MaxSplits(' ', 2));
  if (words.size() != 3) return std::nullopt;
  return RemotePath{.traddr = words[0], .trsvcid = words[1], .subnqn = words[2]};
}

void AddOnce(std::vector<std::string>& list, std::string name) {
  if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(std::move(name));
}

}  // namespace

SharedNames SharedNames::Parse(const std::string& text) {
  SharedNames names;
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (const std::string& line : lines) {
    if (line.starts_with(kService)) {
      names.services.push_back(line.substr(kService.size()));
    } else if (line.starts_with(kController)) {
      names.controllers.push_back(line.substr(kController.size()));
    } else if (line.starts_with(kPath)) {
      if (auto path = ParsePath(line.substr(kPath.size()))) names.paths.insert(*std::move(path));
    }
  }
  return names;
}

std::string SharedNames::ToText() const {
  std::string text;
  for (const std::string& name : services) text.append(kService).append(name).append("\n");
  for (const std::string& name : controllers) text.append(kController).append(name).append("\n");
  for (const RemotePath& path : paths) {
    text.append(kPath).append(path.traddr).append(" ").append(path.trsvcid).append(" ");
    text.append(path.subnqn).append("\n");
  }
  return text;
}

void SharedNames::AddService(std::string name) { AddOnce(services, std::move(name)); }

void SharedNames::AddController(std::string name) { AddOnce(controllers, std::move(name)); }

void SharedNames::Add(const SharedNames& names) {
  for (const std::string& name : names.services) AddService(name);
  for (const std::string& name : names.controllers) AddController(name);
  paths.insert(names.paths.begin(), names.paths.end());
}

std::optional<std::string> SharedNames::Find(std::string_view key) const {
  for (const auto* list : {&services, &controllers}) {
    for (const std::string& name : *list) {
      if (KeyOf(name) == key) return name;
    }
  }
  return std::nullopt;
}

std::vector<std::string> SharedNames::All() const {
  std::vector<std::string> all = services;
  all.insert(all.end(), controllers.begin(), controllers.end());
  return all;
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace sma::volume
