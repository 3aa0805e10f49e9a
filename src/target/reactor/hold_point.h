#pragma once

/// SMA_HOLD_POINT("name") marks a place where a test can hold the reactor whose thread comes there,
/// so that another is ahead of it. Only builds with a sanitizer have hold points
/// (SMA_HOLD_POINTS); elsewhere the macro is empty.

#ifdef SMA_HOLD_POINTS

#include <string_view>

namespace sma::target {

/// Holds one reactor at one point at a time. Thread-safe.
///
/// In a program that is started with SMA_HOLD_POINTS_DIR, a folder, in its environment, files do
/// the same: reactor 1 is held at "nvmf.execute" while there is a file "nvmf.execute.1"; it makes a
/// file "nvmf.execute.1.held" when it comes there.
class HoldPoints {
 public:
  /// The reactor with this index (Reactor::Options) stops when it next comes to `name`, a literal.
  static void Arm(const char* name, int reactor_index);
  /// Waits until it has stopped there. False after ten seconds.
  static bool WaitUntilHeld();
  /// Lets it go on, or disarms the point.
  static void Release();
  /// The macro's.
  static void Reach(std::string_view name);
};

}  // namespace sma::target

#define SMA_HOLD_POINT(name) ::sma::target::HoldPoints::Reach(name)
#else
#define SMA_HOLD_POINT(name) static_cast<void>(0)
#endif
