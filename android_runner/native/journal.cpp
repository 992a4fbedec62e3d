#include "journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "failure.h"

namespace tprune {
namespace {

std::string quoted(std::string_view value) {
  std::string text = "\"";
  for (const char letter : value) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == '"' || letter == '\\') {
      text += '\\';
      text += letter;
    } else if (code < 0x20 || code >= 0x7f) {  // bytes, so that the line is valid whatever a library says
      char escaped[7];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", code);
      text += escaped;
    } else {
      text += letter;
    }
  }
  return text + '"';
}

std::string number(const std::optional<std::int64_t>& value) { return value ? std::to_string(*value) : "null"; }

}  // namespace

Record::Record(std::string_view kind) { add("kind", kind); }

void Record::key(std::string_view name) {
  if (text_.size() > 1) text_ += ", ";
  text_ += quoted(name) + ": ";
}

Record& Record::add(std::string_view name, std::string_view value) {
  key(name);
  text_ += quoted(value);
  return *this;
}

Record& Record::add(std::string_view name, bool value) {
  key(name);
  text_ += value ? "true" : "false";
  return *this;
}

Record& Record::add(std::string_view name, std::int64_t value) { return add(name, std::optional(value)); }

Record& Record::add(std::string_view name, const std::optional<std::int64_t>& value) {
  key(name);
  text_ += number(value);
  return *this;
}

Record& Record::add(std::string_view name, const std::vector<std::int64_t>& values) {
  key(name);
  std::string items;
  for (const std::int64_t value : values) items += (items.empty() ? "" : ", ") + std::to_string(value);
  text_ += "[" + items + "]";
  return *this;
}

Record& Record::add(std::string_view name, const std::map<std::string, std::optional<std::int64_t>>& values) {
  std::map<std::string, std::string> written;
  for (const auto& [label, value] : values) written[label] = number(value);
  return object(name, written);
}

Record& Record::add(std::string_view name, const std::map<std::string, std::string>& values) {
  std::map<std::string, std::string> written;
  for (const auto& [label, value] : values) written[label] = quoted(value);
  return object(name, written);
}

Record& Record::object(std::string_view name, const std::map<std::string, std::string>& values) {
  key(name);
  std::string items;
  for (const auto& [label, value] : values) items += (items.empty() ? "" : ", ") + quoted(label) + ": " + value;
  text_ += items.empty() ? "null" : "{" + items + "}";
  return *this;
}

Journal::Journal(const std::string& path)
    : path_(path), file_(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  if (file_ < 0) throw Failure(path + ": cannot be written: " + std::strerror(errno));
}

Journal::~Journal() { close(file_); }

void Journal::write(const Record& record) {
  const std::string line = record.line();
  put(line);
  hash_.update(line);
  ++lines_;
}

void Journal::end() { put(Record("end").add("lines", lines_).add("sha256", hash_.hex()).line()); }

void Journal::put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Failure(path_ + ": cannot be written: " + std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace tprune
