// SPDX-License-Identifier: Apache-2.0

#include "worlds/random_worlds.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <random>

#include "absl/strings/str_join.h"

namespace sma::worlds {

using std::chrono::milliseconds;

namespace {

constexpr int kMinSteps = 6;
constexpr int kMaxSteps = 24;
constexpr int kMaxFaultyStep = 14;

class Generator {
 public:
  Generator(uint64_t seed, const Risks& risks) : random_(seed), risks_(risks) {}

  RandomWorld Make() {
    RandomWorld world;
    world.options.has_machine = Chance(25);
    world.options.patience = milliseconds(1500);
    world.options.checks_limits = risks_.limits;
    if (Chance(50)) world.options.sim.discovery_lag = Number(1, 4);
    if (risks_.many_paths && Chance(20)) world.options.sim.incomplete_descriptions = 1;
    devices_ = {0, 1, 2, 3};
    if (world.options.has_machine) devices_ = {0, 1, 4, 5, 6, 7};
    // Uses only a few devices and volumes, so that many calls concern the same ones.
    std::shuffle(devices_.begin(), devices_.end(), random_);
    devices_.resize(static_cast<size_t>(Number(2, 3)));
    for (int i = Number(3, 6); i > 0; --i) volumes_.push_back(Number(1, kVolumeCount));
    for (int i = 0; i < 2; ++i) world.steps.push_back(Create());
    const int count = Number(kMinSteps, kMaxSteps);
    while (static_cast<int>(world.steps.size()) < count) {
      const std::string step = Step(world.options.has_machine);
      if (!step.empty()) world.steps.push_back(step);
    }
    return world;
  }

 private:
  int Number(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }
  bool Chance(int percent) { return Number(1, 100) <= percent; }
  template <typename T>
  T OneOf(const std::vector<T>& list) {
    return list[static_cast<size_t>(Number(0, static_cast<int>(list.size()) - 1))];
  }
  int Device() { return OneOf(devices_); }
  int Subsystem() {
    int device = Device();
    return IsVhost(device) ? 0 : device;
  }
  int Volume() { return OneOf(volumes_); }
  int NodeVolume() {
    const int volume = Volume();
    return volume <= 6 ? volume : Number(1, 6);
  }
  int LocalVolume() {
    const int volume = Volume();
    return volume >= 9 ? volume : Number(9, 12);
  }

  std::string How(int volume) {
    if (LocationOf(volume) == Location::kIscsi || LocationOf(volume) == Location::kLocal) return "";
    if (!risks_.many_paths) return "d1";
    std::string how = OneOf<std::string>({"d1", "d2", "d12", "p1", "p2", "p12"});
    if (Chance(40)) how += "s";
    if (Chance(15)) how += "q";
    return how;
  }

  std::string Create() {
    const int device = Device();
    if (!IsVhost(device) && Chance(60)) return fmt::format("create {}", device);
    int volume = Volume();
    // An agent that died cannot identify the controller of an encrypted volume afterwards.
    while (IsVhost(device) && !risks_.clashes && IsEncrypted(volume)) volume = Number(1, 12);
    return fmt::format("create {} {} {}", device, volume, How(volume));
  }

  std::string Call() {
    const int kind = Number(1, 100);
    const int volume = Volume();
    if (kind <= 20) return Create();
    if (kind <= 60) return fmt::format("attach {} {} {}", volume, Device(), How(volume));
    if (kind <= 80) return fmt::format("detach {} {}", volume, Device());
    if (kind <= 88) return fmt::format("delete {}", Device());
    return fmt::format("qos {} {} {}", volume, Device(), Number(0, 3));
  }

  std::string Clash() {
    const int volume = Volume();
    const int device = Subsystem();
    const int local = LocalVolume();
    switch (Number(1, 14)) {
      case 1:
        return fmt::format("op subsystem {}", device);
      case 2:
        return fmt::format("op delete {}", device);
      case 3:
        return fmt::format("op host {}", device);
      case 4:
      case 5:
        return fmt::format("op ns {} {} {}", device, Number(0, 2), Chance(50) ? volume : 0);
      case 6:
        return fmt::format("op raw {} {}", device, local);
      case 7:
        return fmt::format("op rmns {} {}", device, volume);
      case 8:
        return fmt::format("op limit {} {}", local, Number(0, 2));
      case 9:
        return fmt::format("op {} {}", Chance(50) ? "claim" : "unclaim", local);
      case 10:
        return fmt::format("op discover {} {}", NodeVolume(), Number(1, 2));
      case 11:
        return fmt::format("op delete {}; op subsystem {}", device, device);
      case 12:
        return fmt::format("op rmns {} {}; op ns {} 1 {}", device, volume, device,
                           Chance(50) ? volume : 0);
      case 13:
        return fmt::format("op control {} {}", NodeVolume(), Number(1, 2));
      default:
        return fmt::format("op stop {} {}", NodeVolume(), Number(1, 2));
    }
  }

