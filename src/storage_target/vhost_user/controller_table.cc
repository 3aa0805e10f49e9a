// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/controller_table.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

namespace sma::storage_target::vhost_user {
namespace {

// Returns true for a valid name. The name is used as a file name, in logs and in replies, so it
// must not contain slashes or control characters. It need not be UTF-8.
bool IsControllerName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         std::ranges::none_of(name,
                              [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
}

}  // namespace

int CoreOf(const Reactor& reactor) {
  const Reactor::Options& options = reactor.options();
  return options.cpu >= 0 ? options.cpu : options.index;
}

ControllerTable::ControllerTable(bdev::Registry& registry, std::vector<Reactor*> reactors,
                                 std::string socket_folder)
    : registry_(registry),
      reactors_(std::move(reactors)),
      socket_folder_(std::move(socket_folder)) {
  assert(!reactors_.empty());
  registry_.AddObserver(this);
}

ControllerTable::~ControllerTable() { registry_.RemoveObserver(this); }

int ControllerTable::Create(const Params& params) {
  if (!IsControllerName(params.name)) return EINVAL;
  if (Find(params.name) != nullptr) return EEXIST;
  std::vector<Reactor*> reactors;
  std::ranges::copy_if(reactors_, std::back_inserter(reactors), [&](const Reactor* reactor) {
    return !params.cores || std::ranges::count(*params.cores, CoreOf(*reactor)) > 0;
  });
  if (reactors.empty()) return EINVAL;
  // Each controller starts with a different reactor, so that controllers with one vring are also
  // distributed.
  std::rotate(reactors.begin(),
              reactors.begin() + static_cast<ptrdiff_t>(next_reactor_ % reactors.size()),
              reactors.end());
  auto controller =
      Controller::Create(registry_, {.name = params.name,
                                     .bdev_name = params.bdev_name,
                                     .socket_path = socket_folder_ + "/" + params.name,
                                     .read_only = params.read_only,
                                     .packed_ring = params.packed_ring,
                                     .reactors = std::move(reactors)});
  if (!controller.ok()) return controller.error();
  numbers_.emplace(params.name, ++last_number_);
  controllers_.emplace(last_number_, *std::move(controller));
  ++next_reactor_;
  return 0;
}

int ControllerTable::Delete(std::string_view name) {
  auto number = numbers_.find(name);
  if (number == numbers_.end()) return ENODEV;
  auto controller = controllers_.find(number->second);
  if (!controller->second->sessions().empty()) return EBUSY;
  controllers_.erase(controller);
  numbers_.erase(number);
  return 0;
}

const Controller* ControllerTable::Find(std::string_view name) const {
  auto found = numbers_.find(name);
  return found == numbers_.end() ? nullptr : controllers_.at(found->second).get();
}

std::vector<const Controller*> ControllerTable::List() const {
  std::vector<const Controller*> controllers;
  for (const auto& [number, controller] : controllers_) controllers.push_back(controller.get());
  return controllers;
}

void ControllerTable::Close(std::function<void()> done) {
  auto left = std::make_shared<size_t>(controllers_.size());
  auto one_less = [this, left, done = std::move(done)] {
    if (*left > 0 && --*left > 0) return;
    controllers_.clear();
    numbers_.clear();
    done();
  };
  if (controllers_.empty()) registry_.control().Post(one_less);
  for (const auto& [number, controller] : controllers_) controller->Close(one_less);
}

void ControllerTable::OnBdevRegistered(bdev::Bdev& bdev) {
  for (const auto& [number, controller] : controllers_) controller->OfferBdev(bdev);
}

}  // namespace sma::storage_target::vhost_user
