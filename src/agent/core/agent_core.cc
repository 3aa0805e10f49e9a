// SPDX-License-Identifier: Apache-2.0

#include "agent/core/agent_core.h"

#include <utility>

#include "agent/core/admin_cases.h"
#include "agent/core/agent_cases.h"
#include "agent/core/reconciler.h"
#include "agent/core/volume_watch.h"
#include "agent/crypto/nop_engine.h"

namespace sma::core {

absl::StatusOr<std::unique_ptr<AgentCore>> AgentCore::Open(
    Options options, jsonrpc::Caller& target, std::unique_ptr<record::Store> store,
    std::vector<std::unique_ptr<DeviceManager>> managers,
    std::function<void(bool serving)> serving_changed, std::unique_ptr<CryptoEngine> engine,
    std::optional<base::Secret> sealing_key) {
  if (engine == nullptr) engine = std::make_unique<crypto::NopEngine>();
  absl::StatusOr<std::unique_ptr<record::Record>> record = record::Record::Open(std::move(store));
  if (!record.ok()) return record.status();
  std::unique_ptr<Core> core(new Core{.options = std::move(options),
                                      .target = target,
                                      .record = *std::move(record),
                                      .registry = {},
                                      .locks = {},
                                      .unset_limits = {},
                                      .volumes = nullptr,
                                      .gone_volumes = nullptr,
                                      .publish_volume = {},
                                      .publish_target = {},
                                      .wake_background = {},
                                      .target_status = {}});
  core->options.volumes.late_action_time = core->options.late_action_time;
  core->volumes = std::make_unique<volume::Volumes>(core->options.volumes, target, *core->record,
                                                    std::move(engine), std::move(sealing_key));
  core->gone_volumes = std::make_unique<volume::GoneVolumes>(core->options.volume_cleanup_period);
  for (auto& manager : managers) {
    absl::Status added = core->registry.Add(std::move(manager));
    if (!added.ok()) return added;
  }
  return std::unique_ptr<AgentCore>(new AgentCore(std::move(core), std::move(serving_changed)));
}

AgentCore::AgentCore(std::unique_ptr<Core> core, std::function<void(bool)> serving_changed)
    : core_(std::move(core)),
      reconciler_(std::make_unique<Reconciler>(
          *core_,
          [this, told = std::move(serving_changed)](bool serving, bool target) {
            volume_watch_->SetServing(target);
            if (told) told(serving);
            core_->publish_target();
          })),
      agent_cases_(std::make_unique<AgentCases>(*core_)),
      admin_cases_(std::make_unique<AdminCases>(*core_, *reconciler_)),
      volume_watch_(std::make_unique<VolumeWatch>(*core_)) {
  core_->wake_background = [this](const std::string& handle) { reconciler_->Wake(handle); };
  core_->publish_volume = [this](const base::Uuid& volume) { admin_cases_->PublishVolume(volume); };
  core_->publish_target = [this] { admin_cases_->PublishTarget(); };
  core_->target_status = [this] { return reconciler_->TargetStatus(); };
  core_->volumes->SetOnConnected(
      [this](const std::vector<base::Uuid>& volumes) { volume_watch_->OnConnected(volumes); });
}

AgentCore::~AgentCore() { Stop(); }

void AgentCore::Start() {
  if (core_->target.generation() != 0) reconciler_->OnConnect();
  reconciler_->Start();
  volume_watch_->Start();
}

void AgentCore::Stop() {
  core_->volumes->Stop();
  volume_watch_->Stop();
  reconciler_->Stop();
}

void AgentCore::OnConnect(uint64_t /*generation*/) { reconciler_->OnConnect(); }

void AgentCore::OnDisconnect(uint64_t /*generation*/, const absl::Status& reason) {
  reconciler_->OnDisconnect(reason);
}

void AgentCore::OnConnectFailed(const absl::Status& reason) {
  reconciler_->OnConnectFailed(reason);
}

std::optional<volume::PathCount> AgentCore::PathsOf(const base::Uuid& volume) const {
  return core_->volumes->PathsOf(volume);
}

ConditionCounts AgentCore::CountConditions() const {
  return core::CountConditions(*core_, *reconciler_);
}

api::Agent& AgentCore::agent() { return *agent_cases_; }

api::Admin& AgentCore::admin() { return *admin_cases_; }

}  // namespace sma::core
