#include "texts.h"

#include <algorithm>
#include <cctype>
#include <cstring>

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

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Removes C++ signatures such as `onnxruntime::Status onnxruntime::Gather::Compute(Context*) const`.
std::string without_signatures(std::string line) {
  constexpr char kBegin[] = "onnxruntime::";
  for (size_t at = line.find(kBegin); at != std::string::npos; at = line.find(kBegin, at)) {
    const size_t open = line.find('(', at), close = line.find(')', at);
    const bool is_signature =
        open != std::string::npos && close != std::string::npos && open < close &&
        std::all_of(line.begin() + static_cast<long>(at), line.begin() + static_cast<long>(open),
                    [](char c) { return is_word(c) || std::strchr(":<>~&*, ", c) != nullptr; });
    if (is_signature)
      line.erase(at, close + 1 - at);
    else
      at += 1;
  }
  return line;
}

// Removes paths of files, with the number of a line behind them.
std::string without_paths(const std::string& line) {
  const auto in_path = [](char c) { return is_word(c) || (c != '\0' && std::strchr("/.+@-", c) != nullptr); };
  std::string left;
  for (size_t at = 0; at < line.size();) {
    const bool begins = line[at] == '/' && (at == 0 || !(is_word(line[at - 1]) || line[at - 1] == '.'));
    size_t end = at;
    while (begins && end < line.size() && in_path(line[end])) ++end;
    if (line.find('/', at + 1) >= end) {  // one name alone is no path
      left += line[at++];
      continue;
    }
    while (end < line.size() && (line[end] == ':' || std::isdigit(static_cast<unsigned char>(line[end])))) ++end;
    at = end;
  }
  return left;
}

}  // namespace

std::vector<std::string_view> read_texts(const std::string& name, const char* data, uint64_t bytes, int64_t count) {
  std::vector<std::string_view> texts;
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

size_t written_bytes(const ort::Texts& texts, size_t from, size_t count) {
  size_t bytes = 0;
  for (size_t i = from; i < from + count; ++i) bytes += 4 + texts[i].size();
  return bytes;
}

void write_texts(const ort::Texts& texts, size_t from, size_t count, char* data) {
  for (size_t i = from; i < from + count; ++i) {
    const std::string_view text = texts[i];
    const auto size = static_cast<uint32_t>(text.size());
    std::memcpy(data, &size, 4);
    text.copy(data + 4, size);
    data += 4 + size;
  }
}

std::string plain(const std::string& error) {
  const size_t from = error.find_first_not_of(" \t\r\n");
  if (from == std::string::npos) return "";
  std::string line = error.substr(from, std::min(error.find('\n', from), from + 8 * kLongestError) - from);
  line = without_paths(without_signatures(line));
  std::string text;
  for (const char c : line) {
    const bool blank = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (!blank || (!text.empty() && text.back() != ' ')) text += blank ? ' ' : c;
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.substr(0, kLongestError);
}

}  // namespace modelport
