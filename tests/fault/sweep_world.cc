// SPDX-License-Identifier: Apache-2.0

// The environment of a sweep: remote systems with volumes, the operator's objects, and a listing of
// all objects.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "fault/sweep_fixture.h"

namespace sma::core {

using jsonrpc::Json;

namespace {

// Numbers of bdevs that only the operator uses.
constexpr int kOfNamespace = 99;
constexpr int kOfDiscovery = 98;
constexpr int kOfController = 97;
constexpr int kUnderCrypto = 96;
constexpr int kOfVhost = 95;

constexpr char kNqn[] = "nqn.2016-06.io.spdk:operators";
constexpr char kUnitUrl[] = "iscsi://127.0.0.1:3260/iqn.2024-01.com.example:disks/{}";

Json Address(const char* port) {
  return {{"trtype", "TCP"}, {"adrfam", "IPv4"}, {"traddr", "127.0.0.1"}, {"trsvcid", port}};
}

// A hash that is sufficient to compare messages.
size_t Digest(const google::protobuf::Message& message) {
  return std::hash<std::string>()(message.SerializeAsString());
}

Json With(Json json, const Json& more) {
  json.update(more);
  return json;
}

}  // namespace

// Volumes 1 and 2 are in one subsystem. The operator's remote system has other volumes.
void SweepFixture::MakeRemotes() {
  target_.SetRemote(
      "a", {.ports = {"8009", "4430", "4431"},
            .subsystems = {{"nqn.2016-06.io.spdk:remote0", {VolumeUuid(1), VolumeUuid(2)}}}});
  target_.SetRemote(
      "operators",
      {.ports = {"8010"},
       .subsystems = {{"nqn.2016-06.io.spdk:operators-remote", {VolumeUuid(kOfDiscovery)}}}});
  target_.SetRemote(
      "operators-other",
      {.ports = {"4440"},
       .subsystems = {{"nqn.2016-06.io.spdk:operators-other", {VolumeUuid(kOfController)}}}});
  for (int lun : {1, 2, 9}) target_.AddIscsiUnit(fmt::format(kUnitUrl, lun));
}

void SweepFixture::MakeOperatorsThings() {
  for (int volume : {kOfNamespace, kUnderCrypto, kOfVhost}) target_.AddBdev(VolumeUuid(volume));
  const Group group = GetParam();
  const bool are_local = group == Group::kLocal || group == Group::kEncrypted || has_machine();
  for (int volume : {1, 2}) {
    if (are_local) target_.AddBdev(VolumeUuid(volume));
  }
  // After a restart of the target, the agent may have created the transport first.
  auto transport = target_.Operator("nvmf_create_transport", {{"trtype", "TCP"}});
  if (!transport.ok()) {
    EXPECT_NE(transport.status().message().find("already exists"), std::string_view::npos);
  }
  Operator("nvmf_create_subsystem", {{"nqn", kNqn}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", kNqn},
            {"namespace", {{"bdev_name", "null-" + VolumeUuid(kOfNamespace)}, {"nsid", 7}}}});
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", "nqn.2016-06.io.spdk:operator"}});
  Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4499")}});
  Operator("bdev_nvme_start_discovery", With(Address("8010"), {{"name", "operators-service"}}));
  Operator("bdev_nvme_attach_controller",
           With(Address("4440"), {{"name", "operators-controller"},
                                  {"subnqn", "nqn.2016-06.io.spdk:operators-other"}}));
  Operator("bdev_iscsi_create", {{"name", "operators-unit"},
                                 {"url", fmt::format(kUnitUrl, 9)},
                                 {"initiator_iqn", "iqn.2024-01.com.example:operators"}});
  Operator("bdev_crypto_create", {{"name", "operators-crypto"},
                                  {"base_bdev_name", "null-" + VolumeUuid(kUnderCrypto)},
                                  {"cipher", "AES_XTS"},
                                  {"key", "00000000000000000000000000000001"},
                                  {"key2", "00000000000000000000000000000002"}});
  Operator("vhost_create_blk_controller",
           {{"ctrlr", "operators-vhost"}, {"dev_name", "null-" + VolumeUuid(kOfVhost)}});
  Operator("bdev_set_qos_limit", {{"name", "operators-unit"}, {"rw_ios_per_sec", 77000}});
}

SweepFixture::State SweepFixture::Now() {
  State state = target_.Inventory();
  // A call succeeds with one of two paths; the other is retried later.
  const State without = state;
  for (std::string line : without) {
    const bool is_path = line.starts_with("path sma_nqn.2016-06.io.spdk:remote0");
    if (!is_path || !(line.ends_with("4430") || line.ends_with("4431"))) continue;
    line.back() = line.back() == '0' ? '1' : '0';
    state.insert(line);
  }
  if (qemu_) {
    for (const auto& [id, add] : qemu_->devices()) {
      state.insert(fmt::format("machine's device {} {}", id, add.dump()));
    }
    for (const auto& [id, add] : qemu_->chardevs()) state.insert("machine's chardev " + id);
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.is_directory()) state.insert("folder " + entry.path().filename().string());
    }
  }
  if (core_) AddRecordTo(state);
  return state;
}

bool SweepFixture::HasRemovals() const {
  const std::vector<record::Device> devices = core_->record().Devices();
  const std::vector<record::Volume> volumes = core_->record().Volumes();
  return std::any_of(devices.begin(), devices.end(),
                     [](const auto& row) { return row.state == record::DeviceState::kDeleting; }) ||
         std::any_of(volumes.begin(), volumes.end(),
                     [](const auto& row) { return row.state == record::VolumeState::kDetaching; });
}

// Lists the record's rows by the state of their objects, so that every difference is visible.
void SweepFixture::AddRecordTo(State& state) const {
  const record::Record& record = core_->record();
  for (const record::Device& row : record.Devices()) {
    state.insert(fmt::format("record: device {} {:x} {}", row.handle, Digest(row.params),
                             static_cast<int>(row.state)));
  }
  for (const record::Volume& row : record.Volumes()) {
    state.insert(fmt::format("record: volume {} {} {:x} {} {} {} {} {}", row.id.ToString(),
                             row.device_handle, Digest(row.params),
                             row.sealed.empty() ? "" : "sealed", row.bdev_name, row.attachment,
                             row.connection, static_cast<int>(row.state)));
  }
  for (int volume : {1, 2}) {
    auto limits = record.FindLimits(*base::Uuid::Parse(VolumeUuid(volume)));
    if (limits && limits->rw_iops() != 0 && limits->rw_iops() != UINT64_MAX) {
      state.insert(fmt::format("record: limit {} {}", volume, limits->rw_iops()));
    }
  }
}

}  // namespace sma::core
