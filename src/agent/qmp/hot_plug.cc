#include "agent/qmp/hot_plug.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>
#include <utility>
#include <vector>

#include "jsonrpc/error.h"

namespace sma::qmp {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// Where QEMU keeps the devices that have an id.
constexpr char kDevices[] = "/machine/peripheral";
constexpr char kDeleted[] = "DEVICE_DELETED";
constexpr char kGuestError[] = "DEVICE_UNPLUG_GUEST_ERROR";

// A guest that is not up yet misses the request.
constexpr seconds kUnplugRepeatPeriod{2};
// A character device stays in use for a moment after its device is gone.
constexpr milliseconds kChardevRetryPeriod{20};
constexpr seconds kChardevBusyTime{2};
// For undoing what a call did, independent of its context.
constexpr seconds kUndoTime{5};
constexpr int kReconnectSeconds = 1;

void AddPciIds(const Json& devices, std::set<std::string>& ids) {
  if (!devices.is_array()) return;
  for (const Json& device : devices) {
    if (std::string id = TextMember(device, "qdev_id"); !id.empty()) ids.insert(std::move(id));
    if (!device.is_object() || !device.contains("pci_bridge")) continue;
    const Json& bridge = device["pci_bridge"];
    if (bridge.is_object() && bridge.contains("devices")) AddPciIds(bridge["devices"], ids);
  }
}

void AddTexts(const Json& list, const char* name, std::set<std::string>& texts) {
  if (!list.is_array()) return;
  for (const Json& entry : list) {
    if (std::string text = TextMember(entry, name); !text.empty()) texts.insert(std::move(text));
  }
}

Command ChardevAdd(const PciDevice& device, const Greeting& greeting) {
  Json data{{"addr", {{"type", "unix"}, {"data", {{"path", device.chardev_path}}}}},
            {"server", false}};
  // "reconnect" gave way to "reconnect-ms" in QEMU 9.2.
  const bool in_milliseconds =
      std::pair(greeting.major_version, greeting.minor_version) >= std::pair(9, 2);
  if (in_milliseconds) {
    data["reconnect-ms"] = kReconnectSeconds * 1000;
  } else {
    data["reconnect"] = kReconnectSeconds;
  }
  return {"chardev-add",
          {{"id", device.id}, {"backend", {{"type", "socket"}, {"data", std::move(data)}}}}};
}

Command DeviceAdd(const PciDevice& device) {
  Json arguments = device.properties;
  arguments["driver"] = device.driver;
  arguments["id"] = device.id;
  arguments["bus"] = device.bus;
  arguments["addr"] = fmt::format("{:#x}", device.slot);
  if (!device.chardev_path.empty()) arguments["chardev"] = device.id;
  return {"device_add", std::move(arguments)};
}

Command ChardevRemove(const std::string& id) { return {"chardev-remove", {{"id", id}}}; }

bool IsAnswer(const absl::Status& status) { return GetError(status).has_value(); }

// Refusals of device_del that pass by themselves: the guest was asked already, or it has not yet
// powered on the slot of a PCIe port (native hot-plug, QEMU's hw/pci/pcie.c).
bool PassesByItself(const absl::Status& status) {
  std::optional<Error> error = GetError(status);
  if (!error) return false;
  const auto says = [&error](const char* words) {
    return error->description.find(words) != std::string::npos;
  };
  return says("process of unplug") || says("guest is busy") || says("power indicator blinking");
}

// OK when it is gone.
absl::Status RemoveChardev(Client& client, const Context& context, const std::string& id) {
  const auto until = steady_clock::now() + kChardevBusyTime;
  while (true) {
    const std::vector<Command> commands{ChardevRemove(id), {"query-chardev", nullptr}};
    const auto results = client.ExecuteMany(context, commands);
    if (results[0].ok()) return absl::OkStatus();
    if (!IsAnswer(results[0].status())) return results[0].status();
    if (!results[1].ok()) return results[1].status();
    std::set<std::string> chardevs;
    AddTexts(*results[1], "label", chardevs);
    if (!chardevs.contains(id)) return absl::OkStatus();
    if (steady_clock::now() >= until) return results[0].status();
    absl::Status ended = context.SleepUntil(steady_clock::now() + kChardevRetryPeriod);
    if (!ended.ok()) return ended;
  }
}

absl::Status NotReleased(const std::string& id, const absl::Status& ended) {
  return absl::Status(ended.code(), fmt::format("the guest has not released device {} yet", id));
}

// Waits for the guest's answer to an unplug request until `context` ends: true when the device is
// gone, false when it is worth asking again.
absl::StatusOr<bool> AwaitRelease(Client::EventWatch& watch, const Context& context,
                                  const std::string& id) {
  while (true) {
    absl::StatusOr<Event> event = watch.Next(context);
    if (absl::IsCancelled(event.status())) return event.status();
    if (!event.ok()) return false;
    if (TextMember(event->data, "device") != id) continue;
    if (event->name == kDeleted) return true;
    return absl::FailedPreconditionError(fmt::format("the guest does not release device {}", id));
  }
}

absl::Status UnplugDevice(Client& client, const Context& context, const std::string& id) {
  while (true) {
    if (absl::Status ended = context.status(); !ended.ok()) return NotReleased(id, ended);
    Client::EventWatch watch(client, {kDeleted, kGuestError});
    const absl::Status status = client.Execute(context, {"device_del", {{"id", id}}}).status();
    if (absl::IsNotFound(status)) return absl::OkStatus();
    if (absl::IsDeadlineExceeded(status)) return NotReleased(id, status);
    if (!status.ok() && !PassesByItself(status)) return status;
    absl::StatusOr<bool> gone =
        AwaitRelease(watch, context.Child(steady_clock::now() + kUnplugRepeatPeriod), id);
    if (!gone.ok()) return gone.status();
    if (*gone) return absl::OkStatus();
  }
}

// Looks what became of a device that was not added as it should have been. OK: it is there.
absl::Status UndoPlug(Client& client, const PciDevice& device, bool chardev_added,
                      absl::Status why) {
  const Context context = Context::WithTimeout(kUndoTime);
  absl::StatusOr<Inventory> inventory = TakeInventory(client, context);
  if (!inventory.ok()) return jsonrpc::WithFateUnknown(std::move(why));
  const bool refused = IsAnswer(why);
  if (inventory->devices.contains(device.id)) {
    return refused ? absl::OkStatus() : jsonrpc::WithFateUnknown(std::move(why));
  }
  if (chardev_added || !refused) {
    absl::Status removed = RemoveChardev(client, context, device.id);
    if (!removed.ok()) return jsonrpc::WithFateUnknown(std::move(why));
  }
  return absl::Status(why.code(), why.message());
}

}  // namespace

