-- The gate: what a caller may ask, checked before Triton sees it. Runs inside Envoy, once for each request and answer.
--
-- DATA (rendered in front of this file, see gate_data.py) says what is served, who may ask for it, and by which shares.
-- A request that this file does not let through has no route: Envoy's routes want the header PASS with DATA.secret, which
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
local DIM_MOST, RANK_MOST, TENSORS_MOST = 2147483647, 64, 4096
local METHODS = { ModelInfer = "infer", ModelReady = "ready", ModelMetadata = "metadata",
                  ServerLive = "server", ServerReady = "server" }
local SERVER = { ["/v2/health/live"] = true, ["/v2/health/ready"] = true }
-- What Triton gets of a caller's headers; all others end here, its own restricted ones and `x-envoy-` among them.
local KEPT = { ["content-type"] = true, ["content-length"] = true, ["inference-header-content-length"] = true,
               ["te"] = true, ["x-request-id"] = true, ["x-forwarded-proto"] = true }

local CAPTURED_MOST = 16777216 -- bytes of an answer
local PENDING_MOST = 32
local pending, pending_count = {}, 0 -- requests that are captured, until their answer comes, by their ids
local turns, turn = {}, 0 -- these ids; where there are too many, the oldest goes

-- A refusal: Envoy makes the JSON, or the gRPC status, from it (listener.py).
local function refuse(handle, code, text)
  handle:streamInfo():dynamicMetadata():set(MARK, "code", code)
  local said = (text or TEXT[code]):gsub("[^\32-\126]", "?")
  handle:respond({ [":status"] = STATUS[code] }, said)
end

local function bad(text) return { code = "bad_request", text = text } end

-- ---------------------------------------------------------------------------------------------- what a request asks

-- What a path over HTTP asks for: model, version, kind; nil where it is nothing that callers may ask for.
local function asked_by_path(method, path)
  path = path:match("^[^?#]*")
  if SERVER[path] then
    if method == "GET" then return { kind = "server", path = path } end
    return nil
  end
  if path == "/v2/openapi.json" and method == "GET" then return { kind = "openapi" } end
  local model, rest = path:match("^/v2/models/([%w][%w._-]*)(.*)$")
  if not model or model:find("..", 1, true) then return nil end
  local version, tail = rest:match("^/versions/([%w][%w._-]*)(.*)$")
  if not version then version, tail = "", rest end
  if tail == "/infer" and method == "POST" then return { kind = "infer", model = model, version = version } end
  if tail == "/ready" and method == "GET" then return { kind = "ready", model = model, version = version } end
  if tail == "" and method == "GET" then return { kind = "metadata", model = model, version = version } end
  if rest == "/openapi.json" and method == "GET" then return { kind = "openapi", model = model } end
  return nil
end

-- The bytes of a body, read through a window: what is skipped is never copied out of Envoy's buffer.
local WINDOW = 4096
local function reader(body)
  local length, chunk, base = body:length(), "", 0
  local self = { length = length }
  function self.byte(at)
    if at < base or at >= base + #chunk then
      base = at
      chunk = body:getBytes(base, math.min(WINDOW, length - base))
    end
    return chunk:byte(at - base + 1)
  end
  function self.bytes(at, count) return count == 0 and "" or body:getBytes(at, count) end
  return self
end

-- A varint: exact up to 2^53, beyond that about as large as it is (a negative one is about 2^64); nil where the bytes end.
local function varint(byte, at, stop)
  local value, factor = 0, 1
  for _ = 1, 10 do
    if at >= stop then return nil end
    local one = byte(at)
    at = at + 1
    value = value + (one % 128) * factor
    factor = factor * 128
    if one < 128 then return value, at end
  end
  return nil
end

-- Calls visit(field, wire type, start or value, stop) for each field of a message; false where it is malformed. A tag of
-- more than 32 bits is: protobuf's own reader drops the upper ones, and would see a field that was not seen here.
local function fields(byte, at, stop, visit)
  while at < stop do
    local tag, size
    tag, at = varint(byte, at, stop)
    if not tag or tag < 8 or tag >= 4294967296 then return false end
    local field, wire = math.floor(tag / 8), tag % 8
    if wire == 0 then
      size, at = varint(byte, at, stop)
      if not size then return false end
      visit(field, wire, size)
    elseif wire == 2 then
      size, at = varint(byte, at, stop)
      if not size or at + size > stop then return false end
      visit(field, wire, at, at + size)
      at = at + size
    elseif wire == 1 or wire == 5 then
      at = at + (wire == 1 and 8 or 4)
      if at > stop then return false end
      visit(field, wire, at)
    else
      return false
    end
  end
  return true
