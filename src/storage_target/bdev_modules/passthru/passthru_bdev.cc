// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/passthru/passthru_bdev.h"

#include <memory>
#include <new>
#include <utility>

#include "storage_target/bdev/pool.h"

namespace sma::storage_target::bdev_passthru {
namespace {

using bdev::BaseBdev;
using bdev::Bdev;
using bdev::Channel;
using bdev::Io;
using bdev::IoStatus;
using bdev::IoType;

constexpr char kModule[] = "passthru";
// SPDK's namespace UUID for the UUIDs of passthru bdevs.
constexpr char kUuidNameSpace[] = "7e25812e-c8c0-4d3f-8599-16d790555b85";

class PassthruChannel : public Channel {
 public:
  PassthruChannel(Bdev& bdev, Reactor& reactor, std::unique_ptr<Channel> base)
      : Channel(bdev, reactor), base_(std::move(base)) {}

 private:
  struct Child : Io {
    Io* parent;
  };

  void DoSubmit(Io& io) override {
    Child& child = children_.Take();
    child.parent = &io;
    child.type = io.type;
    child.fua = io.fua;
    child.deallocate = io.deallocate;
    child.lba = io.lba;
    child.block_count = io.block_count;
    child.iovs = io.iovs;
    child.iov_count = io.iov_count;
    child.done = [](Io& self, IoStatus status) {
      auto& done = static_cast<Child&>(self);
      auto& channel = static_cast<PassthruChannel&>(*done.parent->channel);
      channel.children_.Give(done);
      channel.Complete(*done.parent, status);
    };
    new (io.scratch.data()) Child*(&child);
    base_->Submit(child);
  }

  bool DoAbort(Io& io) override {
    return base_->Abort(**std::launder(reinterpret_cast<Child**>(io.scratch.data())));
  }

  std::byte* DoAccessInPlace(IoType type, uint64_t lba, uint64_t block_count) override {
    if (type == IoType::kWrite) return base_->WriteInPlace(lba, block_count);
    return const_cast<std::byte*>(base_->ReadInPlace(lba, block_count));
  }
  bool DoIsInPlace() const override { return base_->IsInPlace(); }
  void DoCopyOut(const std::byte* from, std::byte* to, size_t size_bytes) override {
    base_->CopyOut(from, to, size_bytes);
  }

  std::unique_ptr<Channel> base_;
  bdev::Pool<Child> children_;
};

class PassthruBdev : public Bdev {
 public:
  PassthruBdev(Info info, std::unique_ptr<BaseBdev> base)
      : Bdev(std::move(info)), base_(std::move(base)) {
    base_->SetOwner(*this);
  }

  std::string_view module() const override { return kModule; }
  bool Supports(IoType type) const override { return base_->bdev().Supports(type); }

  bdev::Object DriverSpecific() const override {
    return {{"passthru", bdev::Object{{"name", name()}, {"base_bdev_name", base_->bdev().name()}}}};
  }

  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override {
    calls.push_back({"bdev_passthru_create",
                     {{"base_bdev_name", base_->bdev().name()},
                      {"name", name()},
                      {"uuid", info().uuid.ToString()}}});
  }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<PassthruChannel>(*this, reactor,
                                             base_->descriptor().OpenChannel(reactor));
  }

 private:
  const std::unique_ptr<BaseBdev> base_;
};

}  // namespace

int PassthruModule::Create(const std::string& name, const std::string& base_name,
                           const base::Uuid& uuid) {
  return list_.Add(name, base_name,
                   [this, name, uuid](const std::string& base) { return Make(name, base, uuid); });
}

int PassthruModule::Make(const std::string& name, const std::string& base_name,
                         const base::Uuid& uuid) {
  auto base = BaseBdev::Claim(registry_, base_name, kModule);
  if (!base.ok()) return base.error();
  Bdev::Info info = (*base)->bdev().info();
  info.name = name;
  info.medium.clear();  // belongs to the base
  info.uuid = uuid.is_nil()
                  ? base::Uuid::FromName(*base::Uuid::Parse(kUuidNameSpace), info.uuid.ToBytes())
                  : uuid;
  info.product_name = "passthru";
  info.block_count = (*base)->bdev().block_count();
  info.native_fua = true;  // passed to the base
  return registry_.Register(std::make_unique<PassthruBdev>(std::move(info), std::move(*base)));
}

int PassthruModule::Delete(const std::string& name, std::function<void()> done) {
  list_.Remove(name);  // also removes a passthru bdev whose base does not exist
  return registry_.Unregister(name, kModule, std::move(done));
}

}  // namespace sma::storage_target::bdev_passthru
