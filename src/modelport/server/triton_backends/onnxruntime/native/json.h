// Reads the JSON that Triton writes: a model's configuration and the backend's options.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace modelport {

class Json {
 public:
  // Throws Failure for text that is not JSON.
  static Json read(const std::string& text);

  // The member of an object, or null where there is none.
  const Json& operator[](const std::string& key) const;
  const std::vector<Json>& items() const { return items_; }
  const std::vector<std::pair<std::string, Json>>& members() const { return members_; }

  // Truth as Python has it: not null, false, zero, or empty.
  explicit operator bool() const;
  // A text or a number as text; otherwise `missing`.
  std::string text(const std::string& missing = "") const;
  // A number, also where it is written as text (64-bit ones are); otherwise `missing`.
  long long number(long long missing = 0) const;

 private:
  friend class Reader;
  enum class Kind { none, no, yes, number, text, array, object };

  Kind kind_ = Kind::none;
  std::string text_;
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
};

}  // namespace modelport
