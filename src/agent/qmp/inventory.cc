// SPDX-License-Identifier: Apache-2.0

// Queries which devices a VM has, and where they lead.

#include "agent/qmp/inventory.h"

#include <fmt/format.h>

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

namespace sma::qmp {
namespace {

constexpr char kChardevsPath[] = "/chardevs";
constexpr std::string_view kNoUuid = "00000000-0000-0000-0000-000000000000";
// What QEMU says of a character device that is a client of a Unix socket. The path follows only
// while it is not connected.
constexpr std::string_view kDisconnected = "disconnected:unix:";
constexpr std::string_view kConnected = "unix:";

void AddPciDevices(const Json& devices, Inventory& inventory) {
  if (!devices.is_array()) return;
  for (const Json& device : devices) {
    if (std::string id = TextMember(device, "qdev_id"); !id.empty()) inventory.devices[id];
    if (!device.is_object() || !device.contains("pci_bridge")) continue;
    const Json& bridge = device["pci_bridge"];
    if (bridge.is_object() && bridge.contains("devices")) {
      AddPciDevices(bridge["devices"], inventory);
    }
  }
}

// Adds the children of QEMU's container; their type is "child<DRIVER>".
void AddObjects(const Json& objects, Inventory& inventory) {
  if (!objects.is_array()) return;
  constexpr std::string_view kChild = "child<";
  for (const Json& object : objects) {
    const std::string name = TextMember(object, "name");
    const std::string type = TextMember(object, "type");
    if (name.empty() || name == "type") continue;  // "type": of the container itself
    PluggedDevice& device = inventory.devices[name];
    if (type.starts_with(kChild) && type.ends_with('>')) {
      device.driver = type.substr(kChild.size(), type.size() - kChild.size() - 1);
    }
  }
}

Command GetProperty(std::string path, const char* property) {
  return {"qom-get", {{"path", std::move(path)}, {"property", property}}};
}

/// A second query, for what the first one does not show.
struct Question {
  Command command;
  std::function<void(const Json& answer)> use;
};

// The socket of a character device that is connected, and the character device of each device with
// the same id.
std::vector<Question> QuestionsAbout(const Json& chardevs, Inventory& inventory) {
  std::vector<Question> questions;
  if (!chardevs.is_array()) return questions;
  for (const Json& chardev : chardevs) {
    const std::string id = TextMember(chardev, "label");
    const std::string where = TextMember(chardev, "filename");
    std::string& path = inventory.chardevs[id];
    if (where.starts_with(kDisconnected)) path = where.substr(kDisconnected.size());
    if (where.starts_with(kConnected)) {
      questions.push_back({GetProperty(fmt::format("{}/{}", kChardevsPath, id), "addr"),
                           [&path](const Json& answer) { path = TextMember(answer, "path"); }});
    }
    if (auto device = inventory.devices.find(id); device != inventory.devices.end()) {
      questions.push_back({GetProperty(fmt::format("{}/{}", kDevicesPath, id), "chardev"),
                           [&it = device->second](const Json& answer) {
                             if (answer.is_string()) it.chardev = answer.get<std::string>();
                           }});
    }
  }
  return questions;
}

absl::Status Ask(Client& client, const base::Context& context, std::vector<Question> questions) {
  if (questions.empty()) return absl::OkStatus();
  std::vector<Command> commands;
  for (Question& question : questions) commands.push_back(std::move(question.command));
  const auto results = client.ExecuteMany(context, commands);
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) {
      questions[i].use(*results[i]);
    } else if (!GetError(results[i].status())) {  // an error says that it has no such property
      return results[i].status();
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string VmUuidOf(const absl::StatusOr<Json>& answer) {
  if (!answer.ok()) return {};
  std::string uuid = TextMember(*answer, "UUID");
  return uuid == kNoUuid ? std::string() : uuid;
}

absl::StatusOr<Inventory> GetInventory(Client& client, const base::Context& context) {
  // The first query omits devices that are not PCI devices, the second one devices behind a bridge
  // that the guest's firmware has not numbered yet.
  const std::vector<Command> commands{{"query-pci", nullptr},
                                      {"qom-list", {{"path", kDevicesPath}}},
                                      {"query-chardev", nullptr},
                                      {"query-uuid", nullptr}};
  const auto results = client.ExecuteMany(context, commands);
  for (const auto& result : results) {
    if (!result.ok() && !absl::IsUnimplemented(result.status())) return result.status();
  }
  Inventory inventory;
  if (results[0].ok() && results[0]->is_array()) {
    for (const Json& bus : *results[0]) {
      if (bus.is_object() && bus.contains("devices")) AddPciDevices(bus["devices"], inventory);
    }
  }
  if (results[1].ok()) AddObjects(*results[1], inventory);
  inventory.vm_uuid = VmUuidOf(results[3]);
  if (!results[2].ok()) return inventory;
  absl::Status status = Ask(client, context, QuestionsAbout(*results[2], inventory));
  if (!status.ok()) return status;
  return inventory;
}

Presence FindDevice(const Inventory& inventory, const PciDevice& device) {
  auto found = inventory.devices.find(device.id);
  if (found == inventory.devices.end()) return Presence::kAbsent;
  const PluggedDevice& there = found->second;
  if (!there.driver.empty() && there.driver != device.driver) return Presence::kOther;
  if (device.chardev_path.empty()) {
    const bool may_be_same =
        device.vm_uuid.empty() || inventory.vm_uuid.empty() || device.vm_uuid == inventory.vm_uuid;
    return may_be_same ? Presence::kSame : Presence::kOther;
  }
  if (!there.chardev.empty() && there.chardev != device.id) return Presence::kOther;
  return HasChardevOf(inventory, device) ? Presence::kSame : Presence::kOther;
}

bool HasChardevOf(const Inventory& inventory, const PciDevice& device) {
  if (device.chardev_path.empty()) return false;
  auto found = inventory.chardevs.find(device.id);
  return found != inventory.chardevs.end() && found->second == device.chardev_path;
}

}  // namespace sma::qmp
