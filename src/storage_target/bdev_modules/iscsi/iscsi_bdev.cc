// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/iscsi_bdev.h"

#include <cstring>
#include <utility>

#include "base/log.h"
#include "storage_target/bdev_modules/iscsi/iscsi_channel.h"

namespace sma::storage_target::bdev_iscsi {

using bdev::IoType;

bdev::Bdev::Info IscsiBdev::MakeInfo(std::string name, const LunUrl& url, const LunInfo& info) {
  return {.name = std::move(name),
          .uuid = info.MakeUuid(url.target, url.lun),
          .product_name = "iSCSI LUN",
          .block_size = info.capacity.block_size,
          .block_count = info.capacity.block_count,
          .write_cache = true,
          .read_only = info.write_protected,
          .unmap_reads_zero = info.provisioning.unmap_reads_zero,
          .medium = info.MakeMedium(url.target, url.lun),
          .max_unmap_blocks = info.limits.max_unmap,
          .optimal_write_size = info.limits.optimal_transfer,
          .unmap_granularity = info.limits.optimal_unmap};
}

IscsiBdev::IscsiBdev(bdev::Registry& registry, std::string name, const Session::Options& session,
                     const LunInfo& info)
    : Bdev(MakeInfo(std::move(name), session.connection.lun, info)),
      registry_(registry),
      session_(session),
      lun_(info),
      watch_(LunWatch::Start(
          registry.control(), session,
          {.on_capacity = [this](const Capacity& capacity) { OnCapacity(capacity); },
           .on_may_be_replaced = [this] { VerifySessions(); }})) {}

IscsiBdev::~IscsiBdev() { watch_->Stop(); }

bool IscsiBdev::Supports(IoType type) const {
  switch (type) {
    case IoType::kRead:
    case IoType::kWrite:
    case IoType::kFlush:
      return true;
    case IoType::kUnmap:
      return lun_.capacity.provisioned_thinly && lun_.provisioning.unmap;
    case IoType::kWriteZeroes:
      return lun_.limits.max_write_same != 0;
    case IoType::kCompare:
      break;
  }
  return false;
}

bdev::Object IscsiBdev::DriverSpecific() const {
  bdev::Object iscsi = {{"initiator_name", session_.connection.initiator_iqn},
                        {"url", session_.connection.lun.ToString()}};
  return {{"iscsi", std::move(iscsi)}};
}

void IscsiBdev::SaveConfig(std::vector<bdev::ConfigCall>& calls) const {
  const Connection::Options& connection = session_.connection;
  if (connection.lun.initiator_chap) return;
  bdev::Object params = {{"name", name()},
                         {"url", connection.lun.ToString()},
                         {"initiator_iqn", connection.initiator_iqn}};
  calls.push_back({"bdev_iscsi_create", std::move(params)});
}

void IscsiBdev::OnCapacity(const Capacity& capacity) {
  if (capacity.block_size != block_size()) {
    spdlog::error("{}: ignored a change of the block size to {} bytes", name(),
                  capacity.block_size);
    return;
  }
  if (capacity.block_count == block_count()) return;
  int error = registry_.Resize(*this, capacity.block_count);
  if (error != 0) {
    spdlog::warn("{}: cannot change the size to {} blocks: {}", name(), capacity.block_count,
                 strerror(error));
  }
}

void IscsiBdev::VerifySessions() {
  watch_->VerifySoon();
  base::MutexLock lock(mutex_);
  for (const auto& [reactor, session] : sessions_) {
    reactor->Post([session = session] { session->RequestVerification(); });
  }
}

void IscsiBdev::EndIo() {
  base::MutexLock lock(mutex_);
  for (const auto& [reactor, session] : sessions_) {
    reactor->Post([session = session] { session->Close(); });
  }
}

void IscsiBdev::AddSession(Reactor& reactor, std::shared_ptr<Session> session) {
  base::MutexLock lock(mutex_);
  sessions_.emplace_back(&reactor, std::move(session));
}

void IscsiBdev::RemoveSession(const Session& session) {
  base::MutexLock lock(mutex_);
  std::erase_if(sessions_, [&](const auto& entry) { return entry.second.get() == &session; });
}

std::unique_ptr<bdev::Channel> IscsiBdev::MakeChannel(Reactor& reactor) {
  return std::make_unique<IscsiChannel>(*this, reactor);
}

}  // namespace sma::storage_target::bdev_iscsi
