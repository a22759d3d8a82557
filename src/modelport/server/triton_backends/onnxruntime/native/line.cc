#include "line.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "failure.h"
#include "watch.h"

namespace modelport {

namespace {
constexpr int kLongestWaitMs = 750;
constexpr int kLeastRuns = 4;        // so many runs' worth of requests may always wait
constexpr double kLookS = 0.1;       // between two looks at the line
constexpr double kLookPart = 20;     // a look may take one part in so many of the time
constexpr double kPauseS = 0.005;    // an instance that waited longer for its next request, and longer than it ran, is not busy
constexpr double kBlindS = 10;       // after a look that failed
constexpr int64_t kChunk = 64;       // so many are refused before the next look: other instances refuse as well
constexpr char kGauge[] = "nv_inference_pending_request_count{";

// The gauge's value in the line that ends its labels with `labels`; those of `metric_tags` come before. -1 without one.
int64_t read_gauge(std::string_view text, const std::string& labels) {
  for (size_t at = text.find(kGauge); at != std::string_view::npos; at = text.find(kGauge, at + 1)) {
    const std::string_view line = text.substr(at, text.find('\n', at) - at);
    const size_t found = line.find(labels);
    if (found != std::string_view::npos)
      return std::llround(std::strtod(std::string(line.substr(found + labels.size())).c_str(), nullptr));
  }
  return -1;
}
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
  const auto line = static_cast<double>(waiting);
  const double most = std::max(least_, wait_s_ * rate_ * instances_);
  const int64_t excess = line > most || cutting_ ? static_cast<int64_t>(line - most / 2) : 0;
  excess_ = std::min(excess, std::max(kChunk, excess / 4));
  cutting_ = excess > excess_;
  const double done = now_s();
  next_look_ = cutting_ ? done : done + std::max(kLookS, kLookPart * (done - now));
}

int64_t waiting_requests(TRITONSERVER_Server* server, const std::string& model, const std::string& version) {
  TRITONSERVER_Metrics* metrics = nullptr;
  if (TRITONSERVER_Error* error = TRITONSERVER_ServerMetrics(server, &metrics)) {
    ignore(error);
    return -1;
  }
  const char* base = nullptr;
  size_t size = 0;
  int64_t waiting = -1;
  if (TRITONSERVER_Error* error = TRITONSERVER_MetricsFormatted(metrics, TRITONSERVER_METRIC_PROMETHEUS, &base, &size))
    ignore(error);
  else
    waiting = read_gauge(std::string_view(base, size), "model=\"" + model + "\",version=\"" + version + "\"} ");
  ignore(TRITONSERVER_MetricsDelete(metrics));
  return waiting;
}

}  // namespace modelport
