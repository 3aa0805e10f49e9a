// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/catalog.h"

#include <fmt/format.h>

namespace sma::plugin {
namespace {

std::string_view Where(const Origin& origin) {
  return origin.kind == Kind::kBuiltIn ? "the agent itself" : std::string_view(origin.source);
}

template <typename Factory>
const Catalog::Entry<Factory>* Find(const std::vector<Catalog::Entry<Factory>>& entries,
                                    std::string_view name) {
  for (const Catalog::Entry<Factory>& entry : entries) {
    if (entry.factory.name == name) return &entry;
  }
  return nullptr;
}

template <typename Factory>
absl::Status Add(std::vector<Catalog::Entry<Factory>>& entries, std::string_view what,
                 Factory factory, const Origin& origin) {
  if (factory.name.empty() || !factory.make) {
    return absl::InvalidArgumentError(fmt::format("a {} has no name or no factory function", what));
  }
  if (const Catalog::Entry<Factory>* other = Find(entries, factory.name)) {
    return absl::AlreadyExistsError(
        fmt::format("{} '{}' is already defined by {}", what, factory.name, Where(other->origin)));
  }
  entries.push_back({std::move(factory), origin});
  return absl::OkStatus();
}

template <typename Factory>
std::string Names(const std::vector<Catalog::Entry<Factory>>& entries) {
  std::string names;
  for (const Catalog::Entry<Factory>& entry : entries) {
    names += (names.empty() ? "" : ", ") + entry.factory.name;
  }
  return names;
}

}  // namespace

absl::Status Catalog::AddDeviceType(DeviceFactory factory) {
  return Add(device_types_, "device type", std::move(factory), origin_);
}

absl::Status Catalog::AddCryptoEngine(CryptoEngineFactory factory) {
  return Add(crypto_engines_, "crypto engine", std::move(factory), origin_);
}

const DeviceFactory* Catalog::FindDeviceType(std::string_view name) const {
  const auto* entry = Find(device_types_, name);
  return entry == nullptr ? nullptr : &entry->factory;
}

const CryptoEngineFactory* Catalog::FindCryptoEngine(std::string_view name) const {
  const auto* entry = Find(crypto_engines_, name);
  return entry == nullptr ? nullptr : &entry->factory;
}

std::string Catalog::DeviceNames() const { return Names(device_types_); }

std::string Catalog::CryptoEngineNames() const { return Names(crypto_engines_); }

}  // namespace sma::plugin
