// The one kind of exception; the entry points turn it into Triton's errors.
#pragma once

#include <stdexcept>
#include <string>

#include "triton.h"

namespace modelport {

struct Failure : std::runtime_error {
  Failure(TRITONSERVER_ErrorCode code, const std::string& text) : std::runtime_error(text), code(code) {}
  explicit Failure(const std::string& text) : Failure(TRITONSERVER_ERROR_INTERNAL, text) {}

  TRITONSERVER_Error* error() const { return TRITONSERVER_ErrorNew(code, what()); }

  TRITONSERVER_ErrorCode code;
};

// Throws what a function of Triton returned, unless that is nothing.
inline void check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::string text = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw Failure(text);
}

// Drops what a function of Triton returned, where nothing can be done about it.
inline void ignore(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

inline void log(const std::string& text) {
  ignore(TRITONSERVER_LogMessage(TRITONSERVER_LOG_INFO, "onnxruntime", 0, text.c_str()));
}
inline void warn(const std::string& text) {
  ignore(TRITONSERVER_LogMessage(TRITONSERVER_LOG_WARN, "onnxruntime", 0, text.c_str()));
}

}  // namespace modelport
