#include "model.h"

#include <algorithm>

#include "failure.h"

namespace modelport {

namespace {

constexpr char kShrinkage[] = "memory.enable_memory_arena_shrinkage";
constexpr char kDeviceAllocator[] = "session.use_device_allocator_for_initializers";

struct Level {
  int triton, onnxruntime;
  const char* name;
};
constexpr Level kAll = {0, 99, "ORT_ENABLE_ALL"};
constexpr Level kLevels[] = {
    {-1, 1, "ORT_ENABLE_BASIC"}, kAll, {1, 2, "ORT_ENABLE_EXTENDED"}, {2, 0, "ORT_DISABLE_ALL"}};

Level graph_level(const Json& optimization) {
  const auto wanted = optimization["graph"]["level"].number();
  for (const Level& level : kLevels)
    if (level.triton == wanted) return level;
  return kAll;
}

// Accelerators are refused as the compiled backend of the official container refuses them. The library that the Python
// package for the processor ships has none, and the answers are the same without.
void check_accelerators(const Config& config) {
  const Json& wanted = config.optimization["execution_accelerators"];
  const auto check = [&](const char* key, const std::vector<std::string>& known) {
    for (const Json& item : wanted[key].items()) {
      const std::string name = item["name"].text();
      if (std::find(known.begin(), known.end(), name) == known.end())
        throw Failure("unknown Execution Accelerator '" + name + "' is requested");
      if (name == "openvino")
        warn("model '" + config.name + "': the installed onnxruntime has no OpenVINOExecutionProvider; "
             "the answers come without it");
    }
  };
  check("gpu_execution_accelerator", {"cuda", "tensorrt"});
  check("cpu_execution_accelerator", {"openvino"});
}

// Whether a text is such as cpu:0;gpu:1.
bool names_devices(const std::string& text) {
  for (size_t at = 0;; ++at) {
    const std::string device = text.substr(at, 4);
    const size_t end = std::min(text.find(';', at), text.size());
    if ((device != "cpu:" && device != "gpu:") || end == at + 4 || text.find_first_not_of("0123456789", at + 4) < end)
      return false;
    if (end == text.size()) return true;
    at = end;
  }
}

const ort::Node* find(const std::vector<ort::Node>& nodes, const std::string& name) {
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const ort::Node& node) { return node.name == name; });
  return found == nodes.end() ? nullptr : &*found;
}

// Throws Failure unless a tensor of the configuration is one of the model's.
void compare_tensor(const Io& io, const std::vector<ort::Node>& nodes, const std::string& word, bool exact) {
  const ort::Node* node = find(nodes, io.name);
  if (node == nullptr) {
    std::set<std::string> sorted;
    for (const ort::Node& known : nodes) sorted.insert(known.name);
    std::string names;
    for (const std::string& name : sorted) names += (names.empty() ? "" : ", ") + name;
    throw Failure("unexpected " + word + " '" + io.name + "', the model's are: " + names);
  }
  if (node->shape.type_name != io.type)
    throw Failure("configuration expects datatype " + io.type + " for " + word + " '" + io.name + "', model provides " +
                  node->shape.type_name);
  std::vector<int64_t> shape = node->shape.dims;
  for (int64_t& dim : shape) dim = std::max<int64_t>(dim, -1);
  if (shape.empty()) {
    if (io.batched || std::any_of(io.dims.begin(), io.dims.end(), [](int64_t dim) { return dim != 1; }))
      throw Failure(word + " '" + io.name + "' is a scalar in the model, so max_batch_size must be 0 and its dims [ 1 ]");
    return;
  }
  if (io.batched && shape[0] != -1)
    throw Failure("tensor '" + io.name + "': for the model to support batching its first dimension must vary, " +
                  "but the model's shape is " + shape_text(shape));
  const std::vector<int64_t> full = io.full_dims();
  const auto fits = [&](int64_t want, int64_t got) { return want == got || (want == -1 && !exact); };
  if (!std::equal(shape.begin(), shape.end(), full.begin(), full.end(), fits))
    throw Failure("tensor '" + io.name + "': the model expects shape " + shape_text(shape) +
                  ", but the model configuration specifies " + shape_text(full));
}

const char* python_bool(bool value) { return value ? "True" : "False"; }

}  // namespace

