// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/iscsi_module.h"

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "storage_target/bdev_modules/iscsi/iscsi_bdev.h"
#include "storage_target/bdev_modules/iscsi/lun_probe.h"

namespace sma::storage_target::bdev_iscsi {

/// The creation of a bdev, until it is registered or has failed.
class IscsiModule::Creation : private Session::Observer {
 public:
  Creation(IscsiModule& module, std::string name, const Session::Options& options, CreateDone done)
      : module_(module),
        name_(std::move(name)),
        options_(options),
        done_(std::move(done)),
        session_(Session::Start(module.registry_.control(), options_, *this)),
        probe_(*session_, [this](const std::optional<LunInfo>& info) { OnProbed(info); }) {}

  ~Creation() override { session_->Close(); }

 private:
  void OnUnitAttention(uint16_t /*asc_ascq*/) override {}
  void OnUnreachable(const std::string& /*reason*/) override { session_->AbortAll(); }

  void OnProbed(const std::optional<LunInfo>& info) {
    if (std::exchange(ended_, true)) return;
    // End is posted, because it must not run within a call from the session.
    module_.registry_.control().Post([this, info] { End(info); });
  }

  void End(const std::optional<LunInfo>& info) {
    CreateDone done = std::move(done_);
    base::ErrnoOr<std::string> result = info ? Register(*info) : Error(EIO);
    module_.EndCreation(*this);
    done(std::move(result));
  }

  base::ErrnoOr<std::string> Register(const LunInfo& info) {
    options_.identity = info.identity;
    bdev::Registry& registry = module_.registry_;
    int error = registry.Register(std::make_unique<IscsiBdev>(registry, name_, options_, info));
    // The UUID is derived from the unit's identity.
    bool unit_is_taken = error == EEXIST && registry.Find(name_) == nullptr;
    if (error != 0) return Error(unit_is_taken ? EBUSY : error);
    return name_;
  }

  static base::ErrnoOr<std::string> Error(int error) {
    return base::ErrnoOr<std::string>::Error(error);
  }

  IscsiModule& module_;
  const std::string name_;
  Session::Options options_;
  CreateDone done_;
  bool ended_ = false;
  const std::shared_ptr<Session> session_;
  LunProbe probe_;
};

IscsiModule::IscsiModule(bdev::Registry& registry) : registry_(registry) {
  registry_.AddObserver(this);
  registry_.AddConfigSource([this](std::vector<bdev::ConfigCall>& calls) { SaveConfig(calls); });
}

IscsiModule::~IscsiModule() { registry_.RemoveObserver(this); }

void IscsiModule::Create(const CreateOptions& options, CreateDone done) {
  using Result = base::ErrnoOr<std::string>;
  std::optional<LunUrl> url = LunUrl::Parse(options.url);
  if (!url || options.name.empty() || options.initiator_iqn.empty()) {
    return done(Result::Error(EINVAL));
  }
  if (registry_.Find(options.name) != nullptr) return done(Result::Error(EEXIST));
  Session::Options session{
      .connection = {.lun = std::move(*url), .initiator_iqn = options.initiator_iqn},
      .command_timeout = options_.timeout};
  creations_.push_back(std::make_unique<Creation>(*this, options.name, session, std::move(done)));
}

void IscsiModule::EndCreation(const Creation& creation) {
  creations_.remove_if([&](const auto& entry) { return entry.get() == &creation; });
}

int IscsiModule::Delete(const std::string& name, std::function<void()> done) {
  return registry_.Unregister(name, kIscsiModule, std::move(done));
}

void IscsiModule::OnBdevUnregistered(bdev::Bdev& bdev) {
  if (bdev.module() == kIscsiModule) static_cast<IscsiBdev&>(bdev).EndIo();
}

void IscsiModule::SaveConfig(std::vector<bdev::ConfigCall>& calls) const {
  if (options_.timeout == ModuleOptions{}.timeout) return;
  calls.push_back({"bdev_iscsi_set_options",
                   {{"timeout_sec", static_cast<uint64_t>(options_.timeout.count())}}});
}

}  // namespace sma::storage_target::bdev_iscsi