absl::StatusOr<Inventory> TakeInventory(Client& client, const Context& context) {
  // The first leaves out what is not PCI's, the second what stands behind a bridge that the
  // guest's firmware has not numbered yet.
  const std::vector<Command> commands{
      {"query-pci", nullptr}, {"qom-list", {{"path", kDevices}}}, {"query-chardev", nullptr}};
  const auto results = client.ExecuteMany(context, commands);
  for (const auto& result : results) {
    if (!result.ok() && !absl::IsUnimplemented(result.status())) return result.status();
  }
  Inventory inventory;
  if (results[0].ok() && results[0]->is_array()) {
    for (const Json& bus : *results[0]) {
      if (bus.is_object() && bus.contains("devices")) AddPciIds(bus["devices"], inventory.devices);
    }
  }
  if (results[1].ok()) AddTexts(*results[1], "name", inventory.devices);
  inventory.devices.erase("type");  // a property of the container itself
  if (results[2].ok()) AddTexts(*results[2], "label", inventory.chardevs);
  return inventory;
}

absl::StatusOr<std::set<std::string>> ListParts(Client& client, const Context& context,
                                                const std::string& id) {
  absl::StatusOr<Json> list =
      client.Execute(context, {"qom-list", {{"path", fmt::format("{}/{}", kDevices, id)}}});
  if (!list.ok()) return list.status();
  std::set<std::string> parts;
  AddTexts(*list, "name", parts);
  return parts;
}

absl::Status Plug(Client& client, const Context& context, const PciDevice& device) {
  absl::StatusOr<Greeting> greeting = client.WaitConnected(context);
  if (!greeting.ok()) return greeting.status();
  std::vector<Command> commands;
  const bool with_chardev = !device.chardev_path.empty();
  if (with_chardev) commands.push_back(ChardevAdd(device, *greeting));
  commands.push_back(DeviceAdd(device));
  const auto results = client.ExecuteMany(context, commands);
  // A character device that was there already serves as well.
  if (results.back().ok()) return absl::OkStatus();
  const bool chardev_added = with_chardev && results.front().ok();
  absl::Status why = results.back().status();
  if (!IsAnswer(why) && !jsonrpc::IsFateUnknown(why)) return why;
  return UndoPlug(client, device, chardev_added, std::move(why));
}

absl::Status Unplug(Client& client, const Context& context, const std::string& id) {
  absl::Status status = UnplugDevice(client, context, id);
  return status.ok() ? RemoveChardev(client, context, id) : status;
}

}  // namespace sma::qmp
