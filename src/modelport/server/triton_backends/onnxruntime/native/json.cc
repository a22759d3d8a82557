#include "json.h"

#include <charconv>
#include <cstring>

#include "failure.h"

namespace modelport {

namespace {
constexpr int kDeepest = 64;

void append_utf8(std::string& text, unsigned code) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    text += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    text += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  }
}
}  // namespace

class Reader {
 public:
  explicit Reader(const std::string& text) : at_(text.data()), end_(text.data() + text.size()) {}

  Json whole() {
    Json value = one(0);
    space();
    if (at_ != end_) wrong();
    return value;
  }

 private:
  [[noreturn]] static void wrong() { throw Failure("Triton's description of the model is not JSON"); }

  void space() {
    while (at_ != end_ && std::strchr(" \t\r\n", *at_) != nullptr) ++at_;
  }

  char next() {
    space();
    if (at_ == end_) wrong();
    return *at_;
  }

  bool take(char wanted) {
    if (next() != wanted) return false;
    ++at_;
    return true;
  }

  void word(const char* wanted) {
    const size_t size = std::strlen(wanted);
    if (static_cast<size_t>(end_ - at_) < size || std::memcmp(at_, wanted, size) != 0) wrong();
    at_ += size;
  }

  Json one(int depth) {
    if (depth > kDeepest) wrong();
    Json value;
    switch (next()) {
      case '{': object(value, depth); break;
      case '[': array(value, depth); break;
      case '"':
        value.kind_ = Json::Kind::text;
        value.text_ = text();
        break;
      case 't': word("true"); value.kind_ = Json::Kind::yes; break;
      case 'f': word("false"); value.kind_ = Json::Kind::no; break;
      case 'n': word("null"); break;
      default: number(value);
    }
    return value;
  }

  void object(Json& value, int depth) {
    value.kind_ = Json::Kind::object;
    ++at_;
    if (take('}')) return;
    do {
      if (next() != '"') wrong();
      std::string key = text();
      if (!take(':')) wrong();
      value.members_.emplace_back(std::move(key), one(depth + 1));
    } while (take(','));
    if (!take('}')) wrong();
  }

  void array(Json& value, int depth) {
    value.kind_ = Json::Kind::array;
    ++at_;
    if (take(']')) return;
    do value.items_.push_back(one(depth + 1));
    while (take(','));
    if (!take(']')) wrong();
  }

  void number(Json& value) {
    const char* from = at_;
    while (at_ != end_ && std::strchr("+-0123456789.eE", *at_) != nullptr) ++at_;
    if (at_ == from) wrong();
    value.kind_ = Json::Kind::number;
    value.text_.assign(from, at_);
  }

  unsigned hex() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (at_ == end_) wrong();
      const char c = *at_;
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) wrong();
      code = code << 4 | static_cast<unsigned>(digit);
    }
    return code;
  }

  std::string text() {
    std::string found;
    ++at_;
    while (true) {
      if (at_ == end_) wrong();
      char c = *at_++;
      if (c == '"') return found;
      if (c != '\\') {
        found += c;
        continue;
      }
      if (at_ == end_) wrong();
      c = *at_++;
      if (c != 'u') {
        static const char kNames[] = "bfnrt", kMeant[] = "\b\f\n\r\t";
        const char* place = std::strchr(kNames, c);
        found += place != nullptr && c != '\0' ? kMeant[place - kNames] : c;
        continue;
      }
      unsigned code = hex();
      if (code >= 0xD800 && code < 0xDC00 && end_ - at_ >= 6 && at_[0] == '\\' && at_[1] == 'u') {
        at_ += 2;
        code = 0x10000 + ((code - 0xD800) << 10) + (hex() - 0xDC00);
      }
      append_utf8(found, code);
    }
  }

  const char* at_;
  const char* end_;
};

Json Json::read(const std::string& text) { return Reader(text).whole(); }

const Json& Json::operator[](const std::string& key) const {
  static const Json missing;
  for (const auto& [name, value] : members_)
    if (name == key) return value;
  return missing;
}

Json::operator bool() const {
  switch (kind_) {
    case Kind::none:
    case Kind::no: return false;
    case Kind::yes: return true;
    case Kind::number: return text_.find_first_of("123456789") < text_.find_first_of("eE");
    case Kind::text: return !text_.empty();
    case Kind::array: return !items_.empty();
    case Kind::object: return !members_.empty();
  }
  return false;
}

std::string Json::text(const std::string& missing) const {
  return kind_ == Kind::text || kind_ == Kind::number ? text_ : missing;
}

long long Json::number(long long missing) const {
  long long value = missing;
  if (kind_ == Kind::text || kind_ == Kind::number)
    std::from_chars(text_.data(), text_.data() + text_.size(), value);
  return value;
}

}  // namespace modelport
