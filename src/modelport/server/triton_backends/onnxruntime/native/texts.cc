#include "texts.h"

#include <cstring>
#include <regex>
#include <sstream>

#include "failure.h"

namespace modelport {

namespace {

constexpr size_t kLongestError = 500;

bool is_utf8(const char* data, size_t size) {
  const auto* at = reinterpret_cast<const unsigned char*>(data);
  const auto* end = at + size;
  while (at != end) {
    const unsigned char first = *at++;
    const int more = first < 0x80 ? 0 : first >= 0xC2 && first < 0xE0 ? 1 : first >= 0xE0 && first < 0xF0 ? 2
                     : first >= 0xF0 && first < 0xF5 ? 3 : -1;
    if (more < 0 || end - at < more) return false;
    if ((first == 0xE0 && at[0] < 0xA0) || (first == 0xED && at[0] > 0x9F) || (first == 0xF0 && at[0] < 0x90) ||
        (first == 0xF4 && at[0] > 0x8F))
      return false;
    for (int i = 0; i < more; ++i, ++at)
      if (*at < 0x80 || *at > 0xBF) return false;
  }
  return true;
}

}  // namespace

std::vector<std::string> read_texts(const std::string& name, const char* data, uint64_t bytes, int64_t count) {
  std::vector<std::string> texts;
  uint64_t at = 0;
  while (at + 4 <= bytes) {
    uint32_t size = 0;
    std::memcpy(&size, data + at, 4);
    at += 4;
    if (size > bytes - at) break;
    if (!is_utf8(data + at, size))
      throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "input '" + name + "' holds text that is not UTF-8");
    texts.emplace_back(data + at, size);
    at += size;
  }
  if (at != bytes || static_cast<int64_t>(texts.size()) != count)
    throw Failure(TRITONSERVER_ERROR_INVALID_ARG, "input '" + name + "' does not hold as many texts as its shape says");
  return texts;
}

size_t written_bytes(const std::vector<std::string>& texts, size_t from, size_t count) {
  size_t bytes = 0;
  for (size_t i = from; i < from + count; ++i) bytes += 4 + texts[i].size();
  return bytes;
}

void write_texts(const std::vector<std::string>& texts, size_t from, size_t count, char* data) {
  for (size_t i = from; i < from + count; ++i) {
    const auto size = static_cast<uint32_t>(texts[i].size());
    std::memcpy(data, &size, 4);
    std::memcpy(data + 4, texts[i].data(), size);
    data += 4 + size;
  }
}

std::string plain(const std::string& error) {
  static const std::regex symbols(R"(\bonnxruntime::[\w:<>~&*, ]+\([^)]*\)\s*)");
  static const std::regex paths(R"((^|[^\w.])/[\w.+@-]+(?:/[\w.+@-]+)+(?::\d+)?:?)");
  std::istringstream lines(error);
  std::string line;
  while (std::getline(lines, line) && line.find_first_not_of(" \t\r") == std::string::npos) {
  }
  line = std::regex_replace(line.substr(0, 8 * kLongestError), symbols, "");
  line = std::regex_replace(line, paths, "$1");
  std::istringstream words(line);
  std::string text;
  for (std::string word; words >> word;) text += (text.empty() ? "" : " ") + word;
  return text.substr(0, kLongestError);
}

}  // namespace modelport
