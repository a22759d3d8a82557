-- The gate: what a caller may ask, checked before Triton sees it. Runs inside Envoy, once for each request and answer.
-- It is one program, in parts for its readers (filters.py joins them): each uses only what stands before it.
--
-- DATA (rendered in front of it, see gate_data.py) says what is served, who may ask for it, and by which shares.
-- A request that it does not let through has no route: Envoy's routes want the header PASS with DATA.secret, which
-- changes with each rendering. So a fault in here refuses, and never lets through.

local ffi = require("ffi")
ffi.cdef("size_t strcspn(const uint8_t *text, const char *stops);")
local strcspn = ffi.C.strcspn -- finds what counts among numbers and letters ten times faster than a loop in Lua

local PASS, MARK = "x-modelport-pass", "modelport"
local TEXT = {
  forbidden = "this key does not allow that",
  not_found = "there is nothing here",
  internal = "the model could not answer",
  overloaded = "the server has more requests than it can answer",
  unavailable = "the server does not answer",
  timeout = "the answer took too long",
  quota = "the quota of this day is used up",
}
local STATUS = { bad_request = "400", forbidden = "403", not_found = "404", too_large = "413", unsupported = "415" }
local GRPC_STATUS = { bad_request = "3", timeout = "4", not_found = "5", forbidden = "7", too_large = "8",
                      unsupported = "12", overloaded = "14", unavailable = "14", unauthorized = "16",
                      concurrency_limited = "8" }
local DIM_MOST, RANK_MOST, TENSORS_MOST, VERSION_MOST = 2147483647, 64, 4096, 2147483647
local METHODS = { ModelInfer = "infer", ModelReady = "ready", ModelMetadata = "metadata",
                  ServerLive = "server", ServerReady = "server" }
local SERVER = { ["/v2/health/live"] = true, ["/v2/health/ready"] = true }
-- What Triton gets of a caller's headers; all others end here, its own restricted ones and `x-envoy-` among them.
local KEPT = { ["content-type"] = true, ["content-length"] = true, ["inference-header-content-length"] = true,
               ["te"] = true, ["x-request-id"] = true, ["x-forwarded-proto"] = true }

local CAPTURED_MOST = 16777216 -- bytes of an answer
local PENDING_MOST, PENDING_BYTES, PENDING_S = 1024, 67108864, 300
-- Requests that are copied or captured when a server has answered them, by their ids; and these ids, the oldest first.
-- Where there are too many, they are too large together, or no answer came for long, the oldest go.
local pending, pending_count, pending_bytes = {}, 0, 0
local turns, turn_first, turn_last = {}, 1, 0

-- Each of Envoy's threads draws lots of its own, and others after each rendering.
local seed = 0
local random = io.open("/dev/urandom", "rb")
for _, byte in ipairs({ (random and random:read(6) or tostring(os.time()) .. tostring({})):byte(1, -1) }) do
  seed = (seed * 256 + byte) % 9007199254740881
end
if random then random:close() end
math.randomseed(seed)

-- A refusal: Envoy makes the JSON, or the gRPC status, from it (listener.py).
local function refuse(handle, code, text)
  handle:streamInfo():dynamicMetadata():set(MARK, "code", code)
  local said = (text or TEXT[code]):gsub("[^\32-\126]", "?")
  handle:respond({ [":status"] = STATUS[code] }, said)
end

local function bad(text) return { code = "bad_request", text = text } end
