// Ends runs that take too long: a model that loops for ever would hold its instance, and its server, for good.
#pragma once

#include <cstdint>
#include <mutex>

#include "config.h"
#include "runtime.h"

namespace modelport {

constexpr char kLongestRun[] = "modelport_max_run_s";  // 0 lets a run take as long as it wants

// The run of one instance. Its options must live as long.
class Watched {
 public:
  Watched(const Config& config, ort::RunOptions& options);
  ~Watched();
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  void begin();
  bool end();  // whether the run was ended from outside; to be called whatever came of the run
  double longest_s() const { return longest_s_; }

 private:
  friend class Watch;
  void look(double now);

  ort::RunOptions& options_;
  double longest_s_;
  std::mutex turn_;
  double began_ = 0;  // 0 between runs
  bool stopped_ = false;
};

void stop_watching();  // before the library is unloaded

double now_s();     // seconds that only grow
uint64_t now_ns();  // the same in nanoseconds: Triton's clock

}  // namespace modelport
