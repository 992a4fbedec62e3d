// The runner's output: one JSON object a line, written at once, and a hash of everything at the end.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sha256.h"

namespace tprune {

// One line of the journal; what is not known is null.
class Record {
 public:
  explicit Record(std::string_view kind);

  Record& add(std::string_view key, std::string_view value);
  Record& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  Record& add(std::string_view key, bool value);
  Record& add(std::string_view key, std::int64_t value);
  Record& add(std::string_view key, const std::optional<std::int64_t>& value);
  Record& add(std::string_view key, const std::vector<std::int64_t>& values);
  Record& add(std::string_view key, const std::map<std::string, std::optional<std::int64_t>>& values);
  Record& add(std::string_view key, const std::map<std::string, std::string>& values);

  std::string line() const { return text_ + "}\n"; }

 private:
  void key(std::string_view name);
  // An object of values as they are written; null where there are none.
  Record& object(std::string_view name, const std::map<std::string, std::string>& values);

  std::string text_ = "{";
};

// A file that can be read up to its last whole line whenever the run is interrupted.
class Journal {
 public:
  explicit Journal(const std::string& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void write(const Record& record);
  // The last line: that the run is complete, and the SHA-256 of the lines before.
  void end();

 private:
  void put(std::string_view text);

  std::string path_;
  int file_;
  std::int64_t lines_ = 0;
  Sha256 hash_;
};

}  // namespace tprune
