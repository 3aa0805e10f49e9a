#include "target/vhost_user/controller_table.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

namespace sma::target::vhost_user {
namespace {

// It is the name of a file, and stands in logs and answers: no folder, nothing that a terminal
// obeys, UTF-8 or not.
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
  // Each controller begins with another reactor, so that those with one vring spread too.
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
  controllers_.push_back(*std::move(controller));
  ++next_reactor_;
  return 0;
}

int ControllerTable::Delete(std::string_view name) {
  auto found = std::ranges::find(controllers_, name, &Controller::name);
  if (found == controllers_.end()) return ENODEV;
  if (!(*found)->sessions().empty()) return EBUSY;
  controllers_.erase(found);
  return 0;
}

const Controller* ControllerTable::Find(std::string_view name) const {
  auto found = std::ranges::find(controllers_, name, &Controller::name);
  return found == controllers_.end() ? nullptr : found->get();
}

std::vector<const Controller*> ControllerTable::List() const {
  std::vector<const Controller*> controllers;
  for (const auto& controller : controllers_) controllers.push_back(controller.get());
  return controllers;
}

void ControllerTable::Close(std::function<void()> done) {
  auto left = std::make_shared<size_t>(controllers_.size());
  auto one_less = [this, left, done = std::move(done)] {
    if (*left > 0 && --*left > 0) return;
    controllers_.clear();
    done();
  };
  if (controllers_.empty()) registry_.control().Post(one_less);
  for (const auto& controller : controllers_) controller->Close(one_less);
}

void ControllerTable::OnBdevRegistered(bdev::Bdev& bdev) {
  for (const auto& controller : controllers_) controller->OfferBdev(bdev);
}

}  // namespace sma::target::vhost_user
