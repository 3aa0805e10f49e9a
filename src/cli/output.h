#pragma once

#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace sma::cli {

enum class Colour { kNone, kGreen, kYellow, kRed };

/// Text of a table, in a colour where the output takes colours.
struct Cell {
  // Not explicit: most cells are plain text.
  Cell(std::string text_in) : text(std::move(text_in)) {}  // NOLINT(google-explicit-constructor)
  Cell(const char* text_in) : text(text_in) {}             // NOLINT(google-explicit-constructor)
  Cell(std::string text_in, Colour colour_in) : text(std::move(text_in)), colour(colour_in) {}

  std::string text;
  Colour colour = Colour::kNone;
};

/// `cell` as it is written: between the terminal's escape sequences where `use_colour`.
std::string Render(const Cell& cell, bool use_colour);

/// Rows of text in aligned columns.
class Table {
 public:
  explicit Table(std::vector<Cell> header) { rows_.push_back(std::move(header)); }

  /// As many cells as the header has.
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }

  void Print(std::ostream& out, bool use_colour = false) const;

 private:
  std::vector<std::vector<Cell>> rows_;
};

/// Names and what they stand for, one in a line, aligned. A name that is the same as in the line
/// before is left out.
class Properties {
 public:
  void Add(std::string name, Cell value) { rows_.emplace_back(std::move(name), std::move(value)); }

  void Print(std::ostream& out, bool use_colour) const;

 private:
  std::vector<std::pair<std::string, Cell>> rows_;
};

}  // namespace sma::cli
