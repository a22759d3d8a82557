// The backend `onnxruntime` of the embedded server: what Triton calls. It serves an unmodified `backend: "onnxruntime"`
// model as the compiled backend of the official container does, in the server's own process.
#include <string>

#include "answer.h"
#include "failure.h"
#include "texts.h"

namespace {

using modelport::check;
using modelport::Failure;
using modelport::Instance;
using modelport::Json;
using modelport::Model;

// Runs a part of the backend; what it throws becomes Triton's error.
template <class Part>
TRITONSERVER_Error* guarded(Part part) {
  try {
    part();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.error();
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, error.what());
  } catch (...) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, "an exception of an unknown kind");
  }
}

std::string text(TRITONSERVER_Message* message) {
  const char* base = nullptr;
  size_t size = 0;
  check(TRITONSERVER_MessageSerializeToJson(message, &base, &size));
  return std::string(base, size);
}

// The model's configuration as Triton has it, in JSON.
std::string config_text(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message = nullptr;
  check(TRITONBACKEND_ModelConfig(model, 1, &message));
  std::string config;
  TRITONSERVER_Error* error = guarded([&] { config = text(message); });
  modelport::ignore(TRITONSERVER_MessageDelete(message));
  check(error);
  return config;
}

// Lets Triton's batcher join requests of different sizes, for this model: they are filled up here. The configuration in
// the repository does not say so, for the official container's backend would join them end to end.
void let_sizes_differ(TRITONBACKEND_Model* model) {
  const std::string equal = "\"allow_ragged_batch\":false", differ = "\"allow_ragged_batch\":true";
  std::string config = config_text(model);
  for (size_t at = config.find(equal); at != std::string::npos; at = config.find(equal, at + differ.size()))
    config.replace(at, equal.size(), differ);
  TRITONSERVER_Message* message = nullptr;
  check(TRITONSERVER_MessageNewFromSerializedJson(&message, config.data(), config.size()));
  TRITONSERVER_Error* error = TRITONBACKEND_ModelSetConfig(model, 1, message);
  modelport::ignore(TRITONSERVER_MessageDelete(message));
  check(error);
}

std::shared_ptr<Model>* model_of(TRITONBACKEND_Model* model) {
  void* state = nullptr;
  check(TRITONBACKEND_ModelState(model, &state));
  return static_cast<std::shared_ptr<Model>*>(state);
}

Instance* instance_of(TRITONBACKEND_ModelInstance* instance) {
  void* state = nullptr;
  check(TRITONBACKEND_ModelInstanceState(instance, &state));
  return static_cast<Instance*>(state);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* backend) {
  return guarded([&] {
    uint32_t major = 0, minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != 1) throw Failure("this backend was made for version 1 of Triton's backend interface");
    TRITONSERVER_Message* message = nullptr;  // belongs to the backend
    check(TRITONBACKEND_BackendConfig(backend, &message));
    modelport::ort::open(Json::read(text(message))["cmdline"]["library"].text(), modelport::cores());
  });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend*) {
  return guarded([] { modelport::stop_watching(); });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([&] {
    const char* name = nullptr;
    const char* folder = nullptr;
    uint64_t version = 0;
    TRITONBACKEND_ArtifactType type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
    TRITONSERVER_Server* server = nullptr;
    check(TRITONBACKEND_ModelName(model, &name));
    check(TRITONBACKEND_ModelVersion(model, &version));
    check(TRITONBACKEND_ModelRepository(model, &type, &folder));
    check(TRITONBACKEND_ModelServer(model, &server));
    auto config = modelport::read_config(name, std::to_string(version), folder, Json::read(config_text(model)));
    if (config.fills_up()) let_sizes_differ(model);
    auto state = std::make_unique<std::shared_ptr<Model>>(std::make_shared<Model>(server, std::move(config)));
    check(TRITONBACKEND_ModelSetState(model, state.get()));
    state.release();
  });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded([&] { delete model_of(model); });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] {
    TRITONBACKEND_Model* model = nullptr;
    TRITONSERVER_InstanceGroupKind kind = TRITONSERVER_INSTANCEGROUPKIND_CPU;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    try {
      if (kind == TRITONSERVER_INSTANCEGROUPKIND_GPU) (*model_of(model))->without_gpu();
      auto state = std::make_unique<Instance>(instance, *model_of(model));
      check(TRITONBACKEND_ModelInstanceSetState(instance, state.get()));
      state.release();
    } catch (const Failure& failure) {
      throw Failure(modelport::plain(failure.what()));
    }
  });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] { delete instance_of(instance); });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, const uint32_t count) {
  return guarded([&] { instance_of(instance)->execute(requests, count); });
}
