// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace sma::cli {

enum class Colour { kNone, kGreen, kYellow, kRed };

/// The text of a table cell, with its colour for outputs that support colours.
struct Cell {
  // Not explicit, because most cells are plain text.
  Cell(std::string text_in) : text(std::move(text_in)) {}  // NOLINT(google-explicit-constructor)
  Cell(const char* text_in) : text(text_in) {}             // NOLINT(google-explicit-constructor)
  Cell(std::string text_in, Colour colour_in) : text(std::move(text_in)), colour(colour_in) {}

  std::string text;
  Colour colour = Colour::kNone;
};

/// Returns the text of `cell`, enclosed in the escape sequences of its colour if `use_colour` is
/// set.
std::string Render(const Cell& cell, bool use_colour);

/// Rows of text in aligned columns.
class Table {
 public:
  explicit Table(std::vector<Cell> header) { rows_.push_back(std::move(header)); }

  /// `row` must have as many cells as the header.
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }

  void Print(std::ostream& out, bool use_colour = false) const;

 private:
  std::vector<std::vector<Cell>> rows_;
};

/// Lines with a name and a value, aligned. A name that equals the one of the previous line is
/// omitted.
class Properties {
 public:
  void Add(std::string name, Cell value) { rows_.emplace_back(std::move(name), std::move(value)); }

  void Print(std::ostream& out, bool use_colour) const;

 private:
  std::vector<std::pair<std::string, Cell>> rows_;
};

}  // namespace sma::cli
