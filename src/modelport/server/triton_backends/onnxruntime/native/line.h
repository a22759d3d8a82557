// How long the line of waiting requests may get before a model, and who is refused when it is longer. The reasons are in
// `modelport_line.py`, which does the same for the backends in Python: Triton's own limits turn off its prefetching.
#pragma once

#include <cstdint>
#include <functional>

#include "config.h"
#include "triton.h"

namespace modelport {

constexpr char kLongestWait[] = "modelport_max_wait_ms";  // 0 leaves the line unbounded

class Line {
 public:
  // `waiting` tells how many requests wait for the model, or -1 when it cannot.
  Line(const Config& config, std::function<int64_t()> waiting);

  // Whether the requests of a call that begins now are refused. `now` is in seconds that only grow.
  bool refuses(int count, double now);
  // A call with `count` requests was answered.
  void answered(int count, double began, double ended);

 private:
  void look(double now);

  const std::function<int64_t()> waiting_;
  double wait_s_;
  double least_;
  int instances_;
  bool bounded_;
  bool cutting_ = false;
  double rate_ = 0;  // requests per second of one instance
  double ran_s_ = 0, busy_since_ = 0, ended_ = 0, next_look_ = 0;
  int64_t excess_ = 0;  // requests still to refuse
};

// How many requests wait for a version of a model, from Triton's own metrics; -1 when they do not tell.
int64_t waiting_requests(TRITONSERVER_Server* server, const std::string& model, const std::string& version);

}  // namespace modelport
