// A model as its configuration wants it: opened, and compared with the configuration.
#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "config.h"
#include "runtime.h"

namespace modelport {

// A model's file as ONNX Runtime holds it.
struct Opened {
  ort::Session session;
  std::set<std::string> scalars;  // inputs and outputs that have no axis in the model, and one in the configuration
};

class Model {
 public:
  // Throws Failure for what this backend does not serve.
  Model(TRITONSERVER_Server* server, Config config);

  // The session of a new instance. Instances that run on one thread each share one, and its memory.
  // Throws Failure where the file is no model, or not the configuration's.
  std::shared_ptr<const Opened> session();

  // Warns that an instance on a GPU runs on the CPU. Throws Failure where the configuration says that it must not.
  void without_gpu() const;

  // Options for the runs of one instance.
  std::unique_ptr<ort::RunOptions> run_options() const;

  TRITONSERVER_Server* const server;
  const Config config;

 private:
  std::shared_ptr<const Opened> open() const;
  ort::Options options() const;
  std::set<std::string> compare(const ort::Session& session) const;

  std::mutex turn_;
  std::weak_ptr<const Opened> shared_;
  bool parallel_ = false;  // nodes that do not depend on each other run at once
  bool pooled_ = false;    // runs on the threads that all models share
  int intra_ = 1, inter_ = 1;
};

}  // namespace modelport
