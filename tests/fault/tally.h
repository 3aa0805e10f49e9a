// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

namespace sma::fault {

/// The result of a case.
enum class Verdict { kGood, kLost, kLeaked, kHarmed };

/// A table of the results of many cases.
class Tally {
 public:
  void Add(const std::string& row, Verdict verdict) {
    if (!counts_.contains(row)) order_.push_back(row);
    Counts& counts = counts_[row];
    counts.Count(verdict);
    all_.Count(verdict);
  }

  int cases() const { return all_.cases; }
  int failures() const { return all_.lost + all_.leaked + all_.harmed; }

  std::string Text() const {
    std::string text =
        fmt::format("{:<30}{:>8}{:>8}{:>8}{:>8}\n", "", "cases", "lost", "leaked", "harmed");
    for (const std::string& row : order_) text += Line(row, counts_.at(row));
    return text + Line("all", all_);
  }

 private:
  struct Counts {
    int cases = 0;
    int lost = 0;
    int leaked = 0;
    int harmed = 0;

    void Count(Verdict verdict) {
      ++cases;
      lost += verdict == Verdict::kLost ? 1 : 0;
      leaked += verdict == Verdict::kLeaked ? 1 : 0;
      harmed += verdict == Verdict::kHarmed ? 1 : 0;
    }
  };

  static std::string Line(const std::string& row, const Counts& counts) {
    return fmt::format("{:<30}{:>8}{:>8}{:>8}{:>8}\n", row, counts.cases, counts.lost,
                       counts.leaked, counts.harmed);
  }

  std::vector<std::string> order_;
  std::map<std::string, Counts> counts_;
  Counts all_;
};

}  // namespace sma::fault