  std::string Neighbour() {
    const int volume = NodeVolume();
    switch (Number(1, 7)) {
      case 1:
        return fmt::format("vanish {}", volume);
      case 2:
        return fmt::format("appear {}", volume);
      case 3:
        return fmt::format("down {} {}", volume, Number(0, 2));
      case 4:
        return fmt::format("hang {} {}", volume, Number(0, 2));
      case 5:
        return fmt::format("{} 7 0", Chance(50) ? "up" : "down");
      default:
        return fmt::format("up {} 0", volume);
    }
  }

  std::string Step(bool has_machine) {
    const int kind = Number(1, 100);
    if (kind <= 45) return Call();
    if (kind <= 50) {
      std::string both = Call() + " | " + Call();
      return Chance(30) ? both + " | " + Call() : both;
    }
    if (kind <= 58) {
      return risks_.faults ? fmt::format("die {} {}", Number(1, kMaxFaultyStep), Call()) : "";
    }
    if (kind <= 66) {
      const std::string fault =
          OneOf<std::string>({"refuse", "notsent", "drop", "lose", "hang", "late"});
      return risks_.faults ? fmt::format("fault {} {} {}", Number(1, kMaxFaultyStep), fault, Call())
                           : "";
    }
    if (kind <= 76) return risks_.storage ? Neighbour() : "";
    if (kind <= 86) return risks_.clashes ? Clash() : "";
    if (kind <= 89) {
      if (!risks_.adoption) return "";
      const int device = OneOf(devices_) % 4;
      const std::string copy = fmt::format("op copy {} {}", device, LocalVolume());
      return Chance(50) ? copy + fmt::format("; adopt {}", device) : copy;
    }
    if (kind <= 92) return "restart target";
    if (kind <= 94) return "restart agent";
    if (kind <= 96) return has_machine ? "restart machine" : "late";
    if (kind <= 98) return "compare";
    return fmt::format("op {} {}", Chance(50) ? "rmdisk" : "disk", LocalVolume());
  }

  std::mt19937_64 random_;
  const Risks risks_;
  std::vector<int> devices_;
  std::vector<int> volumes_;
};

bool FailsLikewise(const WorldOptions& options, const std::vector<std::string>& steps,
                   const std::string& kind) {
  const std::vector<std::string> problems = RunWorld(options, steps);
  return std::any_of(problems.begin(), problems.end(),
                     [&](const std::string& problem) { return KindOf(problem) == kind; });
}

}  // namespace

Risks AllRisks() {
  return {.many_paths = true,
          .clashes = true,
          .adoption = true,
          .limits = true,
          .faults = true,
          .storage = true};
}

RandomWorld MakeRandomWorld(uint64_t seed, const Risks& risks) {
  RandomWorld world = Generator(seed, risks).Make();
  world.seed = seed;
  return world;
}

std::vector<std::string> RunWorld(const WorldOptions& options,
                                  const std::vector<std::string>& steps) {
  World world(options);
  world.Run(absl::StrJoin(steps, "; "));
  world.Finish();
  return world.problems();
}

std::string KindOf(const std::string& problem) {
  std::string kind;
  for (char c : problem) {
    if (std::isdigit(c) == 0) kind += c;
  }
  return kind.substr(0, 60);
}

std::vector<std::string> Shrink(const WorldOptions& options, std::vector<std::string> steps,
                                const std::string& kind) {
  WorldOptions quick = options;
  quick.patience = std::min(quick.patience, milliseconds(300));
  for (size_t chunk = std::max<size_t>(steps.size() / 2, 1);;
       chunk = std::max<size_t>(chunk / 2, 1)) {
    bool any = false;
    for (size_t i = 0; i < steps.size();) {
      std::vector<std::string> fewer = steps;
      const auto begin = fewer.begin() + static_cast<ptrdiff_t>(i);
      fewer.erase(begin, begin + static_cast<ptrdiff_t>(std::min(chunk, steps.size() - i)));
      if (FailsLikewise(quick, fewer, kind)) {
        steps = std::move(fewer);
        any = true;
      } else {
        i += chunk;
      }
    }
    if (chunk == 1 && !any) return steps;
  }
}

}  // namespace sma::worlds
