#include "line.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "failure.h"

namespace modelport {

namespace {
constexpr int kLongestWaitMs = 750;
constexpr int kLeastRuns = 4;        // so many runs' worth of requests may always wait
constexpr double kLookS = 0.1;       // between two looks at the line
constexpr double kPauseS = 0.005;    // an instance that waited longer for its next request, and longer than it ran, is not busy
constexpr double kBlindS = 10;       // after a look that failed
constexpr int64_t kChunk = 64;       // so many are refused before the next look: other instances refuse as well
constexpr char kGauge[] = "nv_inference_pending_request_count";
}  // namespace

Line::Line(const Config& config, std::function<int64_t()> waiting)
    : waiting_(std::move(waiting)),
      wait_s_((config.parameters.count(kLongestWait) ? config.number(kLongestWait) : kLongestWaitMs) / 1000.0),
      least_(kLeastRuns * std::max(1, config.max_batch_size) * std::max(1, config.instances)),
      instances_(std::max(1, config.instances)),
      bounded_(wait_s_ > 0 && !config.queue_policy) {}

bool Line::refuses(int count, double now) {
  if (!bounded_) return false;
  if (now - ended_ > std::max(kPauseS, ran_s_)) {
    busy_since_ = now;
    excess_ = 0;
    cutting_ = false;
  }
  if (excess_ <= 0 && now - busy_since_ >= kLookS && now >= next_look_) look(now);
  if (excess_ <= 0) return false;
  excess_ -= count;
  ended_ = now;
  return true;
}

void Line::answered(int count, double began, double ended) {
  ended_ = ended;
  ran_s_ = ended - began;
  const double rate = count / std::max(ran_s_, 1e-6);
  rate_ = rate_ > 0 ? 0.8 * rate_ + 0.2 * rate : rate;
}

void Line::look(double now) {
  const int64_t waiting = waiting_();
  if (waiting < 0) {
    next_look_ = now + kBlindS;
    return;
  }
  const double most = std::max(least_, wait_s_ * rate_ * instances_);
  const int64_t excess = waiting > most || cutting_ ? static_cast<int64_t>(waiting - most / 2) : 0;
  excess_ = std::min(excess, std::max(kChunk, excess / 4));
  cutting_ = excess > excess_;
  next_look_ = cutting_ ? now : now + kLookS;
}

int64_t waiting_requests(TRITONSERVER_Server* server, const std::string& model, const std::string& version) {
  TRITONSERVER_Metrics* metrics = nullptr;
  if (TRITONSERVER_Error* error = TRITONSERVER_ServerMetrics(server, &metrics)) {
    TRITONSERVER_ErrorDelete(error);
    return -1;
  }
  const char* base = nullptr;
  size_t size = 0;
  int64_t waiting = -1;
  if (TRITONSERVER_Error* error = TRITONSERVER_MetricsFormatted(metrics, TRITONSERVER_METRIC_PROMETHEUS, &base, &size)) {
    TRITONSERVER_ErrorDelete(error);
  } else {
    const std::string begin = std::string(kGauge) + "{model=\"" + model + "\",version=\"" + version + "\"} ";
    const std::string_view text(base, size);
    const size_t at = text.find(begin);
    if (at != std::string_view::npos)
      waiting = std::llround(std::strtod(std::string(text.substr(at + begin.size(), 32)).c_str(), nullptr));
  }
  TRITONSERVER_MetricsDelete(metrics);
  return waiting;
}

}  // namespace modelport
