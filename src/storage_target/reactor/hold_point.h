// SPDX-License-Identifier: Apache-2.0

#pragma once

/// SMA_HOLD_POINT("name") marks a place where a test can stop the reactor that reaches it, so that
/// another reactor can overtake it. Hold points exist only in sanitizer builds (SMA_HOLD_POINTS);
/// elsewhere the macro is empty.

#ifdef SMA_HOLD_POINTS

#include <string_view>

namespace sma::storage_target {

/// Stops one reactor at one hold point at a time. Thread-safe.
///
/// A program started with the environment variable SMA_HOLD_POINTS_DIR set to a folder is
/// controlled by files: while the file "nvmf.execute.1" exists, reactor 1 stops at "nvmf.execute"
/// and creates "nvmf.execute.1.held" when it does.
class HoldPoints {
 public:
  /// Stops the reactor with this index (Reactor::Options) when it next reaches `name`, which must
  /// be a string literal.
  static void Arm(const char* name, int reactor_index);
  /// Blocks until the reactor has stopped. Returns false after ten seconds.
  static bool WaitUntilHeld();
  /// Resumes the stopped reactor, or disarms the point if no reactor has reached it.
  static void Release();
  /// Called by SMA_HOLD_POINT.
  static void Reach(std::string_view name);
};

}  // namespace sma::storage_target

#define SMA_HOLD_POINT(name) ::sma::storage_target::HoldPoints::Reach(name)
#else
#define SMA_HOLD_POINT(name) static_cast<void>(0)
#endif
