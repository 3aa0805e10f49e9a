// SPDX-License-Identifier: Apache-2.0

#include "agent/config/yaml_document.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>
#include <string>

namespace sma::config {
namespace {

/// Returns the line of the first control character; 0 if there is none. YAML does not allow them
/// (1.2 §5.1), and some put yaml-cpp into an endless loop.
int LineOfControlCharacter(std::string_view text) {
  int line = 1;
  for (char c : text) {
    if (c == '\n') ++line;
    bool is_control = static_cast<unsigned char>(c) < ' ' || c == 0x7f;
    if (is_control && c != '\n' && c != '\r' && c != '\t') return line;
  }
  return 0;
}

/// Records the line on which a document starts.
class DocumentStart : public YAML::EventHandler {
 public:
  int line() const { return line_; }

  void OnDocumentStart(const YAML::Mark& mark) override { line_ = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  int line_ = 0;
};

/// Returns the line of the second document; 0 if there is none. Does not use YAML::LoadAll, which
/// loops endlessly on some malformed texts, such as ",", which the parser treats as an infinite
/// number of documents.
int LineOfSecondDocument(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStart document;
  if (!parser.HandleNextDocument(document) || !parser.HandleNextDocument(document)) return 0;
  return document.line();
}

}  // namespace

YAML::Node ReadDocument(std::string_view text, Problems& problems) {
  if (int line = LineOfControlCharacter(text); line != 0) {
    problems.Add(line, "contains a control character");
    return {};
  }
  try {
    std::string whole(text);
    if (int line = LineOfSecondDocument(whole); line != 0) {
      problems.Add(line, "more than one YAML document");
    }
    return YAML::Load(whole);
  } catch (const YAML::ParserException& error) {
    problems.Add(error.mark.line + 1, error.msg);
  }
  return {};
}

}  // namespace sma::config
