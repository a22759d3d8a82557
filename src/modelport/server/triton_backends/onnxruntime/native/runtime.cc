#include "runtime.h"

#include <dlfcn.h>

#include <cstring>
#include <map>
#include <mutex>

#include "failure.h"

namespace modelport::ort {

const void* const* table = nullptr;

namespace {

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

constexpr int kWarning = 2, kFatal = 4;
constexpr int kDeviceAllocator = 0, kArenaAllocator = 1, kCpu = 0;
constexpr int kAsRequested = 1, kUsual = -1;
constexpr int kString = 8;  // ONNX's number of the element type

Handle environment = nullptr;
Handle memory = nullptr;
std::string version_text;

struct Type {
  TRITONSERVER_DataType type;
  const char* name;
};
// By ONNX's numbers of element types.
const std::map<int, Type> kTypes = {
    {1, {TRITONSERVER_TYPE_FP32, "TYPE_FP32"}},    {2, {TRITONSERVER_TYPE_UINT8, "TYPE_UINT8"}},
    {3, {TRITONSERVER_TYPE_INT8, "TYPE_INT8"}},    {4, {TRITONSERVER_TYPE_UINT16, "TYPE_UINT16"}},
    {5, {TRITONSERVER_TYPE_INT16, "TYPE_INT16"}},  {6, {TRITONSERVER_TYPE_INT32, "TYPE_INT32"}},
    {7, {TRITONSERVER_TYPE_INT64, "TYPE_INT64"}},  {8, {TRITONSERVER_TYPE_BYTES, "TYPE_STRING"}},
    {9, {TRITONSERVER_TYPE_BOOL, "TYPE_BOOL"}},    {10, {TRITONSERVER_TYPE_FP16, "TYPE_FP16"}},
    {11, {TRITONSERVER_TYPE_FP64, "TYPE_FP64"}},   {12, {TRITONSERVER_TYPE_UINT32, "TYPE_UINT32"}},
    {13, {TRITONSERVER_TYPE_UINT64, "TYPE_UINT64"}}, {16, {TRITONSERVER_TYPE_BF16, "TYPE_BF16"}},
};

int onnx_type(TRITONSERVER_DataType wanted) {
  for (const auto& [number, type] : kTypes)
    if (type.type == wanted) return number;
  throw Failure("ONNX Runtime has no such element type");
}

Shape read_shape(Handle info) {
  int number = 0;
  size_t rank = 0;
  ask(kGetTensorElementType, info, &number);
  ask(kGetDimensionsCount, info, &rank);
  Shape shape;
  const auto type = kTypes.find(number);
  if (type != kTypes.end()) {
    shape.type = type->second.type;
    shape.type_name = type->second.name;
  } else {
    shape.type_name = "an element type that Triton does not have";
  }
  shape.dims.resize(rank);
  ask(kGetDimensions, info, shape.dims.data(), rank);
  return shape;
}

// The environment of all sessions. They share
// - threads: those of many models, each with threads of its own, would take the cores from each other;
// - one arena, which grows by what is asked for and no more. The one that a session makes for itself doubles each time:
//   after one request for too much memory the next small one takes all that the machine has.
Handle make_environment(int threads) {
  Handle made = nullptr, info = nullptr, arena = nullptr, options = nullptr;
  ask(kCreateThreadingOptions, &options);
  const Owned<kReleaseThreadingOptions> owned_options(options);
  ask(kSetGlobalIntraOpNumThreads, options, threads);
  ask(kSetGlobalInterOpNumThreads, options, 1);
  ask(kSetGlobalSpinControl, options, 0);
  ask(kCreateEnvWithGlobalThreadPools, kWarning, "modelport", options, &made);
  ask(kCreateCpuMemoryInfo, kArenaAllocator, kCpu, &info);
  const Owned<kReleaseMemoryInfo> owned_info(info);
  ask(kCreateArenaCfg, size_t{0}, kAsRequested, kUsual, kUsual, &arena);
  const Owned<kReleaseArenaCfg> owned_arena(arena);
  ask(kCreateAndRegisterAllocator, made, info, arena);
  return made;
}

Handle allocator() {
  Handle found = nullptr;
  ask(kGetAllocatorWithDefaultOptions, &found);
  return found;
}

}  // namespace

void check(Handle status) {
  if (status == nullptr) return;
  const auto message = reinterpret_cast<const char* (*)(Handle)>(const_cast<void*>(table[kGetErrorMessage]));
  const std::string text = message(status);
  call(kReleaseStatus, status);
  throw Failure(text);
}

void open(const std::string& library, int threads) {
  static std::mutex turn;
  const std::lock_guard<std::mutex> hold(turn);
  if (environment != nullptr) return;
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw Failure(std::string("ONNX Runtime does not load: ") + dlerror());
  const auto get_base = reinterpret_cast<const ApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
  if (get_base == nullptr) throw Failure(library + " is not ONNX Runtime");
  const ApiBase* base = get_base();
  version_text = base->get_version();
  table = base->get_api(kApiVersion);
  if (table == nullptr)
    throw Failure("ONNX Runtime " + version_text + " does not serve version " + std::to_string(kApiVersion) +
                  " of its C interface");
  ask(kCreateCpuMemoryInfo, kDeviceAllocator, kCpu, &memory);
  environment = make_environment(threads);
}

std::string version() { return version_text; }

Options::Options() {
  Handle made = nullptr;
  ask(kCreateSessionOptions, &made);
  options_.reset(made);
}
void Options::threads(int intra, int inter) {
  ask(kSetIntraOpNumThreads, get(), intra);
  ask(kSetInterOpNumThreads, get(), inter);
}
void Options::shared_threads() { ask(kDisablePerSessionThreads, get()); }
void Options::parallel(bool wanted) { ask(kSetSessionExecutionMode, get(), wanted ? 1 : 0); }
void Options::level(int onnxruntimes_number) { ask(kSetSessionGraphOptimizationLevel, get(), onnxruntimes_number); }
void Options::arena(bool wanted) { ask(wanted ? kEnableCpuMemArena : kDisableCpuMemArena, get()); }
void Options::pattern(bool wanted) { ask(wanted ? kEnableMemPattern : kDisableMemPattern, get()); }
void Options::entry(const std::string& key, const std::string& value) {
  ask(kAddSessionConfigEntry, get(), key.c_str(), value.c_str());
}
void Options::custom_ops(const std::string& library) {
  void* handle = nullptr;  // stays loaded: the model's operators are in it
  ask(kRegisterCustomOpsLibrary, get(), library.c_str(), &handle);
}

RunOptions::RunOptions() {
  Handle made = nullptr;
  ask(kCreateRunOptions, &made);
  options_.reset(made);
  ask(kRunOptionsSetRunLogSeverityLevel, get(), kFatal);  // a failing request is answered; it does not fill the log too
}
void RunOptions::entry(const std::string& key, const std::string& value) {
  ask(kAddRunConfigEntry, get(), key.c_str(), value.c_str());
}
void RunOptions::stop() { ask(kRunOptionsSetTerminate, get()); }
void RunOptions::go_on() { ask(kRunOptionsUnsetTerminate, get()); }

Session::Session(const std::string& path, const Options& options) {
  Handle made = nullptr;
  ask(kCreateSession, environment, path.c_str(), options.get(), &made);
  session_.reset(made);
}

std::vector<Node> Session::inputs() const {
  return nodes(kSessionGetInputCount, kSessionGetInputName, kSessionGetInputTypeInfo);
}
std::vector<Node> Session::outputs() const {
  return nodes(kSessionGetOutputCount, kSessionGetOutputName, kSessionGetOutputTypeInfo);
}
std::vector<Node> Session::initializers() const {
  return nodes(kSessionGetOverridableInitializerCount, kSessionGetOverridableInitializerName,
               kSessionGetOverridableInitializerTypeInfo);
}

std::vector<Node> Session::nodes(Function count, Function name, Function info) const {
  size_t size = 0;
  ask(count, session_.get(), &size);
  std::vector<Node> found;
  for (size_t i = 0; i < size; ++i) {
    Node node;
    char* text = nullptr;
    ask(name, session_.get(), i, allocator(), &text);
    node.name = text;
    ask(kAllocatorFree, allocator(), text);
    Handle type = nullptr, tensor = nullptr;
    ask(info, session_.get(), i, &type);
    const Owned<kReleaseTypeInfo> owned(type);
    ask(kCastTypeInfoToTensorInfo, type, &tensor);  // belongs to `type`
    if (tensor == nullptr)
      node.shape.type_name = "no tensor";
    else
      node.shape = read_shape(tensor);
    found.push_back(std::move(node));
  }
  return found;
}

std::vector<Value> Session::run(const RunOptions& options, const std::vector<const char*>& input_names,
                                const std::vector<Value>& inputs,
                                const std::vector<const char*>& output_names) const {
  std::vector<Handle> given, made(output_names.size(), nullptr);
  std::vector<Value> values;
  values.reserve(made.size());
  given.reserve(inputs.size());
  for (const Value& value : inputs) given.push_back(value.get());
  const auto run = reinterpret_cast<Handle (*)(Handle, Handle, const char* const*, const Handle*, size_t,
                                               const char* const*, size_t, Handle*)>(const_cast<void*>(table[kRun]));
  check(run(session_.get(), options.get(), input_names.data(), given.data(), given.size(), output_names.data(),
            output_names.size(), made.data()));
  for (const Handle value : made) values.emplace_back(value);
  return values;
}

Value tensor(TRITONSERVER_DataType type, const std::vector<int64_t>& shape, const void* data, size_t bytes) {
  Handle made = nullptr;
  ask(kCreateTensorWithDataAsOrtValue, memory, const_cast<void*>(data), bytes, shape.data(), shape.size(),
      onnx_type(type), &made);
  return Value(made);
}

Value string_tensor(const std::vector<int64_t>& shape, const std::vector<std::string_view>& texts) {
  Handle made = nullptr;
  ask(kCreateTensorAsOrtValue, allocator(), shape.data(), shape.size(), kString, &made);
  Value value(made);
  for (size_t i = 0; i < texts.size(); ++i) {
    char* place = nullptr;
    ask(kGetResizedStringTensorElementBuffer, made, i, texts[i].size(), &place);
    if (!texts[i].empty()) std::memcpy(place, texts[i].data(), texts[i].size());
  }
  return value;
}

Shape shape_of(const Value& tensor) {
  Handle info = nullptr;
  ask(kGetTensorTypeAndShape, tensor.get(), &info);
  const Owned<kReleaseTensorTypeAndShapeInfo> owned(info);
  return read_shape(info);
}

const void* data_of(const Value& tensor) {
  void* data = nullptr;
  ask(kGetTensorMutableData, tensor.get(), &data);
  return data;
}

Texts texts_of(const Value& tensor, size_t count) {
  Texts texts;
  size_t bytes = 0;
  ask(kGetStringTensorDataLength, tensor.get(), &bytes);
  texts.joined.resize(bytes);
  std::vector<size_t> begins(count);
  if (count > 0) ask(kGetStringTensorContent, tensor.get(), texts.joined.data(), bytes, begins.data(), count);
  for (size_t i = 1; i < count; ++i) texts.ends.push_back(begins[i]);
  if (count > 0) texts.ends.push_back(bytes);
  return texts;
}

}  // namespace modelport::ort