end

local function packed(byte, at, stop, into)
  while at < stop do
    local value
    value, at = varint(byte, at, stop)
    if not value or #into >= RANK_MOST then return false end
    into[#into + 1] = value
  end
  return true
end

-- An input or an output of a message: name, datatype, shape, and whether it is to be in shared memory.
local function grpc_tensor(source, at, stop, is_output)
  local tensor = { shape = {} }
  local parameters = is_output and 2 or 4
  local whole = fields(source.byte, at, stop, function(field, wire, first, last)
    if field == parameters and wire == 2 then
      if source.bytes(first, last - first):find("shared_memory", 1, true) then tensor.shared = true end
    elseif field == 1 and wire == 2 then
      tensor.name = source.bytes(first, math.min(last - first, 1024))
    elseif field == 2 and wire == 2 then
      tensor.datatype = source.bytes(first, math.min(last - first, 64))
    elseif field == 3 and (wire == 0 or wire == 2) then
      if wire == 2 then
        if not packed(source.byte, first, last, tensor.shape) then tensor.broken = true end
      elseif #tensor.shape < RANK_MOST then
        tensor.shape[#tensor.shape + 1] = first
      else
        tensor.broken = true
      end
    end
  end)
  if not whole or tensor.broken then return nil end
  return tensor
end

-- What a gRPC message asks for. The same field twice is refused: who reads which one is nobody's to guess.
local function asked_by_message(body, method)
  local kind = METHODS[method]
  local source = body and reader(body) or { length = 0 }
  if source.length < 5 then return bad("the message is empty") end
  if source.byte(0) ~= 0 then return { code = "unsupported", text = "compressed messages are not taken" } end
  local b1, b2, b3, b4 = source.byte(1), source.byte(2), source.byte(3), source.byte(4)
  if ((b1 * 256 + b2) * 256 + b3) * 256 + b4 ~= source.length - 5 then
    return bad("the message is not as long as it says")
  end
  if kind == "server" then return { kind = kind } end
  local asked = { kind = kind, version = "", inputs = {} }
  local seen, broken, tensors, raw = {}, nil, 0, 0
  local whole = fields(source.byte, 5, source.length, function(field, wire, first, last)
    if (field == 1 or field == 2) and wire == 2 then
      if seen[field] then broken = "a name or version is given twice" end
      if last - first > 255 then broken = "a name or version is too long" return end
      seen[field] = true
      asked[field == 1 and "model" or "version"] = source.bytes(first, last - first)
    elseif kind == "infer" and (field == 5 or field == 6) and wire == 2 then
      tensors = tensors + 1
      local tensor = tensors <= TENSORS_MOST and grpc_tensor(source, first, last, field == 6) or nil
      if not tensor then broken = "a tensor cannot be read"
      elseif tensor.shared then broken = "shared memory is not for callers of the gateway"
      elseif field == 5 then asked.inputs[#asked.inputs + 1] = tensor end
    elseif kind == "infer" and field == 7 and wire == 2 then
      raw = raw + 1
    end
  end)
  if not whole then return bad("the message cannot be read") end
  if raw > #asked.inputs then broken = broken or "there is more data than inputs" end
  if broken then return bad(broken) end
  if not asked.model or not asked.model:match("^[%w][%w._-]*$") then return bad("the message names no model") end
  return asked
end

-- ------------------------------------------------------------------------------------------------ JSON over HTTP

local QUOTE, BACKSLASH, COLON = 34, 92, 58
local OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125
local MARKS, IN_STRING = '[]{}"NI', '"\\' -- N and I: of NaN and Infinity, which are no JSON but which Triton takes
local SHARED, TWICE = "shared memory is not for callers of the gateway", "the %s of an input is given twice"

-- Where the quote is that ends a string, and whether something is escaped in it; nil where none does. Counted from 0.
local function string_end(bytes, at, length)
  local escaped = false
  while true do
    at = at + tonumber(strcspn(bytes + at, IN_STRING))
    if at >= length or bytes[at] == 0 then return nil end
    if bytes[at] == QUOTE then return at, escaped end
    escaped = true
    at = at + 2
    if at > length then return nil end
  end
end

-- Where the next byte is that is no blank; the text ends with a zero, which is none.
local function past_blanks(bytes, at)
  while bytes[at] == 32 or (bytes[at] >= 9 and bytes[at] <= 13) do at = at + 1 end
  return at
end

-- Whether the bytes from `at` on are UTF-8 (RFC 3629): Triton takes any.
local function is_utf8(bytes, at, stop)
  while at < stop do
    local one = bytes[at]
    local more = one < 128 and 0 or one < 194 and -1 or one < 224 and 1 or one < 240 and 2 or one < 245 and 3 or -1
    if more < 0 or at + more >= stop then return false end
    if more > 1 then -- neither longer than it needs to be, nor half of a pair, nor beyond U+10FFFF
      local two = bytes[at + 1]
      if (one == 224 and two < 160) or (one == 237 and two > 159) then return false end
      if (one == 240 and two < 144) or (one == 244 and two > 143) then return false end
    end
    for next = at + 1, at + more do
      if bytes[next] < 128 or bytes[next] > 191 then return false end
    end
    at = at + more + 1
  end
  return true
end

-- A list of whole numbers; nil for anything else.
local function shape_of(text)
  local shape = {}
  if text:find("^%s*$") then return shape end
  for part in (text .. ","):gmatch("([^,]*),") do
    local number = part:match("^%s*(%-?%d+)%s*$")
    if not number or #shape >= RANK_MOST then return nil end
    shape[#shape + 1] = tonumber(number)
  end
  return shape
end

-- What is remembered while a request's JSON is read: `key` is the last name of a field at each depth that matters.
local function named(state, name, depth, escaped)
  if escaped then return "the name of a field holds an escape" end
  if name:find("shared_memory", 1, true) then return SHARED end
  if depth == 1 then
    if name == "inputs" and state.given then return "the inputs are given twice" end
    state.given = state.given or name == "inputs"
    state.in_inputs = name == "inputs"
  elseif depth == 3 then
    state.key = name
  end
end

local function given(state, text, escaped)
  local current, key = state.current, state.key
  if not (state.in_inputs and current and (key == "name" or key == "datatype")) then return nil end
  if escaped then return "the " .. key .. " of an input holds an escape" end
  if current[key] then return TWICE:format(key) end
  current[key] = text
end

-- A list or object that begins; gives where to go on when it was read as a whole.
local function opened(state, text, at, depth, is_object)
  if not state.in_inputs then return nil end
  if depth == 3 and is_object then
    if #state.inputs >= TENSORS_MOST then return nil, "there are too many inputs" end
    state.current, state.key = {}, nil
    state.inputs[#state.inputs + 1] = state.current
  elseif depth == 4 and not is_object and state.key == "shape" and state.current then
    if state.current.shape then return nil, TWICE:format("shape") end
    local stop = text:find("]", at + 1, true)
    state.current.shape = stop and shape_of(text:sub(at + 2, stop - 1))
    if not state.current.shape then return nil, "a shape is a list of at most " .. RANK_MOST .. " whole numbers" end
    return stop - 1
  end
end

-- The inputs that a JSON request describes; or nil and why it is refused. It is not a parser: what is no JSON at all is
-- left to Triton, which refuses it. Names are compared as they stand, so none that counts may hold an escape.
local function scan(text, depth_most)
  local bytes, length = ffi.cast("const uint8_t *", text), #text
  local at, depth, why, stop, escaped = past_blanks(bytes, 0), 0, nil, nil, nil
  if bytes[at] ~= OPEN_OBJECT then return nil, "the request is no JSON object" end
  local state = { inputs = {} }
  while at < length do
    local one = bytes[at]
    if one == QUOTE then
      stop, escaped = string_end(bytes, at + 1, length)
      if not stop then return nil, "a string does not end" end
      if not is_utf8(bytes, at + 1, stop) then return nil, "the JSON is not UTF-8" end
      if depth <= 4 then
        if bytes[past_blanks(bytes, stop + 1)] == COLON then
          why = named(state, text:sub(at + 2, stop), depth, escaped)
        elseif depth == 3 then
          why = given(state, text:sub(at + 2, stop), escaped)
        end
      end
      at = stop
    elseif one == OPEN_OBJECT or one == OPEN_LIST then
      depth = depth + 1
      if depth > depth_most then return nil, "the JSON is nested deeper than " .. depth_most end
      if depth == 3 or depth == 4 then
        stop, why = opened(state, text, at, depth, one == OPEN_OBJECT)
        if stop then at, depth = stop, depth - 1 end
      end
    elseif one == CLOSE_OBJECT or one == CLOSE_LIST then
      depth = depth - 1
      if depth == 2 then state.current = nil end
      if depth == 0 then break end
    else
      return nil, one == 0 and "the JSON holds a byte that is zero" or "NaN and Infinity are no JSON: send the data raw"
    end
    if why then return nil, why end
    at = at + 1
    at = at + tonumber(strcspn(bytes + at, MARKS))
  end
  if depth ~= 0 then return nil, "the JSON does not end" end
  if past_blanks(bytes, at + 1) ~= length then return nil, "there is something behind the JSON" end
  return state.inputs
end

-- The JSON in front of a body, or all of it; nil and why it cannot be.
local function json_part(handle, body)
  local size = handle:headers():get("inference-header-content-length")
  if not size then return body:getBytes(0, body:length()), 0 end
  local count = size:match("^%d+$") and #size <= 10 and tonumber(size) or -1
  if count < 0 then return nil, "Inference-Header-Content-Length is not a number of bytes: " .. size:sub(1, 20) end
  if count > body:length() then return nil, "Inference-Header-Content-Length is larger than the body" end
  return count == 0 and "" or body:getBytes(0, count), count
end

-- --------------------------------------------------------------------------------------------------------- checks

local function words(shape)
  local said = {}
  for index, dim in ipairs(shape) do said[index] = math.abs(dim) < 2 ^ 53 and ("%d"):format(dim) or "out of range" end
  return "[" .. table.concat(said, ",") .. "]"
end

local function expected(spec, model)
  local shape = {}
  if model.batch > 0 then shape[1] = "1 to " .. model.batch end
  for _, dim in ipairs(spec.dims) do shape[#shape + 1] = dim < 0 and "any" or tostring(dim) end
  return "[" .. table.concat(shape, ",") .. "]"
end

-- The elements of an input; nil where it cannot have this shape.
local function elements_of(shape, spec, model)
  local first, elements = model.batch > 0 and 1 or 0, 1
  if #shape ~= #spec.dims + first or (first == 1 and shape[1] > model.batch) then return nil end
  for _, dim in ipairs(shape) do
    if dim < 1 or dim > DIM_MOST then return nil end
    elements = elements * dim
  end
  for index, dim in ipairs(spec.dims) do
    if dim >= 0 and shape[index + first] ~= dim then return nil end
  end
  return elements
end

-- How many rows and elements the inputs have; or nil and why they are not the model's.
local function checked(inputs, model)
  local seen, rows, all = {}, 1, 0
  for _, tensor in ipairs(inputs) do
    local name = tensor.name
    if not name then return nil, "an input has no name" end
    local spec = model.inputs[name]
    if not spec then return nil, "input '" .. name:sub(1, 63) .. "' is none of the model's: " .. model.names end
    if seen[name] then return nil, "input '" .. name .. "' is given twice" end
    seen[name] = true
    if tensor.datatype ~= spec.datatype then
      return nil, "input '" .. name .. "' is " .. spec.datatype .. ", not " .. tostring(tensor.datatype):sub(1, 20)
    end
    if not tensor.shape then return nil, "input '" .. name .. "' has no shape" end
    local elements = elements_of(tensor.shape, spec, model)
    if not elements then
      return nil, "input '" .. name .. "' has the shape " .. expected(spec, model) .. ", not " .. words(tensor.shape):sub(1, 80)
    end
    all = all + elements
    if model.batch > 0 then rows = tensor.shape[1] end
  end
  for name, spec in pairs(model.inputs) do
    if not seen[name] and not spec.optional then return nil, "input '" .. name .. "' is missing" end
  end
  return { rows = rows, elements = all, model = model }
end

-- The same of a request's JSON. Where the data is binary the JSON only describes it, in the same few words each time: what
-- was found about those is kept.
local KNOWN_MOST, KNOWN_BYTES = 256, 1024
local known, known_count = {}, 0
local function checked_json(text, model, is_header)
  local found = known[text]
  if found and found.model == model then return found end
  local inputs, why = scan(text, DATA.depth)
  if not inputs then return nil, why end
  found, why = checked(inputs, model)
  if found and is_header and #text <= KNOWN_BYTES then
    if known_count >= KNOWN_MOST then known, known_count = {}, 0 end
    known[text], known_count = found, known_count + 1
  end
  return found, why
end

-- An element takes at least a byte: shapes for more than the body holds would make Triton take the memory before it sees that.
local TOO_FEW = "what is described has more elements than the request has bytes: %.0f"

-- ------------------------------------------------------------------------------------------------------ the answer

-- A number in [0, 100) that is the same for the same word.
local function share_of(word)
  local hash = 5381
  for index = 1, #word do hash = (hash * 33 + word:byte(index)) % 4294967296 end
  hash = (hash * 2654435 + 12345) % 4294967296
  return hash % 10000 / 100
end

-- The version that a call without one goes to: by the model's route, or Triton's own choice ("").
local function routed(model, tenant, headers)
  local route = model.route
  if not route then return "" end
  local at
  if route.by_tenant then at = share_of(tenant)
  elseif route.by_header then
    local value = headers:get(route.by_header)
    at = value and share_of(value)
  end
  at = at or math.random() * 100
  for _, share in ipairs(route.shares) do
    if at < share.below then return share.version end
  end
  return route.shares[#route.shares].version
end

local function tail_of(asked)
  if asked.kind == "infer" then return "/infer" end
  return asked.kind == "ready" and "/ready" or ""
end

local function upstream_path(asked, version)
  return "/v2/models/" .. asked.model .. (version == "" and "" or "/versions/" .. version) .. tail_of(asked)
end

-- The message with another version: of a field that is there twice the last one counts, and ours comes last.
local function with_version(body, version)
  local message = body:getBytes(5, body:length() - 5) .. "\18" .. string.char(#version) .. version
  local size = #message
  return string.char(0, math.floor(size / 16777216) % 256, math.floor(size / 65536) % 256,
                     math.floor(size / 256) % 256, size % 256) .. message
end

-- The same request to a second version; its answer is not waited for, and reaches nobody. The time is longer than any run
-- lasts: a call over gRPC that is cancelled may end Triton.
local COPY_MS = 150000
local function shadow(handle, asked, body, version, grpc)
  local headers = { [":method"] = "POST", [":authority"] = "shadow" }
  local copied = { "content-type", "inference-header-content-length", "te" }
  for _, name in ipairs(copied) do headers[name] = handle:headers():get(name) end
  headers[":path"] = grpc and handle:headers():get(":path") or upstream_path(asked, version)
  local content = grpc and with_version(body, version) or body:getBytes(0, body:length())
  handle:httpCall(grpc and "shadow_grpc" or "shadow_http", headers, content, COPY_MS, true)
end

local function strip(headers)
  local gone
  for name in pairs(headers) do
    if not KEPT[name] and name:byte() ~= COLON then
      gone = gone or {}
      gone[#gone + 1] = name
    end
  end
  if gone then
    for _, name in ipairs(gone) do headers:remove(name) end
  end
end

-- Remember a request whose answer is captured too; of those that never got one, only a few are kept.
local function remember(handle, asked, body, version, header)
  local id = handle:headers():get("x-request-id")
  if not id then return end
  turn = turn % PENDING_MOST + 1
  local oldest = turns[turn]
  if oldest and pending[oldest] then pending[oldest], pending_count = nil, pending_count - 1 end
  turns[turn], pending_count = id, pending_count + 1
  pending[id] = { model = asked.model, version = version, content = body:getBytes(0, body:length()), json = header }
  handle:streamInfo():dynamicMetadata():set(MARK, "captured", id)
end

local function allowed(claims, model)
  for _, name in ipairs(claims.models or {}) do
    if name == "*" or name == model then return true end
  end
  return false
end

local function note(handle, key, value) handle:streamInfo():dynamicMetadata():set(MARK, key, value) end

-- What is asked for over gRPC, and the body; or nil, why it is refused, and in which words.
local function asked_by_grpc(handle, headers, content_type)
  if not (content_type .. ";"):find("^application/grpc;") and not (content_type .. ";"):find("^application/grpc%+proto;") then
    return nil, "unsupported", "of gRPC only application/grpc is taken"
  end
  local method = (headers:get(":path") or ""):match("^/inference%.GRPCInferenceService/(%w+)$")
  if not method or not METHODS[method] or headers:get(":method") ~= "POST" then return nil, "not_found" end
  local body = handle:body()
  local asked = asked_by_message(body, method)
  if asked.code then return nil, asked.code, asked.text end
  return asked, body
end

-- The same over HTTP.
local function asked_by_http(handle, headers)
  local asked = asked_by_path(headers:get(":method"), headers:get(":path") or "")
  if not asked then return nil, "not_found" end
  local body = handle:body()
  if (body ~= nil and body:length() > 0) ~= (asked.kind == "infer") then
    return nil, "bad_request", asked.kind == "infer" and "the request has no body" or "the request has a body"
  end
  return asked, body
end

local function encoded(headers, grpc)
  local by = headers:get(grpc and "grpc-encoding" or "content-encoding")
  return by ~= nil and by ~= "identity"
end

-- An OpenAPI document whose paths are those of the documents of the models that a key allows.
local function index_of(claims)
  local names, paths = {}, {}
  for name in pairs(DATA.models) do
    if allowed(claims, name) then names[#names + 1] = name end
  end
  table.sort(names)
  for index, name in ipairs(names) do
    paths[index] = ('"/v2/models/%s/infer":{"$ref":"models/%s/openapi.json#/paths/~1v2~1models~1%s~1infer"}')
      :format(name, name, name)
  end
  return '{"openapi":"3.1.0","info":{"title":"Models","version":"1","description":"What this key allows; each path '
    .. 'leads to the document of its model."},"paths":{' .. table.concat(paths, ",") .. "}}"
end

-- What a model says of itself: a small file that the gateway has written (documents.py), in Envoy's working folder.
local function describe(handle, claims, name)
  local text
  if name then
    if not allowed(claims, name) then return refuse(handle, "forbidden") end
    local file = DATA.models[name] and io.open("openapi/" .. name .. ".json", "rb")
    if not file then return refuse(handle, "not_found", "there is no model '" .. name:sub(1, 63) .. "'") end
    text = file:read("*a")
    file:close()
    note(handle, "model", name)
  else
    text = index_of(claims)
  end
  handle:respond({ [":status"] = "200", ["content-type"] = "application/json" }, text)
end

-- What Envoy hands out (headers, metadata) holds only until the next wait, which `body` is: it is asked for anew after it.
function envoy_on_request(handle)
  local headers = handle:headers()
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = found and found["claims"]
  if not claims or not claims.jti or DATA.revoked[claims.jti] then return refuse(handle, "forbidden") end
  local content_type = headers:get("content-type") or ""
  local grpc = content_type:find("^application/grpc") ~= nil
  if encoded(headers, grpc) then return refuse(handle, "unsupported", "compressed requests are not taken") end
  local asked, body, words_of_it
  if grpc then asked, body, words_of_it = asked_by_grpc(handle, headers, content_type)
  else asked, body, words_of_it = asked_by_http(handle, headers) end
  if not asked then return refuse(handle, body, words_of_it) end
  note(handle, "kind", asked.kind)
  headers = handle:headers()
  if asked.kind == "server" then
    strip(headers)
    if not grpc then headers:replace(":path", asked.path) end
    headers:replace(PASS, DATA.secret)
    return
  end
  if asked.kind == "openapi" then return describe(handle, claims, asked.model) end
  if not allowed(claims, asked.model) then return refuse(handle, "forbidden") end
  local model = DATA.models[asked.model]
  if not model then return refuse(handle, "not_found", "there is no model '" .. asked.model:sub(1, 63) .. "'") end
  local version = asked.version
  if version ~= "" and not version:match("^[1-9]%d*$") then
    version = model.aliases[version]
    if not version then return refuse(handle, "not_found", "the model has no version '" .. asked.version:sub(1, 63) .. "'") end
  elseif version == "" then
    version = routed(model, claims.sub, headers)
  end
  note(handle, "model", asked.model)
  note(handle, "version", version)
  local header
  if asked.kind == "infer" then
    local most = DATA.bodies[claims.sub]
    if most and body:length() > most then return refuse(handle, "too_large", "the request is larger than " .. most .. " bytes") end
    local described, why
    if grpc then
      described, why = checked(asked.inputs, model)
    else
      local text
      text, header = json_part(handle, body)
      if not text then return refuse(handle, "bad_request", header) end
      described, why = checked_json(text, model, header > 0)
    end
    if described and described.elements > body:length() then why = TOO_FEW:format(described.elements) end
    if why then return refuse(handle, "bad_request", why) end
    note(handle, "inferences", described.rows)
    if model.shadow and model.shadow ~= version then shadow(handle, asked, body, model.shadow, grpc) end
    if model.capture and math.random() < model.capture then remember(handle, asked, body, version, header or 0) end
  end
  headers = handle:headers()
  strip(headers)
  if not grpc then
    headers:replace(":path", upstream_path(asked, version))
    if body then headers:replace("content-length", tostring(body:length())) end -- never in chunks
  elseif version ~= asked.version then
    headers:replace("content-length", tostring(body:setBytes(with_version(body, version))))
  end
  if asked.kind == "infer" then
    note(handle, "passed", "1") -- it counts for the quota, unless that is used up
    local turnstile = DATA.turnstiles[claims.sub]
    if turnstile then
      note(handle, "turnstile", "1")
      headers:replace("x-modelport-turnstile", turnstile)
    end
  end
  headers:replace(PASS, DATA.secret)
end

-- ---------------------------------------------------------------------------------------------------- the way back

local OURS = { ["500"] = "internal", ["501"] = "internal", ["502"] = "unavailable", ["503"] = "overloaded",
               ["504"] = "timeout" }
local GRPC_OURS = { ["4"] = "timeout", ["8"] = "overloaded", ["14"] = "overloaded" }
local GRPC_KEPT = { ["3"] = "bad_request", ["5"] = "not_found" } -- whose text says what is wrong with the request

local function replace_body(handle, text)
  handle:body(true):setBytes(text)
  handle:headers():replace("content-type", "application/json")
  handle:headers():replace("content-length", tostring(#text))
  handle:headers():remove("inference-header-content-length")
end

-- The bytes of an answer, which goes on to its caller meanwhile; nil for one that is too large to be kept.
local function answer_of(handle, failed)
  if failed then
    local body = handle:body(true)
    return body:length() == 0 and "" or body:getBytes(0, body:length())
  end
  local pieces, size = {}, 0
  for chunk in handle:bodyChunks() do
    size = size + chunk:length()
    if size > CAPTURED_MOST then return nil end
    if chunk:length() > 0 then pieces[#pieces + 1] = chunk:getBytes(0, chunk:length()) end
  end
  return table.concat(pieces)
end

local function capture(handle, kept, status, grpc)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local about = {
    [":method"] = "POST", [":path"] = "/", [":authority"] = "capture",
    ["x-model"] = kept.model, ["x-version"] = kept.version, ["x-tenant"] = found["claims"].sub,
    ["x-protocol"] = grpc and "grpc" or "http",
    ["x-status"] = status, ["x-request-length"] = tostring(#kept.content), ["x-request-json"] = tostring(kept.json),
    ["x-answer-json"] = handle:headers():get("inference-header-content-length") or "0",
  }
  local answer = answer_of(handle, not grpc and status ~= "200")
  if answer then handle:httpCall("capture", about, kept.content .. answer, 1000, true) end
end

-- The words of a failure over gRPC, in headers or in trailers.
local function grpc_words(headers)
  local status = headers:get("grpc-status")
  if not status or status == "0" then return end
  if status == "13" and headers:get("grpc-message") == "Unable to parse request" then
    status = GRPC_STATUS.bad_request
    headers:replace("grpc-status", status)
    headers:replace("grpc-message", "the message cannot be read")
  end
  if status == "8" then headers:replace("grpc-status", GRPC_STATUS.overloaded) end -- a server's limit, no tenant's
  local code = GRPC_KEPT[status] or GRPC_OURS[status] or "internal"
  if not GRPC_KEPT[status] then headers:replace("grpc-message", TEXT[code]) end
  headers:remove("grpc-status-details-bin")
  headers:replace("modelport-code", code)
end

-- Triton answers 500 where a request's JSON cannot be read. Only words that it writes itself are taken for that.
local function callers_fault(said)
  local why = said:match("^failed to parse the request JSON buffer: ([%a '%]},]+%. at %d+)$")
  if why then return "the JSON cannot be read: " .. why end
  local field, what = said:match("^Unable to parse '([%l_]+)': ([%a '-]+)$")
  return field and ("the field '" .. field .. "' cannot be read: " .. what)
end

-- The words of a failure over HTTP: what is wrong with the request is Triton's to say, what is wrong behind it is not.
local function http_words(handle, status)
  local body = handle:body(true)
  local text = body:length() > 0 and body:getBytes(0, math.min(2048, body:length())) or ""
  local said = text:match('^%s*{"error":"(.*)"}%s*$')
  local fault = status == "500" and said and callers_fault(said)
  if fault then
    status, said = "400", fault
    handle:headers():replace(":status", status)
  elseif status == "429" then -- a server's limit, no tenant's
    status = "503"
    handle:headers():replace(":status", status)
  end
  local code = status == "404" and "not_found" or "bad_request"
  if status == "503" then handle:headers():replace("retry-after", "1") end
  if tonumber(status) >= 500 then
    code = OURS[status] or "internal"
    said = TEXT[code]
  end
  replace_body(handle, '{"code":"' .. code .. '","error":"' .. (said or "the request is refused") .. '"}')
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("x-modelport-local") then -- Envoy's answer or ours: it is as it should be
    headers:remove("x-modelport-local")
    if headers:get("www-authenticate") then headers:replace("www-authenticate", 'Bearer realm="modelport"') end
    local said = headers:get("grpc-message") -- the JSON of a refusal: over gRPC its text is the message, its code a header
    if said then
      local code = said:match('"code":"([%w_]+)"') or "internal"
      headers:replace("modelport-code", code)
      headers:replace("grpc-message", ((said:match('"error":"(.*)"') or said):gsub("\\(.)", "%1")))
      if GRPC_STATUS[code] then headers:replace("grpc-status", GRPC_STATUS[code]) end
    end
    if headers:get("x-modelport-rate") then -- less than one request a second: the next one comes later
      headers:remove("x-modelport-rate")
      local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
      local wait_s = found and found["claims"] and DATA.waits[found["claims"].sub]
      if wait_s then headers:replace("retry-after", tostring(wait_s)) end
    end
    if headers:get("x-modelport-quota") then
      headers:replace("retry-after", tostring(86400 - os.time() % 86400))
      headers:remove("x-modelport-quota")
      if said then
        headers:replace("modelport-code", "quota_exceeded")
        headers:replace("grpc-message", TEXT.quota)
      else
        replace_body(handle, '{"code":"quota_exceeded","error":"' .. TEXT.quota .. '"}')
      end
    end
    return
  end
  local status, grpc = headers:get(":status"), (headers:get("content-type") or ""):find("^application/grpc") ~= nil
  if grpc then
    grpc_words(headers)
  elseif tonumber(status) >= 400 then
    http_words(handle, status)
  end
  local info = pending_count > 0 and handle:streamInfo():dynamicMetadata():get(MARK)
  if info and info["captured"] then
    local kept = pending[info["captured"]]
    pending[info["captured"]] = nil
    if kept then
      pending_count = pending_count - 1
      capture(handle, kept, handle:headers():get(":status"), grpc)
    end
  end
  if grpc then
    local trailers = handle:trailers()
    if trailers then grpc_words(trailers) end
  end
end
