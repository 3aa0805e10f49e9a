// SPDX-License-Identifier: Apache-2.0

#include "cli/output.h"

#include <algorithm>

namespace sma::cli {
namespace {

constexpr size_t kGap = 2;  // columns between two cells

// Returns the escape sequence that selects a colour (ECMA-48 §8.3.117, "Select graphic rendition").
const char* Begin(Colour colour) {
  switch (colour) {
    case Colour::kNone:
      break;
    case Colour::kGreen:
      return "\x1b[32m";
    case Colour::kYellow:
      return "\x1b[33m";
    case Colour::kRed:
      return "\x1b[31m";
  }
  return "";
}

}  // namespace

std::string Render(const Cell& cell, bool use_colour) {
  if (!use_colour || cell.colour == Colour::kNone) return cell.text;
  return Begin(cell.colour) + cell.text + "\x1b[0m";
}

void Table::Print(std::ostream& out, bool use_colour) const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += Render(row[i], use_colour);
      if (i + 1 < row.size()) line.append(widths[i] - row[i].text.size() + kGap, ' ');
    }
    out << line << '\n';
  }
}

void Properties::Print(std::ostream& out, bool use_colour) const {
  size_t width = 0;
  for (const auto& [name, value] : rows_) width = std::max(width, name.size());
  const std::string* before = nullptr;
  for (const auto& [name, value] : rows_) {
    std::string line = before != nullptr && *before == name ? "" : name;
    line.append(width - line.size() + kGap, ' ');
    out << line << Render(value, use_colour) << '\n';
    before = &name;
  }
}

}  // namespace sma::cli
