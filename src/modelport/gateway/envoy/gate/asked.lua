-- What a request asks for: a path over HTTP, or a message over gRPC.

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
