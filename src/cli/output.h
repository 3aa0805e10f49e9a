#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace sma::cli {

/// Rows of text in aligned columns.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

  /// As many cells as the header has.
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  void Print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace sma::cli
