// ONNX Runtime, loaded from the library that the Python package `onnxruntime` ships. That package has no headers, so
// the places of the functions in its table are written down here; the table only ever grows at its end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "triton.h"

namespace modelport::ort {

constexpr uint32_t kApiVersion = 15;  // the first ONNX Runtime that has all functions below is 1.15

enum Function : int {
  kGetErrorMessage = 2,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetSessionExecutionMode = 13,
  kEnableMemPattern = 16,
  kDisableMemPattern = 17,
  kEnableCpuMemArena = 18,
  kDisableCpuMemArena = 19,
  kSetSessionGraphOptimizationLevel = 23,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kRegisterCustomOpsLibrary = 29,
  kSessionGetInputCount = 30,
  kSessionGetOutputCount = 31,
  kSessionGetOverridableInitializerCount = 32,
  kSessionGetInputTypeInfo = 33,
  kSessionGetOutputTypeInfo = 34,
  kSessionGetOverridableInitializerTypeInfo = 35,
  kSessionGetInputName = 36,
  kSessionGetOutputName = 37,
  kSessionGetOverridableInitializerName = 38,
  kCreateRunOptions = 39,
  kRunOptionsSetRunLogSeverityLevel = 41,
  kRunOptionsSetTerminate = 46,
  kRunOptionsUnsetTerminate = 47,
  kCreateTensorAsOrtValue = 48,
  kCreateTensorWithDataAsOrtValue = 49,
  kGetTensorMutableData = 51,
  kGetStringTensorDataLength = 53,
  kGetStringTensorContent = 54,
  kCastTypeInfoToTensorInfo = 55,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kCreateCpuMemoryInfo = 69,
  kAllocatorFree = 76,
  kGetAllocatorWithDefaultOptions = 78,
  kReleaseStatus = 93,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseRunOptions = 97,
  kReleaseTypeInfo = 98,
  kReleaseTensorTypeAndShapeInfo = 99,
  kReleaseSessionOptions = 100,
  kCreateEnvWithGlobalThreadPools = 119,
  kDisablePerSessionThreads = 120,
  kCreateThreadingOptions = 121,
  kReleaseThreadingOptions = 122,
  kAddSessionConfigEntry = 130,
  kCreateAndRegisterAllocator = 144,
  kSetGlobalIntraOpNumThreads = 147,
  kSetGlobalInterOpNumThreads = 148,
  kSetGlobalSpinControl = 149,
  kCreateArenaCfg = 156,
  kReleaseArenaCfg = 157,
  kAddRunConfigEntry = 165,
  kGetResizedStringTensorElementBuffer = 252,
};

using Handle = void*;
extern const void* const* table;

// Calls a function that returns nothing that matters.
template <class... Arguments>
void call(Function function, Arguments... arguments) {
  reinterpret_cast<void (*)(Arguments...)>(const_cast<void*>(table[function]))(arguments...);
}

void check(Handle status);  // throws Failure with ONNX Runtime's words

// Calls a function that returns a status.
template <class... Arguments>
void ask(Function function, Arguments... arguments) {
  check(reinterpret_cast<Handle (*)(Arguments...)>(const_cast<void*>(table[function]))(arguments...));
}

// An object of ONNX Runtime, released with its last owner.
template <Function release>
struct Release {
  void operator()(void* handle) const { call(release, handle); }
};
template <Function release>
using Owned = std::unique_ptr<void, Release<release>>;
using Value = Owned<kReleaseValue>;

// Loads the library and makes its environment, once for the process, with a pool of `threads` threads for all models that
// have none of their own. Throws Failure.
void open(const std::string& library, int threads);
std::string version();

struct Shape {
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  std::string type_name;  // as Triton's configurations write it, where Triton has such a type
  std::vector<int64_t> dims;  // -1 for what varies
};
struct Node {
  std::string name;
  Shape shape;
};

class Options {
 public:
  Options();
  void threads(int intra, int inter);
  void shared_threads();
  void parallel(bool wanted);
  void level(int onnxruntimes_number);
  void arena(bool wanted);
  void pattern(bool wanted);
  void entry(const std::string& key, const std::string& value);
  void custom_ops(const std::string& library);
  Handle get() const { return options_.get(); }

 private:
  Owned<kReleaseSessionOptions> options_;
};

class RunOptions {
 public:
  RunOptions();
  void entry(const std::string& key, const std::string& value);
  void stop();  // a run that uses these options ends at its next node, from any thread
  void go_on();
  Handle get() const { return options_.get(); }

 private:
  Owned<kReleaseRunOptions> options_;
};

// A loaded model. `run` may be called from several threads at once.
class Session {
 public:
  Session(const std::string& path, const Options& options);
  std::vector<Node> inputs() const;
  std::vector<Node> outputs() const;
  std::vector<Node> initializers() const;  // those that an input may replace
  std::vector<Value> run(const RunOptions& options, const std::vector<const char*>& input_names,
                         const std::vector<Value>& inputs, const std::vector<const char*>& output_names) const;

 private:
  std::vector<Node> nodes(Function count, Function name, Function info) const;

  Owned<kReleaseSession> session_;
};

// A tensor over memory of someone else, who keeps it until the tensor is gone.
Value tensor(TRITONSERVER_DataType type, const std::vector<int64_t>& shape, const void* data, size_t bytes);
Value string_tensor(const std::vector<int64_t>& shape, const std::vector<std::string_view>& texts);

Shape shape_of(const Value& tensor);
const void* data_of(const Value& tensor);

// The texts of a tensor, one behind the other.
struct Texts {
  std::string joined;
  std::vector<size_t> ends;

  std::string_view operator[](size_t i) const {
    const size_t from = i == 0 ? 0 : ends[i - 1];
    return std::string_view(joined).substr(from, ends[i] - from);
  }
};
Texts texts_of(const Value& tensor, size_t count);

}  // namespace modelport::ort
