// Preloaded into Triton's server, so that a cancelled call over gRPC cannot end it.
//
// Triton before 25.02 crashes or freezes when a cancellation meets a request that finishes
// (https://github.com/triton-inference-server/server/issues/8034). A cancellation is an HTTP/2 frame, RST_STREAM, with a
// payload of four bytes. Here it becomes a WINDOW_UPDATE of one byte for the same stream, which has the same size and does
// nothing: the call is answered, and who cancelled it drops the answer. A stream whose request has not come as a whole is
// left to be cancelled: no inference runs for it.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <set>

namespace {

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kPrefaceSize = sizeof kPreface - 1, kHeader = 9;
constexpr int kSockets = 65536;
constexpr uint8_t kData = 0, kHeaders = 1, kReset = 3, kWindowUpdate = 8, kEndStream = 1;

struct Connection {
  size_t preface = 0;        // bytes of it seen
  uint8_t header[kHeader];
  size_t have = 0;           // bytes of the header seen
  uint32_t left = 0;         // bytes of the payload to come
  bool turned = false;       // the frame is one that was turned
  uint32_t at = 0;           // in the payload of a turned frame
  std::set<uint32_t> incomplete;  // streams whose request has not come as a whole
};

// By descriptor; each connection is read by one thread at a time.
Connection* connections[kSockets];

uint32_t number(const uint8_t* bytes, int count) {
  uint32_t value = 0;
  for (int at = 0; at < count; ++at) value = (value << 8) | bytes[at];
  return value;
}

// A whole header; `type` is its fourth byte where it can still be changed.
void framed(Connection& one, uint8_t* type) {
  const uint8_t* header = one.header;
  one.left = number(header, 3);
  one.turned = false;
  one.at = 0;
  const uint32_t stream = number(header + 5, 4) & 0x7fffffffu;
  const bool ends = (header[4] & kEndStream) != 0;
  if (header[3] == kHeaders && !ends) one.incomplete.insert(stream);
  if ((header[3] == kHeaders || header[3] == kData) && ends) one.incomplete.erase(stream);
  if (header[3] == kReset && one.left == 4 && one.incomplete.erase(stream) == 0 && type != nullptr) {
    *type = kWindowUpdate;
    one.turned = true;
  }
}

// Whether it may still be HTTP/2.
bool read_part(Connection& one, uint8_t* data, size_t size) {
  uint8_t* const end = data + size;
  uint8_t* type = nullptr;
  while (data < end) {
    if (one.preface < kPrefaceSize) {
      if (*data++ != static_cast<uint8_t>(kPreface[one.preface++])) return false;
    } else if (one.left > 0) {
      if (one.turned) {
        *data++ = one.at++ == 3 ? 1 : 0;
        --one.left;
      } else {
        const size_t here = static_cast<size_t>(end - data);
        const size_t skip = here < one.left ? here : one.left;
        data += skip;
        one.left -= static_cast<uint32_t>(skip);
      }
    } else {
      if (one.have == 3) type = data;
      one.header[one.have++] = *data++;
      if (one.have == kHeader) {
        one.have = 0;
        framed(one, type);
        type = nullptr;
      }
    }
  }
  return true;
}

void forget(int socket) {
  if (socket < 0 || socket >= kSockets) return;
  delete connections[socket];
  connections[socket] = nullptr;
}

template <typename F>
F real(const char* name) { return reinterpret_cast<F>(dlsym(RTLD_NEXT, name)); }

}  // namespace

extern "C" __attribute__((visibility("default"))) int accept4(int listener, sockaddr* from, socklen_t* size, int flags) {
  static const auto next = real<int (*)(int, sockaddr*, socklen_t*, int)>("accept4");
  const int socket = next(listener, from, size, flags);
  if (socket >= 0 && socket < kSockets) {
    forget(socket);
    connections[socket] = new Connection;
  }
  return socket;
}

extern "C" __attribute__((visibility("default"))) ssize_t recvmsg(int socket, msghdr* message, int flags) {
  static const auto next = real<ssize_t (*)(int, msghdr*, int)>("recvmsg");
  const ssize_t got = next(socket, message, flags);
  if (socket < 0 || socket >= kSockets || connections[socket] == nullptr || (flags & MSG_PEEK) != 0) return got;
  if (got == 0 && message->msg_iovlen > 0) forget(socket);
  if (got <= 0) return got;
  size_t left = static_cast<size_t>(got);
  for (size_t part = 0; part < message->msg_iovlen && left > 0; ++part) {
    const size_t here = message->msg_iov[part].iov_len < left ? message->msg_iov[part].iov_len : left;
    if (!read_part(*connections[socket], static_cast<uint8_t*>(message->msg_iov[part].iov_base), here)) {
      forget(socket);
      break;
    }
    left -= here;
  }
  return got;
}