Model::Model(TRITONSERVER_Server* server, Config given) : server(server), config(std::move(given)) {
  check_accelerators(config);
  const int intra = config.number("intra_op_thread_count"), inter = config.number("inter_op_thread_count");
  const int mode = config.number("execution_mode");
  if (mode != 0 && mode != 1)
    throw Failure("parameter 'execution_mode' is '" + std::to_string(mode) +
                  "'; it must be 0 (sequential) or 1 (parallel)");
  parallel_ = mode == 1;
  intra_ = intra > 0 ? intra : config.threads();
  inter_ = inter > 0 ? inter : config.threads();
  pooled_ = intra <= 0 && config.instances <= 1 && intra_ > 1 && !parallel_;
  run_options();  // refuses a wrong parameter
}

void Model::without_gpu() const {
  const std::string reason = "the installed onnxruntime has no CUDAExecutionProvider";
  if (config.gpu_only)
    throw Failure("instance_group is KIND_GPU, but " + reason + "; with KIND_AUTO the model runs on the CPU");
  warn("model '" + config.name + "': " + reason + "; it runs on the CPU");
}

std::shared_ptr<const Opened> Model::session() {
  const std::lock_guard<std::mutex> hold(turn_);
  if (intra_ > 1) return open();  // a session's threads serve one run at a time well
  std::shared_ptr<const Opened> found = shared_.lock();
  if (found == nullptr) shared_ = found = open();
  return found;
}

std::unique_ptr<ort::RunOptions> Model::run_options() const {
  auto options = std::make_unique<ort::RunOptions>();
  const auto found = config.parameters.find(kShrinkage);
  if (found != config.parameters.end()) {
    if (!names_devices(found->second))
      throw Failure(std::string("parameter '") + kShrinkage + "' is '" + found->second +
                    "'; it must look like 'cpu:0' or 'cpu:0;gpu:0'");
    options->entry(kShrinkage, found->second);
  }
  return options;
}

ort::Options Model::options() const {
  ort::Options options;
  options.level(graph_level(config.optimization).onnxruntime);
  options.parallel(parallel_);
  options.threads(intra_, inter_);
  if (pooled_) options.shared_threads();
  // Threads that spin while they wait take the cores from Triton's own threads.
  options.entry("session.intra_op.allow_spinning", "0");
  options.entry("session.inter_op.allow_spinning", "0");
  const bool arena = config.flag("enable_mem_arena").value_or(true);
  options.arena(arena);
  if (arena) options.entry("session.use_env_allocators", "1");
  options.pattern(config.flag("enable_mem_pattern").value_or(true));
  if (config.parameters.count(kDeviceAllocator)) options.entry(kDeviceAllocator, config.parameters.at(kDeviceAllocator));
  for (const std::string& library : config.op_libraries) options.custom_ops(library);
  return options;
}

std::shared_ptr<const Opened> Model::open() const {
  ort::Session session(config.file, options());
  std::set<std::string> scalars = compare(session);
  log("onnxruntime " + ort::version() + ", model '" + config.name + "' version " + config.version + ": graph level " +
      graph_level(config.optimization).name + ", " + (parallel_ ? "ORT_PARALLEL" : "ORT_SEQUENTIAL") + ", " +
      std::to_string(intra_) + " intra-op threads, " + std::to_string(inter_) + " inter-op threads, memory arena " +
      python_bool(config.flag("enable_mem_arena").value_or(true)) + ", memory pattern " +
      python_bool(config.flag("enable_mem_pattern").value_or(true)) + ", providers CPUExecutionProvider");
  return std::make_shared<const Opened>(Opened{std::move(session), std::move(scalars)});
}

std::set<std::string> Model::compare(const ort::Session& session) const {
  const std::vector<ort::Node> inputs = session.inputs(), outputs = session.outputs();
  std::vector<ort::Node> known = session.initializers();
  const auto required = std::count_if(config.inputs.begin(), config.inputs.end(), [](const Io& io) { return !io.optional; });
  if (static_cast<size_t>(required) != inputs.size())
    throw Failure("configuration expects " + std::to_string(required) + " inputs, model provides " +
                  std::to_string(inputs.size()));
  known.insert(known.end(), inputs.begin(), inputs.end());
  std::set<std::string> scalars;
  for (const Io& io : config.inputs) {
    if (io.optional && io.batched)
      throw Failure("optional input '" + io.name + "' is not supported for models that support batching");
    compare_tensor(io, known, "input", false);
    if (!io.full_dims().empty() && find(known, io.name)->shape.dims.empty()) scalars.insert(io.name);
  }
  for (const Io& io : config.outputs) {
    compare_tensor(io, outputs, "output", true);
    if (!io.full_dims().empty() && find(outputs, io.name)->shape.dims.empty()) scalars.insert(io.name);
  }
  return scalars;
}

}  // namespace modelport
